from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gpuyard.local.kubelet.probing.answer import ProbeAnswer, ProbeResult, failure
from gpuyard.local.kubelet.probing.health import ContainerHealth
from gpuyard.local.kubelet.probing.probe import ContainerProbe, ProbeKind
from gpuyard.local.kubelet.probing.prober import Prober
from tests.waiting import until_async

STARTUP, READINESS, LIVENESS = ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS
_FINE = ProbeAnswer(ProbeResult.SUCCESS)


class _Container:
    """Gives the answers of each probe in turn, the last again and again; notes what was asked."""

    def __init__(self, **answers: list[ProbeAnswer]) -> None:
        self.answers = answers
        self.asked: list[ProbeKind] = []
        self.told: list[tuple[ProbeKind, str]] = []
        self.changes = 0

    async def probe(self, probe: ContainerProbe) -> ProbeAnswer:
        self.asked.append(probe.kind)
        left = self.answers[probe.kind.lower()]
        return left.pop(0) if len(left) > 1 else left[0]

    def tell(self, probe: ContainerProbe, answer: ProbeAnswer) -> None:
        self.told.append((probe.kind, answer.text))

    def change(self) -> None:
        self.changes += 1


@asynccontextmanager
async def _probing(
    container: _Container, *probes: ContainerProbe, age_s: float = 0.0, started: bool = False
) -> AsyncIterator[Prober]:
    health = ContainerHealth.of({probe.kind: probe for probe in probes}, started=started)
    prober = Prober(
        health,
        container,
        age_s=age_s,
        seconds=asyncio.get_running_loop().time,
        on_answer=container.tell,
        on_change=container.change,
    )
    task = asyncio.create_task(prober.run())
    try:
        yield prober
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _probe(kind: ProbeKind, period_s: float = 0.01, failures: int = 3) -> ContainerProbe:
    return ContainerProbe(kind, {}, period_s=period_s, failures=failures)


async def test_nothing_else_is_asked_before_it_has_started() -> None:
    container = _Container(startup=[failure("no"), failure("no"), _FINE], readiness=[_FINE], liveness=[_FINE])
    probes = [_probe(STARTUP, failures=100), _probe(READINESS), _probe(LIVENESS)]
    async with _probing(container, *probes) as prober:
        await until_async(lambda: prober.health.is_ready and LIVENESS in container.asked, "all are asked")
    assert container.asked[:3] == [STARTUP] * 3
    assert STARTUP not in container.asked[3:]


async def test_a_liveness_probe_that_fails_often_enough_ends_it() -> None:
    container = _Container(liveness=[_FINE, failure("1"), failure("2"), _FINE, failure("3")])
    async with _probing(container, _probe(LIVENESS)) as prober:
        await until_async(lambda: prober.health.failed, "it failed")
        assert container.asked == [LIVENESS] * 7
    assert container.told[-3:] == [(LIVENESS, "3")] * 3
    assert container.changes == 1


async def test_a_quick_program_is_ready_before_its_first_turn_and_is_not_blamed_before() -> None:
    container = _Container(readiness=[failure("not yet"), _FINE])
    async with _probing(container, _probe(READINESS, period_s=3600)) as prober:
        await until_async(lambda: prober.health.is_ready, "it is ready")
    assert container.told == []


async def test_what_could_not_be_asked_changes_nothing() -> None:
    unknown = ProbeAnswer(ProbeResult.UNKNOWN, "no such program")
    container = _Container(readiness=[unknown])
    async with _probing(container, _probe(READINESS)) as prober:
        await until_async(lambda: len(container.told) > 3, "it was told")
        assert not prober.health.is_ready
        assert prober.health.findings[READINESS].last is None


async def test_while_it_ends_only_whether_it_serves_is_asked() -> None:
    container = _Container(readiness=[_FINE], liveness=[failure("no")])
    probes = [_probe(READINESS), _probe(LIVENESS, failures=1_000_000)]
    async with _probing(container, *probes) as prober:
        await until_async(lambda: LIVENESS in container.asked, "both are asked")
        prober.end()
        container.asked.clear()
        await until_async(lambda: len(container.asked) > 5, "it goes on")
        assert set(container.asked[1:]) == {READINESS}


async def test_one_that_was_started_long_ago_is_asked_at_once() -> None:
    container = _Container(readiness=[failure("no")])
    async with _probing(container, _probe(READINESS, period_s=3600), age_s=7200):
        await until_async(lambda: container.told, "it is asked")
    assert container.asked == [READINESS]
