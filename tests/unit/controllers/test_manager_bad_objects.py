"""Every loop meets every kind of stored object with a field that no release would write, and goes on."""

from __future__ import annotations

import asyncio
import copy
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import SET_ASIDE, Supervisor
from gpuyard.controllers.event_expiry import EventExpiry
from gpuyard.controllers.manager import ControllerManager
from gpuyard.controllers.scheduler import Scheduler
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import (
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    PRIORITY_CLASSES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Manifest,
    ObjectKey,
    Resource,
)
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from gpuyard.local.store import Change, Store
from tests.waiting import until_async

_CONTAINER = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
_POD_SPEC: dict[str, Any] = {
    "containers": [_CONTAINER], "restartPolicy": "Never", "runtimeClassName": "gpuyard-process",
}  # fmt: skip
_TIMES = {"creationTimestamp": "2026-01-31T12:00:00Z", "deletionTimestamp": "2026-01-31T12:00:00Z"}
_OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "gone", "controller": True}
_CONDITION = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z"}
_ENDED = {"exitCode": 0, "startedAt": "2026-01-31T12:00:00Z", "finishedAt": "2026-01-31T12:00:00Z"}
_WHOLE: dict[Resource, dict[str, Any]] = {
    CONFIG_MAPS: {"data": {"a": "b"}},
    SECRETS: {"data": {"a": "Yg=="}, "type": "Opaque"},
    SERVICE_ACCOUNTS: {},
    PRIORITY_CLASSES: {"value": 5, "description": "d", "globalDefault": True},
    NAMESPACES: {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    NODES: {
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}], "unschedulable": True},
        "status": {"conditions": [_CONDITION], "allocatable": {"cpu": "1", "memory": "1Gi", "pods": "9"}},
    },
    LEASES: {"spec": {"holderIdentity": "a", "renewTime": "2026-01-31T12:00:00.000000Z"}},
    EVENTS: {
        "involvedObject": {"kind": "Pod", "name": "a"}, "lastTimestamp": "2026-01-31T12:00:00Z", "count": 1,
    },
    JOBS: {
        "spec": {"parallelism": 1, "completions": 1, "template": {"spec": _POD_SPEC}},
        "status": {"startTime": "2026-01-31T12:00:00Z", "conditions": [_CONDITION]},
    },
    PODS: {
        "spec": {**_POD_SPEC, "priority": 1, "nodeName": "node", "tolerations": [{"key": "a"}]},
        "status": {
            "phase": "Running",
            "conditions": [_CONDITION],
            "containerStatuses": [{"name": "main", "restartCount": 0, "state": {"terminated": _ENDED}}],
        },
    },
}  # fmt: skip
_ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, 5, -1, 2**62, 1.5, True, "", "text", "0", "0999-01-01T00:00:00Z", "1-01-01T00:00:00Z", [], ["a"],
     [None], [{}], [[["a"]]], {}, {"a": 1}, {"a": {"a": ["a"]}}]
)  # fmt: skip
#: What the store's own door holds: an object is found by these.
_KEPT = {("metadata", field) for field in ("name", "namespace", "uid", "resourceVersion")} | {("metadata",)}


def _manifest(resource: Resource) -> Manifest:
    metadata: dict[str, Any] = {
        "name": "odd", "uid": "odd", "labels": {"a": "b"}, "annotations": {"a": "b"}, **_TIMES,
        "ownerReferences": [_OWNER], "finalizers": ["example.com/held"],
    }  # fmt: skip
    if resource.namespaced:
        metadata["namespace"] = "default"
    named = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    return copy.deepcopy({**named, **_WHOLE[resource]})


def _paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the values of an object are."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        if (*path, name) not in _KEPT:
            yield (*path, name)
        yield from _paths(inner, (*path, name))


@st.composite
def _bad_objects(draw: st.DrawFn) -> tuple[Resource, Manifest]:
    resource = draw(st.sampled_from(list(_WHOLE)))
    manifest = _manifest(resource)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(_paths(manifest))))
        at: Any = manifest
        for step in path[:-1]:
            at = at[step]
        # A copy: what is put in may be changed in the next turn, and would be put into itself.
        at[path[-1]] = copy.deepcopy(draw(_ODD))
    if draw(st.booleans()):
        manifest["metadata"].pop("deletionTimestamp", None)
    return resource, manifest


class _Loops:
    """The loops of a yard over what is stored, and a kubelet that lets every pod succeed."""

    def __init__(self, api: ObjectApi) -> None:
        self.api = api
        self.supervisor = Supervisor(EventRecorder(api, "gpuyard", utc_now))
        resources = [kind.resource for kind in api.kinds]
        self.informers = {r: Informer(api, r, supervisor=self.supervisor) for r in resources}
        self.expiry = EventExpiry(api, utc_now, self.supervisor)
        manager = ControllerManager(api, utc_now, self.informers, resources, self.supervisor)
        needed = (NODES, PODS, PERSISTENT_VOLUME_CLAIMS)
        scheduler = Scheduler(api, utc_now, *(self.informers[each] for each in needed))
        self.ended = asyncio.Event()
        self._bound: asyncio.Queue[ObjectKey] = asyncio.Queue()
        self.informers[PODS].add_handler(self._on_pod)
        self.informers[JOBS].add_handler(self._on_job)
        parts: tuple[Any, ...] = (*self.informers.values(), manager, scheduler, self.supervisor)
        self._runs = [*(part.run for part in parts), self._end_pods]

    def _on_pod(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None and new["metadata"]["name"] != "odd" and new["spec"].get("nodeName"):
            self._bound.put_nowait(ObjectKey("default", new["metadata"]["name"]))

    def _on_job(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None and new["metadata"]["name"] == "healthy" and condition_is_true(new, "Complete"):
            self.ended.set()

    async def _end_pods(self) -> None:
        done: set[ObjectKey] = set()
        while True:
            key = await self._bound.get()
            if key not in done:
                done.add(key)
                state = {"terminated": _ENDED}
                status = {
                    "phase": "Succeeded",
                    "containerStatuses": [
                        {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0,
                         "state": state}
                    ],
                }  # fmt: skip
                await self.api.patch(PODS, key.name, {"status": status}, key.namespace, subresource="status")

    async def run_a_job(self) -> None:
        """Starts all loops and sees a Job to its end; raises what ended a loop."""
        tasks = [asyncio.create_task(run(), name="loop") for run in self._runs]
        try:
            job = {"spec": {"template": {"spec": _POD_SPEC}}, "metadata": {"name": "healthy"}}
            await self.api.create(JOBS, job, "default")
            ended = asyncio.create_task(self.ended.wait(), name="ended")
            async with asyncio.timeout(60):
                await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            assert ended.done()
            await self.expiry.expire()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _expect_a_healthy_job_to_end_beside(resource: Resource, manifest: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(Path(folder) / "yard.db", synchronous="OFF")
        api = ObjectApi(store, yard_kinds(), rng=random.Random(1))
        await api.bootstrap()
        await api.create(NODES, {"metadata": {"name": "node"}})
        capacity = {"cpu": "8", "memory": "8Gi", "pods": "100"}
        status = {"capacity": capacity, "allocatable": capacity, "conditions": [_CONDITION]}
        await api.patch(NODES, "node", {"status": status}, subresource="status")

        def encode(revision: int) -> bytes:
            metadata = {**manifest["metadata"], "resourceVersion": str(revision)}
            return orjson.dumps({**manifest, "metadata": metadata})

        key = ObjectKey("default" if resource.namespaced else "", "odd")
        await store.write(Change.create(resource.qualified, key, encode))
        try:
            await _Loops(api).run_a_job()
        finally:
            await store.close()


@settings(max_examples=25, deadline=None)
@given(_bad_objects())
def test_no_stored_object_ends_a_loop_or_holds_up_a_healthy_job(bad: tuple[Resource, Manifest]) -> None:
    asyncio.run(_expect_a_healthy_job_to_end_beside(*bad))


@pytest.mark.parametrize(
    ("resource", "field", "odd"),
    [
        (PODS, ("spec", "nodeName"), ["node"]),
        (PODS, ("metadata", "annotations"), {"a": ["not text"]}),
        (NODES, ("spec", "taints"), [None]),
        (NODES, ("spec", "taints"), [{"key": ["a"], "effect": "NoSchedule"}]),
        (NODES, ("metadata", "labels"), ["a"]),
        (PRIORITY_CLASSES, ("value",), ["a"]),
        (EVENTS, ("lastTimestamp",), "999-01-01T00:00:00Z"),
        (EVENTS, ("lastTimestamp",), "0001-01-01T00:00:00+14:00"),
    ],
)
async def test_what_ended_a_daemon_once(resource: Resource, field: tuple[str, ...], odd: object) -> None:
    manifest = _manifest(resource)
    at = manifest
    for name in field[:-1]:
        at = at[name]
    at[field[-1]] = odd
    await _expect_a_healthy_job_to_end_beside(resource, manifest)


async def test_the_event_that_can_not_be_dated_is_named(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "yard.db", synchronous="OFF")
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    manifest = {**_manifest(EVENTS), "lastTimestamp": "999-01-01T00:00:00Z"}
    key = ObjectKey("default", "odd")
    await store.write(Change.create(EVENTS.qualified, key, lambda revision: orjson.dumps(manifest)))
    supervisor = Supervisor(EventRecorder(api, "gpuyard", utc_now))
    writing = asyncio.create_task(supervisor.run(), name="supervisor")
    try:
        assert await EventExpiry(api, utc_now, supervisor).expire() == 0
        listed = await until_async(
            lambda: api.list(EVENTS, field_selector=f"reason={SET_ASIDE}"),
            "its event",
            lambda found: found.items,
        )
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await store.close()
    named = listed.items[0]
    assert named["involvedObject"]["name"] == "odd"
    assert "event-expiry" in named["message"]
