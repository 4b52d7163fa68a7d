"""Services on the API of a yard on which nothing runs: found by name, stopped, removed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gpuyard import errors
from gpuyard.autoscaling.reason import ScalingReason
from gpuyard.client.events import EventRecorder
from gpuyard.kube.objects import AUTOSCALERS, DEPLOYMENTS, JOBS, PODS, SERVICES, Manifest, uid_of
from gpuyard.kube.wellknown import ANNOTATION_SCALING, METRIC_IN_FLIGHT
from gpuyard.runs.meant import find_all_meant, find_meant, find_meant_pod
from gpuyard.runs.run import find_meant_run
from gpuyard.runs.services.explaining import explain_service, scaling_lines, why_deaf
from gpuyard.runs.services.replicas import scale_service
from gpuyard.runs.services.service import Service, find_service, list_services, make_service
from gpuyard.runs.services.service_description import describe_service
from gpuyard.runs.services.stopping import remove_service, stop_service, wait_until_stopped
from gpuyard.runs.target import Target
from gpuyard.workloads.serving.service_state import Phase, is_stopped

CONTAINER = {
    "name": "main",
    "image": "gpuyard.io/host-process",
    "command": ["true"],
    "ports": [{"name": "http", "containerPort": 8000}],
}
POD_SPEC = {"runtimeClassName": "gpuyard-process", "containers": [CONTAINER]}


async def deployed(target: Target, name: str, replicas: int = 2) -> Manifest:
    labels = {"gpuyard.io/run": name}
    template = {"metadata": {"labels": labels}, "spec": POD_SPEC}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    raw = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels}}
    return await target.api.create(DEPLOYMENTS, {**raw, "spec": spec}, "default")


async def run_made(target: Target, name: str) -> None:
    labels = {"gpuyard.io/run": name}
    spec = {"template": {"metadata": {"labels": labels}, "spec": {**POD_SPEC, "restartPolicy": "Never"}}}
    raw = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels}}
    await target.api.create(JOBS, {**raw, "spec": spec}, "default")


async def replica_made(target: Target, name: str, service: str, owner: str = "ReplicaSet") -> None:
    reference = {"apiVersion": "apps/v1", "kind": owner, "name": "x", "uid": "u", "controller": True}
    metadata = {"name": name, "labels": {"gpuyard.io/run": service}, "ownerReferences": [reference]}
    raw = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": POD_SPEC}
    await target.api.create(PODS, raw, "default")


async def the_service(target: Target, name: str) -> Service:
    found = await find_service(target, name)
    assert found is not None
    return found


async def test_a_name_means_a_run_or_a_service(target: Target) -> None:
    await run_made(target, "train")
    await deployed(target, "serve")
    assert isinstance(await find_meant(target, "serve"), Service)
    assert isinstance(await find_meant(target, "se"), Service)
    assert (await find_meant(target, "tr")).name == "train"
    assert {one.name for one in await find_all_meant(target, ["serve", "train", "serve"])} == {
        "serve",
        "train",
    }
    with pytest.raises(errors.UsageError, match="no run or service 'serv3' in namespace default") as raised:
        await find_meant(target, "serv3")
    assert "did you mean serve?" in raised.value.remedy


async def test_a_beginning_that_both_have_says_so(target: Target) -> None:
    await run_made(target, "model-a")
    await deployed(target, "model-b")
    with pytest.raises(errors.UsageError, match="2 runs or services"):
        await find_meant(target, "model")


async def test_what_is_for_runs_says_so_of_a_service(target: Target) -> None:
    await deployed(target, "serve")
    with pytest.raises(errors.UsageError, match="serve is a service, and this is for runs"):
        await find_meant_run(target, "serve")
    with pytest.raises(errors.GpuyardError, match="no such replica of serve runs"):
        await find_meant_pod(target, "serve", None)
    with pytest.raises(errors.UsageError, match="serve has 0 replicas"):
        await find_meant_pod(target, "serve", 0)


async def test_pods_of_others_are_no_replicas(target: Target) -> None:
    await deployed(target, "serve")
    await replica_made(target, "serve-1", "serve")
    await replica_made(target, "serve-2", "serve", owner="Job")
    await replica_made(target, "other-1", "other")
    [found] = await list_services(target)
    assert [pod["metadata"]["name"] for pod in found.pods] == ["serve-1"]
    described = (await describe_service(target, found)).to_json()
    assert described["replicas"]["wanted"] == 2
    assert [one["pod"] for one in described["pods"]] == ["serve-1"]


async def test_explain_names_the_replica_that_waits(target: Target) -> None:
    await deployed(target, "serve")
    await replica_made(target, "serve-1", "serve")
    answer = await explain_service(target, await the_service(target, "serve"))
    text = "\n".join(answer.lines())
    assert text.startswith("serve: starting: 0/2 replicas ready")
    assert "serve-1" in text
    assert answer.to_json()["unready"]["pod"] == "serve-1"


async def test_a_stopped_service_keeps_its_objects(target: Target) -> None:
    await deployed(target, "serve")
    assert await stop_service(target, await the_service(target, "serve"))
    stopped = await the_service(target, "serve")
    assert (stopped.state.phase, stopped.state.wanted) == (Phase.STOPPED, 0)
    await wait_until_stopped(target, stopped)
    assert not await stop_service(target, stopped)


async def test_removing_waits_for_what_it_had(target: Target) -> None:
    made = await deployed(target, "serve", 0)
    await remove_service(target, await the_service(target, "serve"))
    assert await find_service(target, "serve") is None
    again = await deployed(target, "serve", 0)
    assert uid_of(again) != uid_of(made)


@pytest.mark.parametrize("name", ["a b", "", "x" * 80])
async def test_what_can_be_no_name_is_none(target: Target, name: str) -> None:
    assert await find_service(target, name) is None


def scaler(kind: str, **spec: object) -> Manifest:
    reference = {"name": "serve"} | ({"kind": "Deployment"} if kind == "HorizontalPodAutoscaler" else {})
    return {
        "kind": kind,
        "metadata": {"name": "x", "namespace": "default"},
        "spec": {"scaleTargetRef": reference, **spec},
    }


@pytest.mark.parametrize(
    ("scalers", "bounds"),
    [
        ([], (None, None)),
        ([scaler("HorizontalPodAutoscaler", maxReplicas=4)], (1, 4)),
        ([scaler("HorizontalPodAutoscaler", minReplicas=0, maxReplicas=4)], (0, 4)),
        ([scaler("ScaledObject")], (0, 100)),
        # KEDA's own autoscaler says 1 where the ScaledObject says 0.
        (
            [scaler("ScaledObject", maxReplicaCount=3), scaler("HorizontalPodAutoscaler", maxReplicas=3)],
            (0, 3),
        ),
    ],
)
async def test_what_scales_a_service_says_between_what(
    target: Target, scalers: list[Manifest], bounds: tuple[int | None, int | None]
) -> None:
    made = make_service(target, await deployed(target, "serve"), [], scalers=scalers)
    assert (made.state.least, made.state.most) == bounds
    assert (made.autoscaler is not None) == any("maxReplicas" in one["spec"] for one in scalers)


def test_what_scales_a_service_says_why_and_how_many_fit(target: Target) -> None:
    reason = ScalingReason(5, 5, "in_flight", "19 in flight, target 4 each")
    autoscaler = {"metadata": {"annotations": {ANNOTATION_SCALING: reason.to_text()}}}
    pods = [{"metadata": {"name": str(n)}, "spec": {"nodeName": "a"} if n < 3 else {}} for n in range(5)]
    deployment = {
        "metadata": {"name": "serve", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [CONTAINER]}}},
    }
    state = make_service(target, deployment, []).state
    service = Service("serve", deployment, pods, state, autoscaler)
    assert scaling_lines(service) == ["wants 5: 19 in flight, target 4 each; 3 fit, 2 wait for a place"]


async def front_made(target: Target, name: str) -> Manifest:
    spec = {"selector": {"gpuyard.io/run": name}, "ports": [{"port": 8000}]}
    metadata = {"name": name, "labels": {"gpuyard.io/run": name}}
    raw = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    return await target.api.create(SERVICES, raw, "default")


@pytest.mark.parametrize(("age_s", "is_told"), [(0, True), (600, False)])
async def test_why_nobody_listens_is_told_as_long_as_its_proxy_says_so(
    target: Target, age_s: int, is_told: bool
) -> None:
    await deployed(target, "serve")
    front = await front_made(target, "serve")
    now = datetime.now(UTC) - timedelta(seconds=age_s)
    await EventRecorder(target.api, "service-proxy", lambda: now).record(
        {**front, "apiVersion": "v1", "kind": "Service"}, "Warning", "PortTaken", "another program listens"
    )
    service = await the_service(target, "serve")
    assert service.state.address == f"http://{front['spec']['clusterIP']}:8000"
    assert await why_deaf(target, service) == ("another program listens" if is_told else "")
    lines = (await explain_service(target, service)).lines()
    assert any("nobody listens at http://127." in line for line in lines) == is_told


async def test_a_stopped_one_that_its_load_scales_is_brought_back(target: Target) -> None:
    await deployed(target, "serve")
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "serve"}
    metric = {"metric": {"name": METRIC_IN_FLIGHT}, "target": {"type": "AverageValue", "averageValue": "4"}}
    metadata = {"name": "serve", "labels": {"gpuyard.io/run": "serve"}}
    spec = {"scaleTargetRef": scaled, "maxReplicas": 8, "metrics": [{"type": "Pods", "pods": metric}]}
    await target.api.create(AUTOSCALERS, {"metadata": metadata, "spec": spec}, "default")
    with pytest.raises(errors.UsageError, match="the load of service 'serve' decides") as raised:
        await scale_service(target, "serve", 5)
    assert "update serve --replicas 5" in raised.value.remedy
    await stop_service(target, await the_service(target, "serve"))
    with pytest.raises(errors.UsageError, match="the load") as raised:
        await scale_service(target, "serve", 0)
    assert "gpuyard stop serve" in raised.value.remedy
    assert await scale_service(target, "serve", 3) == 0
    back = await the_service(target, "serve")
    assert (back.state.wanted, back.state.phase) == (3, Phase.STARTING)
    assert not is_stopped(back.deployment)
