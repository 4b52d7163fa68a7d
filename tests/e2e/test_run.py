"""`gpuyard run`: a script, a command or a spec file goes in; output and exit code come back."""

from __future__ import annotations

import re

import pytest

from .conftest import Yard
from .shell import Shell

GENERATED = re.compile(r"Submitted (\S+)")


def test_a_script_with_its_own_options(target: Shell) -> None:
    target.script("train.py", "import sys\nprint('argv', sys.argv[1:])\nprint('to stderr', file=sys.stderr)")
    result = target.call("run", "train.py", "--gpus", "2", "--", "--epochs", "3", "-d")
    assert result.code == 0
    assert sorted(result.out.splitlines()) == ["argv ['--epochs', '3', '-d']", "to stderr"]
    name = GENERATED.search(result.err)
    assert name and re.fullmatch(r"train-[a-z0-9]{5}", name[1])
    assert result.err.splitlines()[-1] == f"{name[1]} succeeded"
    assert target.state(name[1])["gpus"] == 2


def test_a_command_is_not_seen_by_any_shell(target: Shell) -> None:
    assert (
        target.ok("run", "--", "printf", "%s\\n", "a b", "$HOME", "$(PATH)", "*")
        == "a b\n$HOME\n$(PATH)\n*\n"
    )


def test_the_interpreter_is_the_virtual_environment_s(yard: Yard) -> None:
    own = yard.work / "venv/bin"
    own.mkdir(parents=True)
    python = own / "python"
    python.write_text('#!/bin/sh\necho "ours: $*"\n')
    python.chmod(0o755)
    yard.script("train.py", "")
    shell = {"VIRTUAL_ENV": str(own.parent)}
    assert yard.ok("run", "train.py", env=shell) == "ours: train.py\n"
    yard.script("which.py", "import sys; print(sys.executable)")
    assert yard.ok("run", "--python", "/usr/bin/python3", "which.py", env=shell).startswith(
        "/usr/bin/python3"
    )


@pytest.mark.parametrize(("word", "value"), [("high", 1000), ("gpuyard-low", -1000)])
def test_the_priorities_of_an_install_are_there(yard: Yard, word: str, value: int) -> None:
    yard.ok("run", "-n", word, "--priority", word, "--", "true")
    named = yard.state(word)["priority"]
    assert named == f"gpuyard-{word.removeprefix('gpuyard-')}"
    assert yard.api("GET", f"/apis/scheduling.k8s.io/v1/priorityclasses/{named}")["value"] == value


def test_the_workdir_is_used_in_place(yard: Yard) -> None:
    (yard.work / "sub").mkdir()
    yard.ok("run", "--workdir", "sub", "--", "sh", "-c", "pwd > here")
    assert (yard.work / "sub/here").read_text() == f"{yard.work}/sub\n"


SPEC = """
name: from-file
resources:
  gpus: 1
  shm: 32Mi
workdir: job
env:
  EPOCHS: 1e-3
  MODE: on
  FROM_SHELL:
  UNTOUCHED: $HOME
run: |
  echo "$EPOCHS $MODE $FROM_SHELL $UNTOUCHED"
  echo "$CUDA_VISIBLE_DEVICES" | tr , '\\n' | wc -l
  pwd
"""


def test_a_spec_file_and_flags_that_win_over_it(yard: Yard) -> None:
    (yard.work / "job").mkdir()
    yard.script("gpuyard.yaml", SPEC)
    result = yard.call(
        "run", "-f", "gpuyard.yaml", "--gpus", "H100:2", "--env", "EPOCHS=3", "-n", "mine",
        env={"FROM_SHELL": "shell's"},
    )  # fmt: skip
    assert (result.code, result.out) == (0, f"3 on shell's $HOME\n2\n{yard.work}/job\n"), result
    found = yard.state("mine")
    assert (found["state"], found["gpus"]) == ("succeeded", 2)
    env = {"FROM_SHELL": ""}
    assert yard.ok("run", "-f", "gpuyard.yaml", env=env).splitlines()[:2] == ["1e-3 on  $HOME", "1"]
    assert yard.state("from-file")["state"] == "succeeded"


@pytest.mark.parametrize(
    ("command", "code", "reason", "says"),
    [
        ("exit 3", 3, "ExitCode", "failed: exited with 3"),
        ("exit 125", 125, "ExitCode", "failed: exited with 125"),
        ("exit 255", 255, "ExitCode", "failed: exited with 255"),
        ("kill -TERM $$", 143, "Signal", "failed: ended by SIGTERM"),
        ("kill -KILL $$", 137, "Signal", "failed: ended by SIGKILL"),
        ("kill -SEGV $$", 139, "Signal", "failed: ended by SIGSEGV"),
    ],
)
def test_exit_codes(target: Shell, command: str, code: int, reason: str, says: str) -> None:
    result = target.call("run", "-n", "code", "--", "sh", "-c", command)
    assert result.code == code
    assert f"code {says}" in result.err.splitlines()[-1]
    found = target.state("code")
    assert (found["exit_code"], found["reason"]) == (code, reason)


def test_a_program_that_is_not_there_ends_as_a_shell_would(yard: Yard) -> None:
    yard.script("tool", "#!/no/such/interpreter\n").chmod(0o755)
    result = yard.call("run", "-n", "typo", "./tool")
    assert result.code == 127
    assert "/no/such/interpreter" in result.err
    assert yard.state("typo")["reason"] == "StartError"


def test_a_module_that_is_not_there_names_the_interpreter(yard: Yard) -> None:
    yard.script("train.py", "import no_such_module")
    result = yard.call("run", "-n", "lost", "--gpus", "1", "--python", "/usr/bin/python3", "train.py")
    assert result.code == 1
    assert "Submitted lost (1 GPU, simulated)\n" in result.err
    assert "no_such_module isn't installed for /usr/bin/python3: install it" in result.err
    for command in ("explain", "show"):
        assert "no_such_module isn't installed for /usr/bin/python3" in yard.ok(command, "lost")


def test_what_is_piped_in_is_said_to_stay_outside(target: Shell) -> None:
    target.script("data", "text")
    done = target.bash("$GPUYARD < data", "run", "-n", "piped", "--", "cat")
    assert (done.returncode, done.stdout) == (0, "")
    assert "standard input isn't passed on" in done.stderr


def test_with_retries_the_last_attempt_counts(yard: Yard) -> None:
    count = 'n=$(cat tries 2>/dev/null || echo 0); echo $((n+1)) > tries; echo "attempt $n"; '
    result = yard.call("run", "-n", "thrice", "--retries", "2", "--", "sh", "-c", count + "exit $((n+10))")
    assert (result.code, result.out) == (12, "attempt 0\nattempt 1\nattempt 2\n")
    assert "── attempt 3 ──" in result.err
    assert [attempt["exit_code"] for attempt in yard.state("thrice")["attempts"]] == [10, 11, 12]
    (yard.work / "tries").unlink()
    result = yard.call("run", "-n", "second", "--retries", "5", "--", "sh", "-c", count + "[ $n = 1 ]")
    assert (result.code, result.out) == (0, "attempt 0\nattempt 1\n")
    assert yard.state("second")["exit_code"] == 0


def test_each_attempt_has_its_output_and_its_exit_code(target: Shell) -> None:
    result = target.call("run", "-n", "twice", "--retries", "1", "--", "sh", "-c", "echo try; exit 3")
    assert (result.code, result.out) == (3, "try\ntry\n")
    assert "── attempt 2 ──" in result.err
    assert target.ok("logs", "twice") == "try\ntry\n"
    assert target.ok("logs", "--tail", "1", "twice") == "try\n"
    assert [attempt["exit_code"] for attempt in target.state("twice")["attempts"]] == [3, 3]


SHORT_SPEC = """
name: from-file
resources:
  gpus: 1
  shm: 32Mi
workdir: /tmp
env:
  EPOCHS: 1e-3
  FROM_SHELL:
  UNTOUCHED: $HOME
run: |
  echo "$EPOCHS $FROM_SHELL $UNTOUCHED $SECRET_OF_THE_SHELL"
  echo "$CUDA_VISIBLE_DEVICES" | tr , '\\n' | wc -l
  pwd
"""


def test_a_spec_file_says_what_runs_wherever_that_is(target: Shell) -> None:
    target.script("gpuyard.yaml", SHORT_SPEC)
    result = target.call("run", "-f", "gpuyard.yaml", "--gpus", "H100:2", env={"FROM_SHELL": "shell's"})
    assert (result.code, result.out) == (0, "1e-3 shell's $HOME \n2\n/tmp\n"), result
    assert target.state("from-file")["state"] == "succeeded"


def test_detached_it_returns_at_once(target: Shell) -> None:
    result = target.call("run", "-d", "-n", "long", "--", "sleep", "600")
    assert (result.code, result.out) == (0, "")
    assert "gpuyard logs -f long" in result.err
    assert target.wait_for("long", "running")["exit_code"] is None


def test_output_for_machines_is_the_run_as_ps_lists_it(target: Shell) -> None:
    made = target.json("run", "-d", "-n", "listed", "--", "true")
    assert made["name"] == "listed"
    assert made.keys() == target.json("ps")[0].keys()


def test_a_taken_name_is_refused_and_can_be_replaced(target: Shell) -> None:
    target.background("taken", "--", "sh", "-c", "echo first; sleep 600")
    said = target.refused(2, "run", "-n", "taken", "--", "echo", "second")
    assert "'taken'" in said and "--replace" in said
    assert target.state("taken")["state"] == "running"
    assert target.ok("run", "--replace", "-n", "taken", "--", "echo", "second") == "second\n"
    assert target.ok("logs", "taken") == "second\n"
    assert [run["name"] for run in target.json("ps")] == ["taken"]


def test_replacing_a_name_that_is_free_is_fine(target: Shell) -> None:
    assert target.ok("run", "--replace", "-n", "free", "--", "echo", "hi") == "hi\n"


def test_more_than_any_node_has_is_refused_with_the_numbers(target: Shell) -> None:
    said = target.refused(2, "run", "-n", "huge", "--gpus", "9", "--", "true")
    assert ": 8 GPUs, needs 9\n" in said
    assert "--wait" in said
    said = target.refused(2, "run", "--gpus", "A100:1", "--", "true")
    assert "A100" in said and "H100" in said
    said = target.refused(2, "run", "--cpus", "1000", "--", "true")
    assert "1000" in said and "cpu" in said.lower()
    assert target.json("ps") == []


def test_wait_submits_what_can_not_run_yet(target: Shell) -> None:
    target.ok("run", "-d", "--wait", "-n", "huge", "--gpus", "9", "--", "true")
    assert target.wait_for("huge", "pending")["state"] == "pending"


def test_run_starts_the_yard(stopped_yard: Yard) -> None:
    result = stopped_yard.call("run", "--", "echo", "hello")
    assert (result.code, result.out) == (0, "hello\n")
    assert stopped_yard.status()["gpus"]["capacity"] == 0
    said = stopped_yard.refused(2, "run", "--gpus", "1", "--", "true")
    assert "no GPUs" in said and "--simulate" in said


def test_output_arrives_as_it_was_written(target: Shell) -> None:
    said = "".join(chr(code) for code in range(128) if chr(code) != "\r") + "ü without a newline"
    target.script("raw.py", f"import sys; sys.stdout.buffer.write({said!r}.encode())")
    assert target.ok("run", "raw.py") == said


def test_much_output_arrives_whole(target: Shell) -> None:
    numbers = [str(number) for number in range(1, target.many + 1)]
    assert target.ok("run", "-n", "much", "--", "seq", str(target.many)).splitlines() == numbers
    assert target.ok("logs", "much").splitlines() == numbers
