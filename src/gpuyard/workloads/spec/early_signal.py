"""A signal before the timeout, as SLURM's `--signal` has it: `USR1@120`, `TERM@5m`, `HUP`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from signal import Signals

from gpuyard.advice import advice
from gpuyard.workloads.spec.text_tree import Node, Path
from gpuyard.workloads.spec.time_spans import parse_span

#: SLURM's, where no time is written (https://slurm.schedmd.com/sbatch.html#OPT_signal).
_USUAL = timedelta(seconds=60)
#: They end or stop a process whether it likes or not.
_DEAF = ("SIGKILL", "SIGSTOP")


@dataclass(frozen=True)
class EarlySignal:
    """Sent so long before a run's timeout.

    Attributes:
        name: such as SIGUSR1.
        before: the timeout.
    """

    name: str
    before: timedelta = _USUAL


def parse_early_signal(written: str) -> EarlySignal:
    """Reads `NAME` or `NAME@TIME`; a time without a unit is in seconds, as SLURM has it.

    Raises:
        ValueError: it is none.
    """
    word, at, time = written.strip().partition("@")
    name = "SIG" + word.upper().removeprefix("SIG")
    if name not in Signals.__members__ or name in _DEAF:
        raise ValueError(f"{word!r} is no signal that a program can handle; write for example USR1@120")
    if not at:
        return EarlySignal(name)
    before = parse_span(time + "s" if time.isascii() and time.isdecimal() else time)
    if not before:
        raise ValueError(
            f"{written!r} comes with the timeout, and not before it; write for example {word}@120"
        )
    return EarlySignal(name, before)


def across_signal(root: Mapping[str, Node]) -> Iterator[tuple[Path, str]]:
    """What is wrong with a signal that is right for itself: place and message."""
    timeout = root.get("timeout")
    if timeout is None:
        yield (
            ("signal",),
            advice("is sent before the timeout, and there is none; add `timeout` (--timeout)"),
        )
        return
    try:
        early = parse_early_signal(str(root["signal"])).before >= parse_span(str(timeout))
    except ValueError:
        return
    if early:
        yield ("signal",), f"would be sent before the run begins, whose timeout is {timeout}"
