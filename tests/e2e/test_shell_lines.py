"""Lines of shell in `run:`, and in quotes on the command line: whose syntax they have, and when they fail."""

from __future__ import annotations

import shlex

import pytest

from .conftest import Yard

_ENDS_WITH_3 = "import sys\nprint('before', flush=True)\nsys.exit(3)\n"
_SAVES = """
import signal, sys, time

def save(number, frame):
    print("saving", flush=True)
    with open("checkpoint", "w") as file:
        file.write("saved")
    print("saved", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["file", "file with a shell", "command line"])
def test_a_pipe_fails_as_its_first_part_does(yard: Yard, how: str) -> None:
    yard.script("train.py", _ENDS_WITH_3)
    line = "python train.py 2>&1 | tee out.log"
    if how == "command line":
        words = ["--shell", "bash", "--", line]
    else:
        chosen = "shell: bash\n" if how == "file with a shell" else ""
        yard.script("run.yaml", f"{chosen}run: {line}\n")
        words = ["-f", "run.yaml"]
    done = yard.call("run", "-n", "piped", *words)
    assert (done.code, done.out) == (3, "before\n"), done
    assert (yard.work / "out.log").read_text() == "before\n"
    assert yard.state("piped")["state"] == "failed"


def test_bash_runs_a_line_and_sh_where_it_is_chosen(yard: Yard) -> None:
    yard.script("values.sh", "VALUE=5\n")
    yard.script(
        "bash.yaml", "run: |\n  set -o pipefail\n  source ./values.sh\n  [[ $VALUE == 5 ]]\n  echo {1..3}\n"
    )
    assert yard.ok("run", "-f", "bash.yaml") == "1 2 3\n"
    assert yard.ok("run", "--shell", "sh", "--", "echo {1..3}") == "{1..3}\n"
    assert yard.ok("run", "--shell", "bash -u", "--", "false; echo on") == "on\n"
    assert yard.call("run", "--shell", "bash", "--", "false; echo on").code == 1


def test_a_shell_that_is_not_there_is_told_before_the_submit(yard: Yard) -> None:
    for shell, says in (
        ("no-such-shell", "no program no-such-shell"),
        ("/bin/no-such", "/bin/no-such isn't"),
    ):
        done = yard.call("run", "--shell", shell, "--", "echo a | cat")
        assert done.code == 2
        assert says in done.err
    done = yard.call("run", "--shell", "bash", "--", "echo", "a")
    assert done.code == 2
    assert "no shell runs a list of words" in done.err


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_program_before_tee_saves_when_its_run_is_stopped(yard: Yard, shell: str) -> None:
    yard.script("train.py", _SAVES)
    line = f"python train.py 2>&1 | tee {shlex.quote('out.log')}"
    yard.ok("run", "-d", "-n", "saver", "--shell", shell, "--", line)
    yard.wait_for_line("saver", "ready")
    yard.ok("stop", "saver")
    assert (yard.work / "checkpoint").read_text() == "saved"
    assert (yard.work / "out.log").read_text() == yard.ok("logs", "saver") == "ready\nsaving\nsaved\n"
