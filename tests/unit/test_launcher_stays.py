"""The launcher as the first process of a container: in a PID namespace, and in one that is another's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from gpuyard import launcher
from tests.waiting import until

_ALONE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
if os.getuid():
    _ALONE[1:1] = ["--user", "--map-root-user"]
PYTHON = sys.executable

#: Saves for longer than anybody looks for processes, and prints meanwhile.
SAVES = """
import os, pathlib, signal, sys, time
def save(number, frame):
    for step in range(50):
        print("saving", step, flush=True)
        time.sleep(0.005)
    pathlib.Path("checkpoint").write_text("whole")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
os.write(1, b"up\\n")  # a handler that prints may come at once
while True:
    time.sleep(1)
"""
#: The launcher with other times than its own.
_LIMITED = """
import sys
from gpuyard import launcher
assert {limits}.keys() <= vars(launcher).keys()
vars(launcher).update({limits})
sys.exit(launcher.stay(lambda: launcher.main(sys.argv)))
"""
WHOLE = ["up", *(f"saving {step}" for step in range(50))]


class Started:
    """A launcher that is the first process of a container."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def printed(self) -> list[str]:
        """Its lines and its command's."""
        return self._log.read_text().splitlines()

    def send(self, number: signal.Signals) -> None:
        [pid] = _children(self.process.pid)
        os.kill(pid, number)

    def wait_for(self, line: str) -> None:
        until(lambda: self.printed, f"it prints {line!r}", lambda lines: line in lines)

    def ended(self) -> tuple[int, list[str]]:
        """The exit code, and what was printed."""
        return self.process.wait(60), self.printed


Start = Callable[..., Started]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(params=["process 1", "a first process beside another's process 1"])
def entered(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What goes before a command so that it is a container's first process."""
    if subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may make no PID namespace")
    if request.param == "process 1":
        yield _ALONE
        return
    # As where the containers of a pod share one namespace.
    with subprocess.Popen([*_ALONE, "sleep", "600"]) as pause:
        [pid] = until(lambda: _children(pause.pid), "there is a process 1")
        until(lambda: "sleep" in Path(f"/proc/{pid}/cmdline").read_text(), "its /proc is mounted")
        user = ["--user", "--preserve-credentials"] if os.getuid() else []
        yield ["nsenter", f"--target={pid}", *user, "--pid", "--mount"]
        pause.kill()


@pytest.fixture
def start(entered: list[str], tmp_path: Path) -> Iterator[Start]:
    started: list[Started] = []

    def start_one(
        *command: str, stdin: int = subprocess.DEVNULL, limits: Mapping[str, float] | None = None, **env: str
    ) -> Started:
        log = tmp_path / "output"
        by = ["-c", _LIMITED.format(limits=limits)] if limits else [launcher.__file__]
        # nsenter goes to the other's folder; a background job, as these tests may be, ignores SIGQUIT.
        there = ["env", f"--chdir={tmp_path}", "--default-signal", PYTHON, *by, "--", *command]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*entered, *there],
                cwd=tmp_path,
                env={"PATH": os.environ["PATH"], **env},
                stdin=stdin,
                stdout=output,
                stderr=output,
                text=True,
            )
        started.append(Started(process, log))
        return started[-1]

    (tmp_path / "train.py").write_text(SAVES)
    yield start_one
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize(
    "line",
    [
        "{python} train.py 2>&1 | tee log.txt",
        "({python} train.py; echo never) 2>&1 | tee log.txt; echo never",
        "sh -c '{python} train.py; echo never' | tee log.txt | cat",
    ],
)
def test_what_a_shell_started_saves_and_no_line_is_lost(
    start: Start, tmp_path: Path, shell: str, line: str
) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    run = start(shell, "-c", line.format(python=PYTHON))
    run.wait_for("up")
    run.send(signal.SIGTERM)
    assert run.ended() == (128 + signal.SIGTERM, WHOLE)
    assert (tmp_path / "log.txt").read_text().splitlines() == WHOLE
    assert (tmp_path / "checkpoint").read_text() == "whole"


def test_a_slow_reader_gets_to_its_end(start: Start) -> None:
    line = f"{PYTHON} train.py | while read line; do echo $line; sleep 0.01; done"
    run = start("bash", "-c", line)
    run.wait_for("up")
    run.send(signal.SIGTERM)
    assert run.ended() == (128 + signal.SIGTERM, WHOLE)


def test_a_further_stop_does_not_hurry_a_reader(start: Start) -> None:
    line = f"{PYTHON} train.py | while read line; do echo $line; sleep 0.01; done"
    run = start("bash", "-c", line)
    run.wait_for("up")
    run.send(signal.SIGTERM)
    run.wait_for("saving 35")  # its writer has long ended
    run.send(signal.SIGTERM)
    assert run.ended() == (128 + signal.SIGTERM, WHOLE)


#: Lives on after SIGINT, and ends of SIGTERM.
_OUTLIVES_INT = """
import os, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: print("INT", flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("TERM", flush=True)))
os.write(1, b"up\\n")  # a handler that prints may come at once
while True:
    time.sleep(1)
"""


def test_a_stop_while_it_waits_is_passed_on_to_what_is_left(start: Start, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(_OUTLIVES_INT)
    run = start("sh", "-c", f"{PYTHON} train.py & wait")
    run.wait_for("up")
    run.send(signal.SIGINT)
    run.wait_for("INT")
    run.send(signal.SIGTERM)
    assert run.ended() == (128 + signal.SIGINT, ["up", "INT", "TERM"])


def test_a_signal_that_stops_nothing_does_not_end_what_is_left(start: Start, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(_OUTLIVES_INT)
    run = start("sh", "-c", f"{PYTHON} train.py & wait")
    run.wait_for("up")
    run.send(signal.SIGINT)
    run.wait_for("INT")
    run.send(signal.SIGWINCH)
    run.send(signal.SIGINT)
    until(lambda: run.printed.count("INT"), "it is told again", lambda told: told == 2)
    run.send(signal.SIGTERM)
    assert run.ended() == (128 + signal.SIGINT, ["up", "INT", "INT", "TERM"])


#: Takes SIGINT for "save now", goes on, and ends by itself. Its helper ignores SIGINT, as a shell has it.
_GOES_ON = "trap 'echo checkpoint' INT; {helper} & echo up; while [ ! -e enough ]; do sleep 0.01; done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_what_ignores_the_stop_gets_sigterm(start: Start, number: signal.Signals, tmp_path: Path) -> None:
    line = _GOES_ON.format(helper="sleep 600").replace("INT", number.name[3:])
    run = start("sh", "-c", line)
    run.wait_for("up")
    run.send(number)
    run.wait_for("checkpoint")
    (tmp_path / "enough").touch()
    assert run.ended() == (0, ["up", "checkpoint"])


_IGNORES = "(trap '' INT TERM; sleep 600)"


def test_a_stop_that_the_command_outlived_is_none(start: Start, tmp_path: Path) -> None:
    """What it leaves is killed with the container, as if nobody had signalled it."""
    run = start("sh", "-c", _GOES_ON.format(helper=_IGNORES), limits={"_STOP_S": 0.0})
    run.wait_for("up")
    run.send(signal.SIGINT)
    run.wait_for("checkpoint")
    (tmp_path / "enough").touch()
    assert run.ended() == (0, ["up", "checkpoint"])


def test_a_stop_is_one_for_as_long_as_the_grace_is(start: Start, tmp_path: Path) -> None:
    helper = "(trap 'echo told; exit' TERM; while :; do sleep 0.01; done)"
    line = _GOES_ON.format(helper=helper)
    run = start("sh", "-c", line, limits={"_STOP_S": 0.0}, GPUYARD_GRACE_S="300")
    run.wait_for("up")
    run.send(signal.SIGINT)
    run.wait_for("checkpoint")
    (tmp_path / "enough").touch()
    assert run.ended() == (0, ["up", "checkpoint", "told"])


def test_who_dies_of_a_late_stop_was_stopped(start: Start, tmp_path: Path) -> None:
    run = start("bash", "-c", f"{PYTHON} train.py | tee log.txt", limits={"_STOP_S": 0.0})
    run.wait_for("up")
    run.send(signal.SIGTERM)
    assert run.ended() == (128 + signal.SIGTERM, WHOLE)


def test_what_outlives_the_stop_does_not_hold_the_container_for_ever(start: Start) -> None:
    run = start("sh", "-c", f"{_IGNORES} & echo up; wait", limits={"_LEFT_S": 0.1})
    run.wait_for("up")
    run.send(signal.SIGTERM)
    assert run.ended() == (128 + signal.SIGTERM, ["up"])


_WITH_WORKER = """
import os, signal, subprocess, sys, time
worker = subprocess.Popen(["sleep", "600"])
def save(*_):
    time.sleep(0.1)
    print("worker", worker.poll(), flush=True)
    os._exit(5)
signal.signal(signal.SIGTERM, save)
os.write(1, b"up\\n")  # a handler that prints may come at once
time.sleep(600)
"""


@pytest.mark.parametrize(("before", "code"), [("exec ", 5), ("", 128 + signal.SIGTERM)])
def test_workers_are_left_to_their_program(start: Start, tmp_path: Path, before: str, code: int) -> None:
    """It saves with their help. What it leaves behind is ended after it."""
    (tmp_path / "train.py").write_text(_WITH_WORKER)
    run = start("bash", "-c", f"{before}{PYTHON} train.py; exit 6")
    run.wait_for("up")
    run.send(signal.SIGTERM)
    assert run.ended() == (code, ["up", "worker None"])


def test_a_shell_s_own_handler_decides(start: Start) -> None:
    run = start("bash", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done")
    run.wait_for("up")
    run.send(signal.SIGTERM)
    assert run.ended() == (5, ["up", "bye"])


def test_every_signal_is_passed_on(start: Start) -> None:
    counts = "for n in USR1 USR2 HUP WINCH; do trap \"echo $n\" $n; done; trap 'echo INT; exit 3' INT; "
    run = start("bash", "-c", counts + "echo up; while :; do sleep 0.01; done")
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGWINCH, signal.SIGINT):
        run.wait_for("up")
        run.send(number)
        run.wait_for(number.name.removeprefix("SIG"))
    assert run.ended() == (3, ["up", "USR1", "USR2", "HUP", "WINCH", "INT"])


def test_a_command_without_a_handler_ends_at_once(start: Start) -> None:
    run = start(PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)")
    run.wait_for("up")
    run.send(signal.SIGTERM)
    assert run.ended() == (128 + signal.SIGTERM, ["up"])


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -KILL $$"), 128 + signal.SIGKILL),
        (("sh", "-c", "kill -SEGV $$"), 128 + signal.SIGSEGV),
        (("sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM),
        (("no-such-program",), 127),
        (("/dev/null",), 126),
        ((), launcher.EXIT_USAGE),
    ],
)
def test_the_exit_code_is_the_command_s(start: Start, command: tuple[str, ...], code: int) -> None:
    assert start(*command).ended()[0] == code


def test_gpus_are_checked_first(start: Start) -> None:
    code, printed = start("echo", "trained", GPUYARD_GPUS="1").ended()
    assert code == launcher.EXIT_UNFIT and "trained" not in printed


def test_a_background_process_does_not_hold_up_the_end(start: Start) -> None:
    assert start("bash", "-c", "sleep 600 & echo up; exit 4").ended() == (4, ["up"])


_ORPHAN = """
import os, pathlib, time
read, write = os.pipe()
if not os.fork():
    if not os.fork():
        os.write(write, b"%d" % os.getpid())
        os._exit(0)
    os._exit(0)
os.wait()
orphan = int(os.read(read, 20))
while pathlib.Path(f"/proc/{orphan}").exists():
    time.sleep(0.01)
print("reaped")
"""


def test_orphans_are_reaped(start: Start) -> None:
    assert start(PYTHON, "-c", _ORPHAN).ended() == (0, ["reaped"])


_SHOW = """
import os, signal, sys
parent = os.getppid()
print(os.getcwd(), os.environ["MINE"], sys.stdin.read())
print(os.getpgid(0) == os.getpgid(parent), os.getsid(0) == os.getsid(parent))
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN)
print(sorted(fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")))
"""


def test_it_is_as_if_the_command_had_been_started_alone(start: Start, tmp_path: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as text:
        text.write("from stdin")
    run = start(PYTHON, "-c", _SHOW, stdin=read, MINE="value")
    os.close(read)
    assert run.ended() == (
        0,
        [f"{tmp_path} value from stdin", "True True", "set() True", "['0', '1', '2']"],
    )
