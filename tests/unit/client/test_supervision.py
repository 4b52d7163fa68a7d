from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

import pytest

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.supervision import SET_ASIDE, ObjectReference, Supervisor
from gpuyard.kube.objects import PODS, Manifest, ObjectKey, Resource
from gpuyard.local.objects.verbs import utc_now

_ODD = ObjectReference(PODS, ObjectKey("default", "odd"), "uid-1")


class Creates:
    """An API that keeps what is created."""

    def __init__(self) -> None:
        self.created: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    async def create(self, resource: Resource, manifest: Mapping[str, Any], namespace: str = "") -> Manifest:
        self.created.put_nowait(manifest)
        return dict(manifest)


async def test_a_bad_object_is_named_in_the_log_and_in_an_event(caplog: pytest.LogCaptureFixture) -> None:
    api = Creates()
    supervisor = Supervisor(EventRecorder(cast(KubeApi, api), "gpuyard", utc_now))
    writing = asyncio.create_task(supervisor.run(), name="supervisor")
    went_on = False
    with supervisor.guard("scheduler", _ODD):
        raise RecursionError("too deep")
    went_on = True
    event = await asyncio.wait_for(api.created.get(), 60)
    writing.cancel()
    assert went_on
    assert event["reason"] == SET_ASIDE
    assert event["involvedObject"] == {
        "apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "odd", "uid": "uid-1",
    }  # fmt: skip
    assert event["message"].endswith("goes on without it: RecursionError: too deep")
    (record,) = caplog.records
    assert record.getMessage().startswith("scheduler: pods default/odd: set aside")
    assert record.exc_info


async def test_the_same_failure_again_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor()
    for what in ("a", "a", "b"):
        with supervisor.guard("scheduler", _ODD):
            raise KeyError(what)
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, True]


async def test_an_error_of_ours_needs_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with Supervisor().guard("expiry"):
        raise errors.StorageFull("the disk is full")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "expiry: the disk is full")
    assert not record.exc_info


async def test_what_ends_a_loop_from_outside_goes_through() -> None:
    with pytest.raises(asyncio.CancelledError), Supervisor().guard("scheduler"):
        raise asyncio.CancelledError


async def test_a_loop_that_fails_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    left = [ValueError("one"), OSError("two"), None]

    async def loop() -> None:
        if error := left.pop(0):
            raise error

    await Supervisor().keep("loop", loop)
    assert not left
    assert pauses == [2.0, 4.0]


async def test_an_event_that_fails_does_not_end_the_supervisor(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Creates):
        """An API in which the first creation trips over a bug."""

        async def create(
            self, resource: Resource, manifest: Mapping[str, Any], namespace: str = ""
        ) -> Manifest:
            await super().create(resource, manifest, namespace)
            if self.failures:
                raise self.failures.pop()
            return dict(manifest)

        failures = [ValueError("a bug")]

    api = Fails()
    supervisor = Supervisor(EventRecorder(cast(KubeApi, api), "gpuyard", utc_now))
    writing = asyncio.create_task(supervisor.run(), name="supervisor")
    supervisor.tell(_ODD, "one")
    supervisor.tell(_ODD, "two")
    events = [await asyncio.wait_for(api.created.get(), 60) for _ in range(2)]
    writing.cancel()
    assert [event["message"] for event in events] == ["one", "two"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["supervisor"]
