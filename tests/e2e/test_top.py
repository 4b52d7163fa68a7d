"""`top` and `node` on a yard: in a pipe, and on a terminal that is taken and given back."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.waiting import until

from .conftest import Yard
from .shell import GPUYARD, TIMEOUT_S

ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """`gpuyard top` on a terminal of its own; `shown` is everything that it wrote."""

    def __init__(self, yard: Yard) -> None:
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._other = other
        self.before = termios.tcgetattr(other)
        self.shown = b""
        self.process = subprocess.Popen(
            [GPUYARD, "top"],
            stdin=other,
            stdout=other,
            stderr=other,
            env={**yard.environ, "TERM": "xterm"},
            start_new_session=True,
        )
        os.set_blocking(self._main, False)

    def read(self) -> bytes:
        with suppress(BlockingIOError, OSError):
            while piece := os.read(self._main, 65536):
                self.shown += piece
        return self.shown

    def wait_for(self, text: bytes) -> None:
        until(self.read, f"it shows {text!r}", lambda shown: text in shown)

    def type(self, keys: bytes) -> None:
        os.write(self._main, keys)

    def end(self) -> int:
        """Its exit code, when it has given the terminal back as it was."""
        code = until(self.process.poll, "it has ended", lambda code: code is not None, timeout_s=TIMEOUT_S)
        assert code is not None
        # What was written last comes to this side a moment later.
        until(self.read, "the screen is given back", lambda shown: shown.endswith(LEFT))
        assert termios.tcgetattr(self._other) == self.before
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)
        os.close(self._other)


@pytest.fixture
def terminal(yard: Yard) -> Iterator[Terminal]:
    """One on which `top` has drawn something."""
    made = Terminal(yard)
    try:
        made.wait_for(b"8 GPUs (simulated)")
        yield made
    finally:
        made.close()


def test_it_is_drawn_in_place_until_q(terminal: Terminal) -> None:
    assert terminal.shown.startswith(ENTERED) and terminal.process.poll() is None
    terminal.type(b"q")
    assert terminal.end() == 0
    assert terminal.shown.count(ENTERED) == terminal.shown.count(LEFT) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_gives_the_terminal_back(terminal: Terminal, number: signal.Signals, code: int) -> None:
    terminal.process.send_signal(number)
    assert terminal.end() == code
    assert b"Traceback" not in terminal.shown


def test_put_aside_and_taken_up_again(terminal: Terminal) -> None:
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.wait_for(LEFT)
    terminal.process.send_signal(signal.SIGCONT)
    until(terminal.read, "it draws again", lambda shown: shown.count(ENTERED) == 2)
    terminal.type(b"q")
    assert terminal.end() == 0


def test_in_a_pipe_it_ends(yard: Yard) -> None:
    said = yard.ok("top")
    assert "8 GPUs (simulated)" in said.splitlines()[0] and "\x1b" not in said
    found = yard.json("top")
    assert [(node["gpu_count"], node["simulated"]) for node in found["nodes"]] == [(8, True)]


def test_of_one_run_there_are_its_own_gpus_by_rank(yard: Yard) -> None:
    yard.background("two", "--nodes", "2", "--gpus", "1", "--", "sh", "-c", yard.waiting)
    until(lambda: yard.ok("top", "tw"), "all have their GPUs", lambda said: "two rank 1" in said)
    assert yard.ok("top", "tw").splitlines()[0].endswith("2 GPUs (simulated), 2 held")
    assert [(load["rank"], load["gpus"]) for load in yard.json("top", "@")["runs"]] == [(0, 1), (1, 1)]
    yard.open_gate("two")
    yard.ok("wait", "two")
    assert "gpuyard show two" in yard.refused(1, "top", "two")


def test_a_node_is_named_as_a_command_is(yard: Yard) -> None:
    name = yard.status()["node"]
    for arguments in (("node",), ("node", name), ("node", "show", name)):
        said = yard.ok(*arguments)
        assert "8 × H100 (simulated)" in said
    assert "no node 'fault-'" in yard.refused(2, "node", "fault-")
    assert "no node 'cdi'" in yard.refused(2, "node", "show", "cdi")
    assert yard.json("node", name)[0]["name"] == name
