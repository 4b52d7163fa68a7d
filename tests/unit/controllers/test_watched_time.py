from __future__ import annotations

from gpuyard.controllers.node_lifecycle import NodeLifecycle
from gpuyard.controllers.watched_time import WatchedTime
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import LEASES, NODES, ObjectKey

from .conftest import Clock, Yard


class BootTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_time_that_was_watched_counts() -> None:
    boot_time = BootTime()
    watched = WatchedTime(boot_time)
    for _ in range(45):
        boot_time.now += 1
        watched()
    assert watched() == 45


def test_a_pause_of_this_process_counts_for_next_to_nothing() -> None:
    boot_time = BootTime()
    watched = WatchedTime(boot_time)
    boot_time.now += 50
    assert watched() == 2
    assert watched() == 2


async def test_a_process_that_stood_still_condemns_no_node(yard: Yard, clock: Clock) -> None:
    boot_time = BootTime()
    watched = WatchedTime(boot_time)
    lifecycle = NodeLifecycle(yard.api, clock, watched, yard.informers[NODES], yard.informers[LEASES])
    async with yard.running(lifecycle):
        await yard.api.create(NODES, {"metadata": {"name": "a"}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "up"}
        await yard.api.patch(NODES, "a", {"status": {"conditions": [ready]}}, subresource="status")
        await yard.until(lambda: ObjectKey("", "a") in yard.informers[NODES].objects)
        assert await lifecycle.look("a") == 40
        # SIGSTOP for 50 s, and a wall clock a day ahead.
        boot_time.now += 50
        clock.advance(86_400)
        before = await lifecycle.look("a")
        assert before is not None
        assert before >= 38
        assert condition_is_true(yard.node("a"), "Ready")
        # Silence that it did listen to counts.
        for _ in range(40):
            boot_time.now += 1
            watched()
        await lifecycle.look("a")
        await yard.until(lambda: not condition_is_true(yard.node("a"), "Ready"))


def test_who_wants_to_know_hears_of_each_pause_when_it_is_over() -> None:
    boot_time = BootTime()
    watched = WatchedTime(boot_time)
    woken: list[float] = []
    watched.on_pause(lambda: woken.append(boot_time.now))
    for step in (1, 1, 3600, 1, 50):
        boot_time.now += step
        watched()
    assert woken == [4602, 4653]
