"""Old events go, recent ones stay."""

from __future__ import annotations

from datetime import timedelta

from gpuyard.client.supervision import Supervisor
from gpuyard.controllers.event_expiry import EventExpiry
from gpuyard.kube.objects import EVENTS
from gpuyard.kube.timestamps import format_time
from tests.unit.controllers.conftest import NOW, Clock, Yard


def event(name: str, **times: str) -> dict[str, object]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "a"},
        "reason": "Started",
        "type": "Normal",
        **times,
    }


async def test_an_event_goes_a_day_after_it_was_last_seen(yard: Yard) -> None:
    old, recent = NOW - timedelta(hours=25), NOW - timedelta(hours=23)
    await yard.api.create(EVENTS, event("old", lastTimestamp=format_time(old)))
    await yard.api.create(EVENTS, event("recent", lastTimestamp=format_time(recent)))
    await yard.api.create(EVENTS, event("undated"))
    expiry = EventExpiry(yard.api, lambda: NOW, Supervisor())
    assert await expiry.expire() == 1
    assert [e["metadata"]["name"] for e in (await yard.api.list(EVENTS)).items] == ["recent", "undated"]
    assert await expiry.expire() == 0


async def test_a_clock_that_is_set_makes_no_event_older(yard: Yard, clock: Clock) -> None:
    await yard.api.create(EVENTS, event("recent", lastTimestamp=format_time(NOW)))
    expiry = EventExpiry(yard.api, clock, Supervisor(), seconds=clock.seconds)
    assert await expiry.expire() == 0
    clock.set_by(10 * 86_400)
    assert await expiry.expire() == 0
    clock.advance(86_401)
    assert await expiry.expire() == 1
