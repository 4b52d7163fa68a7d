"""The task that probes one start of a container, from its start to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gpuyard.local.kubelet.probing.answer import ProbeAnswer
from gpuyard.local.kubelet.probing.health import ContainerHealth
from gpuyard.local.kubelet.probing.probe import ContainerProbe, ProbeKind

_FIRST_PAUSE_S = 0.05


class Probed(Protocol):
    """What a prober asks: see `ProbeTarget`."""

    async def probe(self, probe: ContainerProbe) -> ProbeAnswer:
        """Makes a probe once."""
        ...


class Prober:
    """Makes each probe of the container in its time, and keeps what was found.

    Attributes:
        health: what was found so far; replaced by `run` and by who owns the prober.
    """

    def __init__(
        self,
        health: ContainerHealth,
        asked: Probed,
        *,
        age_s: float,
        seconds: Callable[[], float],
        on_answer: Callable[[ContainerProbe, ProbeAnswer], None],
        on_change: Callable[[], None],
    ) -> None:
        """Makes it; nothing is asked before `run`.

        Args:
            health: before the first answer.
            asked: the container.
            age_s: how long ago it was started.
            seconds: a steady clock.
            on_answer: hears every answer.
            on_change: hears that a verdict has changed.
        """
        self._health = health
        self._asked = asked
        self._began_s = seconds() - age_s
        self._seconds = seconds
        self._on_answer = on_answer
        self._on_change = on_change
        self._changed = asyncio.Event()

    @property
    def health(self) -> ContainerHealth:
        """What was found so far."""
        return self._health

    def release(self) -> None:
        """The container's postStart hook is through."""
        self._replace(self._health.released())

    def end(self) -> None:
        """The container is to end."""
        if not self._health.is_ending:
            self._replace(self._health.ending())

    async def run(self) -> None:
        """Probes until it is cancelled, which whoever sees the container's end does."""
        async with asyncio.TaskGroup() as group:
            for probe in self._health.probes.values():
                group.create_task(self._keep_asking(probe), name=f"{probe.kind} probe")

    async def _keep_asking(self, probe: ContainerProbe) -> None:
        due_s = self._began_s + probe.first_turn_s
        await self._ask_early(probe, due_s)
        while True:
            await self._until_asked(probe.kind)
            await self._sleep_until(due_s)
            if not self._health.asks(probe.kind):
                continue
            # What was due while this machine slept isn't asked for afterwards.
            due_s = max(due_s, self._seconds()) + probe.period_s
            answer = await self._asked.probe(probe)
            if self._health.asks(probe.kind):
                self._on_answer(probe, answer)
                if answer.succeeded is not None:
                    self._replace(self._health.after(probe.kind, answer.succeeded))

    async def _ask_early(self, probe: ContainerProbe, until_s: float) -> None:
        """Asks before its first turn, so that a program that is quick needn't wait for that: there only a
        success counts."""
        if probe.kind is ProbeKind.LIVENESS or probe.successes > 1:
            return
        pause_s = _FIRST_PAUSE_S
        await self._until_asked(probe.kind)
        await self._sleep_until(self._began_s + probe.initial_delay_s)
        while self._seconds() + pause_s < until_s:
            await asyncio.sleep(pause_s)
            pause_s *= 2
            await self._until_asked(probe.kind)
            if (await self._asked.probe(probe)).succeeded:
                self._replace(self._health.after(probe.kind, True))
                return

    async def _sleep_until(self, moment_s: float) -> None:
        await asyncio.sleep(max(0.0, moment_s - self._seconds()))

    async def _until_asked(self, kind: ProbeKind) -> None:
        while not self._health.asks(kind):
            self._changed.clear()
            await self._changed.wait()

    def _replace(self, health: ContainerHealth) -> None:
        before, self._health = self._health, health
        if _outcome(before) != _outcome(health):
            self._on_change()
        # Each of the tasks looks for itself whether it was meant.
        self._changed.set()


def _outcome(health: ContainerHealth) -> tuple[bool, bool, ProbeKind | None]:
    return health.is_started, health.is_ready, health.failed
