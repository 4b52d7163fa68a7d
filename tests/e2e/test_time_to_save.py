"""What a run is told before its end, and how it says that it needs no more time."""

from __future__ import annotations

from .shell import Shell

HANDLES = """
import os, pathlib, signal, time
def handle(number, frame):
    os.write(1, b"saves\\n")
    {0}
signal.signal(signal.{1}, handle)
os.write(1, b"up\\n")
while True:
    time.sleep(600)
"""


def test_a_run_gets_a_signal_before_its_timeout(target: Shell) -> None:
    target.script("early.py", HANDLES.format("os._exit(0)", "SIGUSR1"))
    result = target.call("run", "early.py", "--timeout", "10m", "--signal", "USR1@599")
    # Where its start takes long the launcher says that nobody handles the signal yet.
    printed = [line for line in result.out.splitlines() if not line.startswith("gpuyard: ")]
    assert (result.code, printed) == (0, ["up", "saves"])


def test_a_run_that_says_that_it_has_saved_is_not_waited_for(target: Shell) -> None:
    target.script("saves.py", HANDLES.format("pathlib.Path(os.environ['GPUYARD_SAVED']).touch()", "SIGTERM"))
    target.ok("run", "-d", "-n", "saves", "--grace", "1h", "saves.py")
    target.wait_for_line("saves", "up")
    assert target.ok("stop", "saves").endswith("Stopped saves.\n")
    found = target.state("saves")
    assert (found["state"], found["exit_code"]) == ("stopped", 143)
    assert target.ok("logs", "saves") == "up\nsaves\n"
