"""Candidates over the yard's own API, with a steady clock that the test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.leader import LeaderElection
from gpuyard.kube.objects import LEASES, ObjectKey
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from gpuyard.local.store import Change, Store
from tests.waiting import until_async

_LEASE = ObjectKey("kube-system", "gpuyard")


class SteadyClock:
    """Seconds that pass when the test says so; sleepers wake as it does."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._count), woken))
        await woken.wait()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            heapq.heappop(self._sleepers)[2].set()


class SlowAnswers:
    """An API whose answers are held back once they were made, and which may fail once."""

    def __init__(self, api: ObjectApi) -> None:
        self._api = api
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.fault: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._api, name)

        async def answer(*args: Any, **options: Any) -> Any:
            made = await verb(*args, **options)
            await self.let_go.wait()
            fault, self.fault = self.fault, None
            if fault is not None:
                raise fault
            return made

        return answer


class Candidate:
    def __init__(
        self, api: ObjectApi | SlowAnswers, name: str, clock: SteadyClock, skew: timedelta = timedelta()
    ) -> None:
        self.leads = False
        self.times = 0
        #: Set, this candidate's work ends when it is told to.
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.election = LeaderElection(
            cast("KubeApi", api), _LEASE, name, lambda: utc_now() + skew, seconds=clock, sleep=clock.sleep
        )
        self.task = asyncio.create_task(self.election.run(self._lead), name=name)

    async def _lead(self) -> None:
        self.leads = True
        self.times += 1
        try:
            await asyncio.Event().wait()
        finally:
            while not self.may_end.is_set():
                with suppress(asyncio.CancelledError):
                    await self.may_end.wait()
            self.leads = False

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Election:
    """Candidates, and the passing of time until something holds."""

    def __init__(self, api: ObjectApi) -> None:
        self.api = api
        self.clock = SteadyClock()
        self.candidates: list[Candidate] = []

    def candidate(
        self, name: str, skew: timedelta = timedelta(), api: SlowAnswers | None = None
    ) -> Candidate:
        self.candidates.append(Candidate(api or self.api, name, self.clock, skew))
        return self.candidates[-1]

    def lease(self) -> dict[str, Any]:
        stored = self.api.store.get(LEASES.qualified, _LEASE)
        assert stored is not None
        found: dict[str, Any] = orjson.loads(stored.value)["spec"]
        return found

    async def until(self, holds: Callable[[], bool], *, step_s: float = 0.5) -> float:
        """The steady seconds that went by until it held. At no moment do two lead."""
        began = self.clock.now

        def look() -> bool:
            assert sum(one.leads for one in self.candidates) <= 1
            if held := holds():
                return held
            self.clock.advance(step_s)
            return False

        await until_async(look, "the candidates are as wanted")
        return self.clock.now - began


@pytest.fixture
async def election(tmp_path: Path) -> AsyncIterator[Election]:
    store = await Store.open(tmp_path / "yard.db", synchronous="OFF")
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    made = Election(api)
    yield made
    for candidate in made.candidates:
        await candidate.stop()
    await store.close()


async def test_when_the_leader_dies_the_other_takes_over_after_the_lease(election: Election) -> None:
    one = election.candidate("one")
    await election.until(lambda: one.leads)
    other = election.candidate("other")
    # Dead without a word: nothing of it runs any more, and nothing gives its lease back.
    one.election._identity = "nobody gives back for one"
    await one.stop()
    election.candidates.remove(one)
    waited_s = await election.until(lambda: other.leads)
    assert waited_s >= 13
    assert election.lease()["holderIdentity"] == "other"
    assert election.lease()["leaseTransitions"] == 1


async def test_a_leader_that_stops_gives_the_lease_back(election: Election) -> None:
    one = election.candidate("one")
    await election.until(lambda: one.leads)
    await one.stop()
    assert election.lease()["holderIdentity"] == ""
    other = election.candidate("other")
    assert await election.until(lambda: other.leads) <= 3


@pytest.mark.parametrize("skew", [timedelta(days=-1), timedelta(days=1)])
async def test_clocks_that_differ_change_nothing(election: Election, skew: timedelta) -> None:
    one = election.candidate("one")
    await election.until(lambda: one.leads)
    other = election.candidate("other", skew)
    began = election.clock.now
    await election.until(lambda: election.clock.now - began > 40)
    assert (one.leads, other.leads, one.times) == (True, False, 1)
    await one.stop()
    await election.until(lambda: other.leads)
    assert datetime.fromisoformat(election.lease()["renewTime"]).tzinfo is not None


async def test_a_lease_that_is_deleted_is_made_again_by_its_holder(election: Election) -> None:
    one = election.candidate("one")
    await election.until(lambda: one.leads)
    election.candidate("other")
    began = election.clock.now
    await election.until(lambda: election.clock.now - began > 10)
    await election.api.delete(LEASES, _LEASE.name, _LEASE.namespace)
    await election.until(lambda: election.api.store.get(LEASES.qualified, _LEASE) is not None)
    assert (election.lease()["holderIdentity"], one.leads, one.times) == ("one", True, 1)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        {"holderIdentity": ["one"], "leaseDurationSeconds": "long"},
        {"holderIdentity": "gone", "leaseDurationSeconds": 10**15, "renewTime": 5, "leaseTransitions": "x"},
    ],
)
async def test_a_lease_that_makes_no_sense_is_taken_over(election: Election, spec: object) -> None:
    lease = {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"name": _LEASE.name, "namespace": _LEASE.namespace, "uid": "u", "resourceVersion": "1"},
        "spec": spec,
    }
    written = await election.api.store.write(
        Change.create(
            LEASES.qualified,
            _LEASE,
            lambda revision: orjson.dumps(
                {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(revision)}}  # type: ignore[dict-item]
            ),
        )
    )
    assert written.revision
    one = election.candidate("one")
    await election.until(lambda: one.leads)
    assert election.lease()["holderIdentity"] == "one"


async def test_who_hears_too_late_that_the_lease_is_its_own_does_not_lead(election: Election) -> None:
    slow = SlowAnswers(election.api)
    slow.let_go.clear()
    one = election.candidate("one", api=slow)
    await until_async(
        lambda: election.api.store.get(LEASES.qualified, _LEASE) is not None, "it took the lease"
    )
    # The other one has waited for the whole lease when the answer comes.
    other = election.candidate("other")
    await election.until(lambda: other.leads)
    slow.let_go.set()
    began = election.clock.now
    await election.until(lambda: election.clock.now - began > 20)
    assert (one.times, other.leads) == (0, True)


async def test_a_leader_whose_work_does_not_end_says_so_before_another_leads(election: Election) -> None:
    slow = SlowAnswers(election.api)
    one = election.candidate("one", api=slow)
    await election.until(lambda: one.leads)
    one.may_end.clear()
    slow.let_go.clear()
    # It can't renew, nor end: both would lead after the lease.
    await election.until(one.task.done)
    with pytest.raises(errors.ElectionError, match="hasn't ended in 4 s"):
        await one.task
    slow.let_go.set()
    assert election.lease()["holderIdentity"] == "one"
    one.may_end.set()
    await until_async(lambda: not one.leads, "its work has ended")


async def test_work_that_outlives_a_suspend_is_not_waited_for(election: Election) -> None:
    """The Lease is over when the leader wakes up: another may lead already."""
    one = election.candidate("one")
    await election.until(lambda: one.leads)
    one.may_end.clear()
    woke_at = election.clock.now + 3600
    election.clock.advance(3600)
    try:
        await until_async(one.task.done, "it gives up, though no time passes")
        with pytest.raises(errors.ElectionError, match="hasn't ended in 0 s"):
            await one.task
        assert election.clock.now == woke_at
    finally:
        one.may_end.set()
    await until_async(lambda: not one.leads, "its work has ended")


async def test_work_that_ends_at_once_after_a_suspend_is_begun_again(election: Election) -> None:
    one = election.candidate("one")
    await election.until(lambda: one.leads)
    election.clock.advance(3600)
    await election.until(lambda: one.times == 2 and one.leads)


async def test_what_the_renewal_trips_over_is_raised(election: Election) -> None:
    answers = SlowAnswers(election.api)
    one = election.candidate("one", api=answers)
    await election.until(lambda: one.leads)
    answers.fault = ValueError("not foreseen")
    await election.until(one.task.done)
    with pytest.raises(ValueError, match="not foreseen"):
        await one.task
    assert (one.leads, election.lease()["holderIdentity"]) == (False, "")
