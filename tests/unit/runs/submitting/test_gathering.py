"""What gathers the pods of a run, by what API servers say of themselves."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any, cast

import pytest

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import ACCESS_REVIEWS, LOCAL_QUEUES, Manifest, Resource
from gpuyard.runs.submitting.submit import with_gathering
from gpuyard.runs.target import Target
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.run_spec import RunSpec

V1BETA1 = "/apis/scheduling.k8s.io/v1beta1"
#: As Kubernetes 1.37.2 answers with --runtime-config and the gate GenericWorkload, and without the gate.
WITH_GROUPS = ("podgroups", "podgroups/status", "workloads")
PLAIN = ("priorityclasses",)


class Server:
    """Says what it serves, and what whoever asks may do."""

    def __init__(self, *served: str, allowed: bool = True, queue: bool = False) -> None:
        self.served, self.allowed, self.queue = served, allowed, queue
        self.asked: list[str] = []

    async def get_path(self, path: str) -> Manifest:
        self.asked.append(path)
        if path != V1BETA1 or not self.served:
            raise errors.NotFound(f"{path}: the server could not find the requested resource")
        return {"kind": "APIResourceList", "resources": [{"name": name} for name in self.served]}

    async def get(self, resource: Resource, name: str, namespace: str) -> Manifest:
        if self.queue and resource == LOCAL_QUEUES[0]:
            return {"metadata": {"name": name, "namespace": namespace}}
        raise errors.NotFound(f"{resource.qualified} {name} not found")

    async def create(self, resource: Resource, review: Manifest) -> Manifest:
        assert resource == ACCESS_REVIEWS
        attributes = review["spec"]["resourceAttributes"]
        self.asked.append(" ".join(filter(None, attributes.values())))
        return {**review, "status": {"allowed": self.allowed}}


async def gathered(server: Server, *, is_yard: bool = False, **spec: Any) -> tuple[ResolvedRun, list[str]]:
    run = ResolvedRun(RunSpec(run=("true",), image="i:1", **{"nodes": 4, **spec}), "train", "ml", image="i:1")
    said: list[str] = []
    target = Target(cast("RestApi", server), "ml", is_yard=is_yard)
    return await with_gathering(target, run, lambda notice: said.append(notice.text)), said


async def test_the_scheduler_where_it_knows_groups() -> None:
    server = Server(*WITH_GROUPS)
    run, said = await gathered(server)
    assert run.has_pod_group and not run.is_queued
    assert said == ["the scheduler starts all 4 pods or none"]
    assert server.asked == [V1BETA1, "create scheduling.k8s.io podgroups ml"]


async def test_of_an_elastic_run_it_starts_the_least() -> None:
    run, said = await gathered(Server(*WITH_GROUPS), least_nodes=2)
    assert run.has_pod_group
    assert said == ["the scheduler starts 2 of the 4 pods or none, and the others when they fit"]


@pytest.mark.parametrize("served", [(), PLAIN])
async def test_the_launchers_elsewhere(served: tuple[str, ...]) -> None:
    run, said = await gathered(Server(*served), start_within=timedelta(minutes=5))
    assert not run.has_pod_group
    assert said == ["the pods wait for one another, 5m at most"]


async def test_the_launchers_for_who_may_make_no_groups() -> None:
    run, said = await gathered(Server(*WITH_GROUPS, allowed=False))
    assert not run.has_pod_group
    assert said == [
        "the pods wait for one another, 10m at most: the scheduler starts all or none only for who may "
        "create PodGroups (gpuyard-submitter)"
    ]


async def test_kueue_where_it_has_a_queue() -> None:
    server = Server(*WITH_GROUPS, queue=True)
    run, said = await gathered(server)
    assert run.is_queued and not run.has_pod_group
    assert said == ["Kueue lets all 4 pods in, or none"]
    assert server.asked == [V1BETA1]


async def test_one_pod_needs_no_others() -> None:
    server = Server(*WITH_GROUPS, queue=True)
    run, said = await gathered(server, nodes=1)
    assert run == dataclasses.replace(run, is_queued=True, has_pod_group=False)
    assert (said, server.asked) == ([], [])


async def test_a_yard_is_not_asked() -> None:
    server = Server(*WITH_GROUPS, queue=True)
    run, said = await gathered(server, is_yard=True)
    assert not run.is_queued and not run.has_pod_group
    assert (said, server.asked) == ([], [])
