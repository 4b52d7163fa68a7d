from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from gpuyard import errors
from gpuyard.client.api import WatchEvent
from gpuyard.client.informer import Informer
from gpuyard.controllers.scheduler import Scheduler
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import (
    EVENTS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    PRIORITY_CLASSES,
    Manifest,
    Resource,
    key_of,
)
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Change, Store
from gpuyard.scheduling.snapshot import Snapshot

GPU = "nvidia.com/gpu"


def clock() -> datetime:
    return datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Api(ObjectApi):
    """The yard's API, with a hook that runs before each binding, and watches that can lag."""

    before_bind: Callable[[str], Any] | None = None
    tells_bindings: asyncio.Event

    def __init__(self, store: Store) -> None:
        super().__init__(store, yard_kinds(), clock=clock)
        self.tells_bindings = asyncio.Event()
        self.tells_bindings.set()

    async def watch(
        self, resource: Resource, namespace: str | None = None, **options: Any
    ) -> AsyncIterator[WatchEvent]:
        async for event in super().watch(resource, namespace, **options):
            if event.object.get("spec", {}).get("nodeName"):
                await self.tells_bindings.wait()
            yield event

    async def bind(self, namespace: str, name: str, node: str, *, uid: str = "") -> None:
        if self.before_bind is not None:
            await self.before_bind(name)
        await super().bind(namespace, name, node, uid=uid)


class Yard:
    """An API with a scheduler over it, and what the tests say to it."""

    def __init__(self, api: Api, store: Store) -> None:
        self.api = api
        self.store = store

    async def add_node(self, name: str, gpus: int = 8, **spec: Any) -> None:
        await self.api.create(NODES, {"metadata": {"name": name}, "spec": spec})
        await self.set_gpus(name, gpus)

    async def set_gpus(self, name: str, gpus: int, beat: str = "2026-01-31T12:00:00Z") -> None:
        status = {
            "allocatable": {"cpu": "64", "memory": "64Gi", "pods": "110", GPU: str(gpus)},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": beat}],
        }
        await self.api.patch(NODES, name, {"status": status}, subresource="status")

    async def add_pod(self, name: str, gpus: int = 0, **spec: Any) -> Manifest:
        container: Manifest = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
        if gpus:
            container["resources"] = {"limits": {GPU: str(gpus)}}
        spec = {"runtimeClassName": "gpuyard-process", "containers": [container], **spec}
        return await self.api.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")

    async def write(self, pod: Manifest) -> None:
        """Puts a pod into the store past every check of the API."""
        key = key_of(pod)
        await self.store.write(Change.create("pods", key, lambda r: _encode(pod, r)))

    async def finish(self, name: str) -> None:
        await self.api.patch(PODS, name, {"status": {"phase": "Succeeded"}}, "default", subresource="status")

    async def pod(self, name: str) -> Manifest:
        return await self.api.get(PODS, name, "default")

    async def node_of(self, name: str) -> str:
        return str((await self.pod(name))["spec"].get("nodeName", ""))

    async def events(self, reason: str) -> list[tuple[str, str, int]]:
        found = (await self.api.list(EVENTS, "default")).items
        return [
            (event["involvedObject"]["name"], event["message"], event["count"])
            for event in found
            if event["reason"] == reason
        ]

    async def bound(self, *names: str) -> None:
        """Waits until each of these pods is bound."""
        for name in names:
            await self.until(PODS, name, lambda pod: bool(pod["spec"].get("nodeName")))

    async def stuck(self, *names: str) -> None:
        """Waits until each of these pods is said to fit nowhere, and until the event says so too."""
        for name in names:
            await self.until(PODS, name, lambda pod: condition(pod).get("status") == "False")
            await self.until(
                EVENTS,
                "",
                lambda event, name=name: told(event) == ("FailedScheduling", name),  # type: ignore[misc]
            )

    async def until(self, resource: Resource, name: str, holds: Callable[[Manifest], bool]) -> None:
        async with asyncio.timeout(60):
            listed = await self.api.list(resource, "default")
            seen = [item for item in listed.items if not name or item["metadata"]["name"] == name]
            if any(map(holds, seen)):
                return
            version = listed.resource_version
            # The tests' own eyes never lag.
            async for event in ObjectApi.watch(self.api, resource, "default", resource_version=version):
                if (not name or event.object["metadata"]["name"] == name) and holds(event.object):
                    return


def _encode(manifest: Manifest, revision: int) -> bytes:
    return orjson.dumps({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(revision)}})


def condition(pod: Manifest) -> dict[str, Any]:
    return dict(find_condition(pod, "PodScheduled") or {})


def told(event: Manifest) -> tuple[str, str]:
    return event["reason"], event["involvedObject"]["name"]


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Yard]:
    """A yard whose scheduler doesn't run yet."""
    store = await Store.open(tmp_path / "store.db", synchronous="OFF")
    api = Api(store)
    await api.create(NAMESPACES, {"metadata": {"name": "default"}})
    yield Yard(api, store)
    await store.close()


@contextlib.asynccontextmanager
async def scheduling(yard: Yard) -> AsyncIterator[None]:
    informers = [Informer(yard.api, each) for each in (NODES, PODS, PERSISTENT_VOLUME_CLAIMS)]
    scheduler = Scheduler(yard.api, clock, *informers)
    runs = [*(each.run for each in informers), scheduler.run]
    tasks = [asyncio.create_task(run()) for run in runs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


@pytest.fixture
async def yard(idle: Yard) -> AsyncIterator[Yard]:
    async with scheduling(idle):
        yield idle


async def test_binds_and_says_so(yard: Yard) -> None:
    await yard.add_node("n1")
    await yard.add_pod("p", 2)
    await yard.bound("p")
    pod = await yard.pod("p")
    assert pod["spec"]["nodeName"] == "n1"
    assert condition(pod)["status"] == "True"
    await yard.until(EVENTS, "", lambda event: told(event) == ("Scheduled", "p"))
    assert await yard.events("Scheduled") == [("p", "Successfully assigned default/p to n1", 1)]


async def test_takes_up_what_was_there_before(idle: Yard) -> None:
    await idle.add_node("n1")
    await idle.add_pod("held", 5)
    await idle.api.bind("default", "held", "n1")
    await idle.add_pod("fits", 3)
    await idle.add_pod("late", 1)
    async with scheduling(idle):
        await idle.bound("fits")
        await idle.stuck("late")
        assert await idle.node_of("fits") == "n1"


async def test_leaves_alone_what_is_not_its_to_place(yard: Yard) -> None:
    await yard.add_node("n1")
    await yard.add_pod("gated", schedulingGates=[{"name": "wait"}])
    await yard.add_pod("others", schedulerName="another")
    await yard.add_pod("named", nodeName="elsewhere")
    await yard.add_pod("ours")
    await yard.bound("ours")
    assert [await yard.node_of(name) for name in ("gated", "others", "named")] == ["", "", "elsewhere"]
    await yard.api.patch(PODS, "gated", {"spec": {"schedulingGates": []}}, "default")
    await yard.bound("gated")


async def test_says_why_a_pod_fits_nowhere_and_binds_it_once_it_does(yard: Yard) -> None:
    await yard.add_node("n1", 2)
    await yard.add_node("n2", 8, taints=[{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}])
    await yard.add_pod("p", 4)
    await yard.stuck("p")
    message = (
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, "
        "1 node(s) had untolerated taint {dedicated: ml}."
    )
    assert condition(await yard.pod("p")) == {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": "2026-01-31T12:00:00Z",
    }
    assert await yard.events("FailedScheduling") == [("p", message, 1)]
    await yard.set_gpus("n1", 4)
    await yard.bound("p")
    assert "reason" not in condition(await yard.pod("p"))


async def test_says_the_same_once_only(yard: Yard) -> None:
    await yard.add_node("n1", 2)
    await yard.add_pod("p", 4)
    await yard.stuck("p")
    version = (await yard.pod("p"))["metadata"]["resourceVersion"]
    await yard.set_gpus("n1", 2, beat="2026-01-31T12:00:10Z")
    await yard.set_gpus("n1", 3)
    await yard.add_pod("marker", 1)
    await yard.bound("marker")
    assert (await yard.pod("p"))["metadata"]["resourceVersion"] == version
    assert [count for _, _, count in await yard.events("FailedScheduling")] == [1]


async def test_says_it_anew_when_the_reason_changes(yard: Yard) -> None:
    await yard.add_pod("p", 4)
    await yard.stuck("p")
    assert condition(await yard.pod("p"))["message"] == "no nodes available to schedule pods"
    await yard.add_node("n1", 2)
    wanted = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    await yard.until(PODS, "p", lambda pod: condition(pod).get("message") == wanted)


@pytest.mark.parametrize("how", ["finish", "delete"])
async def test_what_is_freed_goes_to_the_most_important(yard: Yard, how: str) -> None:
    await yard.api.create(PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 10})
    await yard.add_node("n1")
    await yard.add_pod("holder", 8)
    await yard.bound("holder")
    await yard.add_pod("low", 6)
    await yard.add_pod("z-high", 6, priorityClassName="high")
    await yard.stuck("low", "z-high")
    # One that fits nowhere holds up no other.
    await yard.add_pod("small")
    await yard.bound("small")
    if how == "finish":
        await yard.finish("holder")
    else:
        await yard.api.delete(PODS, "holder", "default", grace_period_s=0)
    await yard.bound("z-high")
    assert await yard.node_of("low") == ""


async def test_of_one_second_the_first_to_come_goes_first(yard: Yard) -> None:
    await yard.add_node("n1")
    await yard.add_pod("holder", 8)
    await yard.bound("holder")
    for name in ("z-older", "a-newer"):
        await yard.add_pod(name, 8)
        await yard.stuck(name)
    await yard.finish("holder")
    await yard.bound("z-older")
    assert await yard.node_of("a-newer") == ""


async def test_a_terminating_pod_holds_what_it_has(yard: Yard) -> None:
    await yard.add_node("n1")
    await yard.add_pod("ending", 8)
    await yard.bound("ending")
    await yard.api.delete(PODS, "ending", "default", grace_period_s=30)
    await yard.add_pod("p", 1)
    await yard.stuck("p")
    assert await yard.node_of("p") == ""
    await yard.api.delete(PODS, "ending", "default", grace_period_s=0)
    await yard.bound("p")


async def test_a_burst_never_gets_more_than_there_is(yard: Yard) -> None:
    for node in ("n1", "n2"):
        await yard.add_node(node)
    names = [f"p{number:02}" for number in range(24)]
    await asyncio.gather(*(yard.add_pod(name, 1) for name in names))
    for name in names:
        await yard.until(PODS, name, lambda pod: "status" in condition(pod))
    nodes = {name: await yard.node_of(name) for name in names}
    assert Counter(nodes.values()) == {"n1": 8, "n2": 8, "": 8}
    placed = [name for name in names if nodes[name]]
    for name in placed[:8]:
        await yard.finish(name)
    await yard.bound(*names)


async def test_a_binding_counts_before_it_is_seen(yard: Yard) -> None:
    async def add_another(name: str) -> None:
        yard.api.before_bind = None
        yard.api.tells_bindings.clear()
        await yard.add_pod("q", 8)

    await yard.add_node("n1")
    yard.api.before_bind = add_another
    await yard.add_pod("p", 8)
    # The informer knows of q, and not yet of p's binding.
    await yard.stuck("q")
    assert await yard.node_of("p") == "n1"
    yard.api.tells_bindings.set()
    await yard.bound("p")
    await yard.finish("p")
    await yard.bound("q")


async def test_a_binding_that_fails_is_tried_again(yard: Yard) -> None:
    attempts = []

    async def fail_once(name: str) -> None:
        attempts.append(name)
        if len(attempts) == 1:
            raise errors.StorageFull("no space left on the yard's disk")

    yard.api.before_bind = fail_once
    await yard.add_node("n1")
    await yard.add_pod("p", 8)
    await yard.bound("p")
    assert attempts == ["p", "p"]


async def test_a_pod_that_vanishes_before_its_binding_frees_its_place(yard: Yard) -> None:
    async def vanish(name: str) -> None:
        if name == "ghost":
            await yard.api.delete(PODS, name, "default", grace_period_s=0)

    yard.api.before_bind = vanish
    await yard.add_pod("ghost", 8)
    await yard.stuck("ghost")
    await yard.add_node("n1")
    await yard.add_pod("p", 8)
    await yard.bound("p")
    assert await yard.node_of("p") == "n1"


async def test_a_pod_that_another_binds_counts_where_it_is(yard: Yard) -> None:
    async def bind_elsewhere(name: str) -> None:
        if name == "p":
            yard.api.before_bind = None
            await yard.api.bind("default", "p", "n2")

    yard.api.before_bind = bind_elsewhere
    await yard.add_node("n1")
    await yard.add_pod("p", 8)
    await yard.bound("p")
    assert await yard.node_of("p") == "n2"
    await yard.add_pod("q", 8)
    await yard.bound("q")
    assert await yard.node_of("q") == "n1"


async def test_a_bug_that_one_pod_trips_over_leaves_the_others_their_turn(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    trips = True

    async def before_bind(name: str) -> None:
        if name == "odd" and trips:
            raise KeyError("nobody thought of this")

    yard.api.before_bind = before_bind
    await yard.add_node("n1")
    await yard.add_pod("odd", 1)
    await yard.add_pod("plain", 1)
    await yard.bound("plain")
    await yard.add_pod("later", 1)
    await yard.bound("later")
    assert "nobody thought of this" in caplog.text
    trips = False
    await yard.bound("odd")


_HEAVY = {"weight": "heavy", "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}


@pytest.mark.parametrize(
    "spec",
    [
        {"overhead": {"cpu": "zebra"}},
        {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_HEAVY]}}},
    ],
    ids=["unreadable", "undecidable"],
)
async def test_a_pod_that_should_never_have_been_stored_leaves_the_others_their_turn(
    yard: Yard, spec: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    await yard.add_node("n1")
    pod = await yard.add_pod("before", 1)
    await yard.write({**pod, "metadata": {**pod["metadata"], "name": "odd"}, "spec": {**pod["spec"], **spec}})
    await yard.add_pod("later", 1)
    await yard.bound("before", "later")
    named = [r for r in caplog.records if "pods default/odd: set aside" in r.getMessage()]
    assert len(named) == 1


async def test_a_round_that_fails_loses_no_pod(idle: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [ValueError("a bug"), ValueError("a bug")]
    build = Snapshot.build

    def fails(nodes: Any, pods: Any) -> Snapshot:
        if failures:
            raise failures.pop()
        return build(nodes, pods)

    monkeypatch.setattr(Snapshot, "build", staticmethod(fails))
    monkeypatch.setattr("gpuyard.client.supervision._RETRY_S", 0.001)
    await idle.add_node("n1")
    await idle.add_pod("p", 2)
    informers = [Informer(idle.api, each) for each in (NODES, PODS, PERSISTENT_VOLUME_CLAIMS)]
    scheduler = Scheduler(idle.api, clock, *informers)
    keeping = informers[0].supervisor.keep("scheduler", scheduler.run)
    tasks = [asyncio.create_task(part) for part in (*(each.run() for each in informers), keeping)]
    await idle.bound("p")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not failures
