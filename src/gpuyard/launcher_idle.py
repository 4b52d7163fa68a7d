"""Of runs that end when nobody uses them: when their GPUs are idle, or their terminal is gone.

GPUYARD_IDLE_S=1800 ends the command once this pod's GPUs have been idle for 1800 seconds. The node's agent
measures that, and writes onto the pod what it has used; the file `gpu-use` in the folder GPUYARD_POD_INFO has
what it wrote. Seconds in which nobody measured count for neither side: an agent that is away ends no run.

GPUYARD_TERMINAL=1 ends the command when the terminal is gone that the run is for, of a shell beside it. Who
has it says so by another word in the file `terminal`, again and again, and for the first time within five
minutes of the start: a connection that is cut tells a container nothing.

Standard library only, Python 3.6 and later, as launcher.py, beside which this file lies.
"""
# pathlib would double the time that the launcher takes.
# ruff: noqa: PTH118, PTH123

import json
import os
import threading
import time

if False:  # typing would cost every run's start
    from typing import Any

_LOOK_S = 5.0
#: Less than this of a GPU's time is what looking at it costs.
_BUSY = 0.01
#: The warning comes so long before the end, or at half of the time.
_WARNING_S = 300.0
#: What is written onto a pod reaches its files within two minutes.
_TERMINAL_GONE_S = 300.0


class Unused:
    """Whether the run is still used.

    Attributes:
        reason: why it ends; empty as long as it is used.
    """

    def __init__(self, say: "Any") -> None:
        """`say` is the launcher's."""
        self.reason = ""
        self._has_terminal = os.environ.get("GPUYARD_TERMINAL") == "1"
        self._say = say
        self._end = None  # type: Any
        self._idle_s = float(os.environ.get("GPUYARD_IDLE_S") or 0)

    def watch(self, end: "Any") -> None:
        """From the command's start on: calls `end` once, from a thread, when nobody uses the run any more.
        Of an elastic run's next start it is another."""
        is_first, self._end = self._end is None, end
        if is_first:
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        idle = Idleness(self._idle_s, self._say) if self._idle_s else None
        terminal, seen_at = "", time.monotonic()
        while not self.reason:
            time.sleep(min(_LOOK_S, self._idle_s / 10 or _LOOK_S))
            if idle is not None and idle.is_over(_read("gpu-use")):
                self.reason = "its GPUs have been idle for " + _span(self._idle_s)
            said = _read("terminal")
            if said != terminal:
                terminal, seen_at = said, time.monotonic()
            if self._has_terminal and time.monotonic() - seen_at > _TERMINAL_GONE_S:
                self.reason = "its terminal is gone"
        self._say("this run ends, since " + self.reason)
        self._end()


class Idleness:
    """For how long the pod's GPUs have been idle.

    Args:
        limit_s: as long as they may be.
        say: is told before it is over, and when nobody measures them.
    """

    def __init__(self, limit_s: float, say: "Any") -> None:
        self._limit_s, self._say = limit_s, say
        #: Seconds of GPUs that were measured and busy when they were last busy.
        self._measured_s = self._busy_s = 0.0
        self._has_warned = False

    def is_over(self, use: str) -> bool:
        """Whether it is too long now.

        Args:
            use: what the pod has used, as its annotation says; each of its entries only grows.
        """
        try:
            entries = list(json.loads(use or "{}").values())
            held, measured, busy = (
                sum(float(entry.get(name, 0)) for entry in entries)
                for name in ("gpu_s", "measured_gpu_s", "busy_gpu_s")
            )
            gpus = max(int(entry["gpus"]) for entry in entries)
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        if busy - self._busy_s > _BUSY * (measured - self._measured_s):
            self._measured_s, self._busy_s = measured, busy
            self._has_warned = False
            return False
        idle_s = (measured - self._measured_s) / max(gpus, 1)
        warning_s = min(_WARNING_S, self._limit_s / 2)
        if not self._has_warned:
            if idle_s >= self._limit_s - warning_s:
                self._has_warned = True
                left_s = max(self._limit_s - idle_s, 0.0)
                self._say(
                    f"no GPU of this run has been used for {_span(idle_s)}: it ends in {_span(left_s)}, "
                    "unless one is"
                )
            elif not measured and held >= self._limit_s * max(gpus, 1):
                self._has_warned = True
                self._say(
                    "nobody measures this run's GPUs, as if they were shared: it isn't ended for idleness"
                )
        return idle_s >= self._limit_s


def _read(name: str) -> str:
    try:
        with open(os.path.join(os.environ.get("GPUYARD_POD_INFO", ""), name), errors="replace") as file:
            return file.read()
    except OSError:  # it isn't written yet
        return ""


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
