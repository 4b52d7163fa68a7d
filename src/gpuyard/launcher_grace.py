"""Of runs that say how they are to be ended: the signal before their timeout, and an end once they saved.

GPUYARD_SIGNAL="SIGUSR1 3480" sends that signal 3480 seconds after the pod's start to each process of the run
that handles it. Another would die of it, as torchrun and shells do, and workers are the run's own to tell.

SIGTERM, SIGINT and SIGQUIT are stops that come early, and go the way of any other.

GPUYARD_SAVED, which is set here for the command, names a file. When it is made after SIGTERM has come, the
run has nothing left to lose: what hasn't ended 2 seconds later is killed, however long the grace is.

Standard library only, Python 3.6 and later, as launcher.py, beside which this file lies.
"""
# pathlib would double the time that the launcher takes.
# ruff: noqa: PTH102, PTH106, PTH108, PTH110, PTH118, PTH120, PTH123, PTH208

import os
import signal
import threading
import time

if False:  # typing would cost every run's start
    from typing import Any

_FOLDERS = ("/dev/shm", "/tmp")
_LOOK_S = 0.05
#: Who says that it has saved may print a last word and end by itself.
_LAST_WORD_S = 2.0


class Grace:
    """How one run is ended.

    Attributes:
        was_cut: whether what was left has been killed, since the run had saved.
    """

    def __init__(self, look: "Any", send: "Any", say: "Any") -> None:
        """`look`, `send` and `say` are the launcher's."""
        self.was_cut = False
        self._look, self._send, self._say = look, send, say
        self._file = ""
        self._ends = self._is_closed = False
        for folder in _FOLDERS:
            place = os.path.join(folder, "gpuyard-" + os.urandom(8).hex())
            try:
                os.mkdir(place, 0o700)
            except OSError:  # it isn't there, or can't be written
                continue
            self._file = os.environ["GPUYARD_SAVED"] = os.path.join(place, "saved")
            break

    def watch(self) -> None:
        """From the command's start on: sees to the early signal."""
        said = os.environ.get("GPUYARD_SIGNAL", "")
        if not said:
            return
        try:
            name, due_s = said.split()
            number, due = signal.Signals[name], time.monotonic() - _age_s() + float(due_s)
        except (KeyError, ValueError):
            self._say("GPUYARD_SIGNAL isn't as gpuyard sets it: " + said)
            return
        self._in_background(self._tell, number, due)

    def begin_end(self) -> None:
        """Called before SIGTERM is passed on: a file that is there from before says nothing of this stop."""
        if self._ends or not self._file:
            return
        self._ends = True
        self._forget()
        self._in_background(self._cut)

    def close(self) -> None:
        """Leaves nothing behind. An elastic run's next start has another of these."""
        self._is_closed = True
        if self._file:
            self._forget()
            try:
                os.rmdir(os.path.dirname(self._file))
            except OSError:
                pass

    def _tell(self, number: "signal.Signals", due: "float") -> None:
        time.sleep(max(due - time.monotonic(), 0))
        if self._is_closed:
            return
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            os.kill(os.getpid(), number)
            return
        told = handling(number)
        if not told:
            self._say(f"no process handles {number.name} yet, which is due before the timeout")
        while not told and not self._is_closed:
            time.sleep(_LOOK_S)
            told = handling(number)
        for pid in told:
            self._send(pid, number)

    def _cut(self) -> None:
        while not os.path.exists(self._file):
            time.sleep(_LOOK_S)
        time.sleep(_LAST_WORD_S)
        self.was_cut = not self._is_closed
        while not self._is_closed:
            for pid in self._look()[0]:
                self._send(pid, signal.SIGKILL)
            time.sleep(_LOOK_S)

    def _forget(self) -> None:
        try:
            os.unlink(self._file)
        except OSError:
            pass

    @staticmethod
    def _in_background(work: "Any", *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()


def handling(number: int) -> "list[int]":
    """The processes below this one that handle a signal."""
    parents, found = {}, []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/status", errors="replace") as file:
                status = dict(line.split(":", 1) for line in file)
        except OSError:  # it has ended
            continue
        parents[pid] = int(status["PPid"])
        if int(status.get("SigCgt", "0"), 16) >> (number - 1) & 1:
            found.append(pid)
    return [pid for pid in found if _is_below(pid, parents)]


def _is_below(pid: int, parents: "dict[int, int]") -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == os.getpid():
            return True
    return False


def _age_s() -> "float":
    """How long the pod has run.

    Its deadline counts from before its image was pulled. So does its process 1, where that is the pod's and
    not the container's; else only the age of this process is known.
    """
    if os.getpid() == 1 or os.getppid():
        return 0.0
    with open("/proc/1/stat") as file:
        started_ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - started_ticks / os.sysconf("SC_CLK_TCK")
