"""A daemon that is there and doesn't answer: what it does meanwhile, and what would help.

Source: proc(5), `State` of /proc/PID/status.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuyard.local.runtime.procfs import read_stat

_STOPPED, _TRACED, _WAITS_FOR_DISK = "T", "t", "D"
#: As the kernel calls them.
_STATES = {
    "R": "running",
    "S": "sleeping",
    _WAITS_FOR_DISK: "disk sleep",
    _STOPPED: "stopped",
    _TRACED: "tracing stop",
}
_RESTART = "`gpuyard down --keep && gpuyard up` starts it again, and runs go on"
_REMEDIES = {
    _STOPPED: "`kill -CONT {pid}` lets it go on; `gpuyard down --keep` ends it, and runs go on",
    _TRACED: f"a debugger holds it: let it go on there; {_RESTART}",
    _WAITS_FOR_DISK: "it waits for a disk or another device, and goes on once that answers; see `dmesg`",
}


@dataclass(frozen=True)
class Silence:
    """What is to be said of a daemon that doesn't answer.

    Attributes:
        text: without a full stop.
        remedy: what lets it go on.
        is_stopped: by a signal: it answers only after SIGCONT.
    """

    text: str
    remedy: str
    is_stopped: bool


def silence_of(pid: int) -> Silence:
    """Looks at the daemon with this pid, as it is now."""
    stat = read_stat(pid)
    state = stat.state if stat else ""
    named = f', state "{_STATES.get(state, state)}"' if state else ""
    return Silence(
        text=f"the yard (pid {pid}{named}) doesn't answer",
        remedy=_REMEDIES.get(state, f"it is busy, or hangs: try again; {_RESTART}").format(pid=pid),
        is_stopped=state == _STOPPED,
    )
