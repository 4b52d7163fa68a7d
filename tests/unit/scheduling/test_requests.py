from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.objects import ObjectKey
from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.requests import NodeTerm, PodRequest, effective_limits, effective_requests

GPU = "nvidia.com/gpu"


def container(restart: str = "", **requests: str | float) -> dict[str, Any]:
    named = {GPU if name == "gpu" else name: amount for name, amount in requests.items()}
    return {"resources": {"requests": named}, **({"restartPolicy": restart} if restart else {})}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"containers": [{}]}, {}, id="nothing asked for"),
        pytest.param(
            {"containers": [container(cpu="1500m", memory="1Gi", gpu="2"), container(cpu="1", memory="1G")]},
            {"cpu": 2500, "memory": 2**30 + 10**9, GPU: 2},
            id="containers add up",
        ),
        pytest.param({"containers": [container(cpu=0.1, gpu=1)]}, {"cpu": 100, GPU: 1}, id="numbers"),
        pytest.param({"containers": [container(cpu="100u")]}, {"cpu": 1}, id="rounded up"),
        pytest.param({"containers": [container(cpu="0", memory="0")]}, {}, id="zero is not a request"),
        pytest.param(
            {"containers": [{"resources": {"limits": {GPU: "4", "cpu": "2"}, "requests": {"cpu": "1"}}}]},
            {"cpu": 1000, GPU: 4},
            id="a limit without a request counts",
        ),
        pytest.param(
            {
                "containers": [container(cpu="1", memory="1Gi")],
                "initContainers": [container(cpu="3"), container(cpu="2", memory="512Mi")],
            },
            {"cpu": 3000, "memory": 2**30},
            id="the largest init container, not their sum",
        ),
        pytest.param(
            {
                "containers": [container(cpu="1")],
                "initContainers": [container(cpu="2"), container("Always", cpu="1"), container(cpu="2")],
            },
            {"cpu": 3000},
            id="a sidecar runs beside what comes after it",
        ),
        pytest.param(
            {"containers": [container(cpu="5")], "initContainers": [container("Always", cpu="1")]},
            {"cpu": 6000},
            id="a sidecar runs beside the containers",
        ),
        pytest.param(
            {
                "containers": [container(cpu="1")],
                "initContainers": [container(cpu="2")],
                "overhead": {"cpu": "250m", "memory": "16Mi"},
            },
            {"cpu": 2250, "memory": 16 * 2**20},
            id="overhead comes on top",
        ),
    ],
)
def test_effective_requests(spec: dict[str, Any], expected: dict[str, int]) -> None:
    assert effective_requests(spec) == {**expected, "pods": 1}


def test_reads_everything_that_placement_needs() -> None:
    expression = {"key": "zone", "operator": "NotIn", "values": ["b"]}
    node_affinity = {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [expression],
                    "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}],
                }
            ]
        },
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 7, "preference": {"matchExpressions": [expression]}}
        ],
    }
    manifest = {
        "metadata": {
            "namespace": "ml",
            "name": "train-0",
            "uid": "u1",
            "labels": {"gpuyard.io/run": "train"},
            "creationTimestamp": "2026-01-31T12:00:00Z",
            "deletionTimestamp": "2026-01-31T13:00:00Z",
        },
        "spec": {
            "containers": [container(gpu="1")],
            "nodeName": "n1",
            "nodeSelector": {"disk": "ssd"},
            "affinity": {"nodeAffinity": node_affinity},
            "tolerations": [{"operator": "Exists"}],
            "priority": 5,
        },
        "status": {"startTime": "2026-01-31T12:00:05Z"},
    }
    zone = Requirement("zone", "NotIn", ("b",))
    assert PodRequest.of(manifest) == PodRequest(
        key=ObjectKey("ml", "train-0"),
        uid="u1",
        resources={GPU: 1, "pods": 1},
        node_name="n1",
        selector=(Requirement("disk", "In", ("ssd",)),),
        affinity=(NodeTerm((zone,), (Requirement("metadata.name", "In", ("n1",)),)),),
        preferred=((7, NodeTerm((zone,))),),
        tolerations=({"operator": "Exists"},),
        priority=5,
        created="2026-01-31T12:00:00Z",
        since="2026-01-31T12:00:05Z",
        run="train",
        ending=True,
    )


def test_a_pod_that_has_not_started_holds_since_it_was_created() -> None:
    metadata = {"name": "p", "creationTimestamp": "2026-01-31T12:00:00Z"}
    assert PodRequest.of({"metadata": metadata, "spec": {}}).since == "2026-01-31T12:00:00Z"


def test_a_template_asks_for_what_its_pods_will() -> None:
    job = {
        "metadata": {"namespace": "ml", "name": "train"},
        "spec": {
            "template": {
                "metadata": {"labels": {"gpuyard.io/run": "train"}},
                "spec": {"containers": [{"resources": {"limits": {GPU: "2"}}}]},
            }
        },
    }
    request = PodRequest.of_template(job)
    assert (request.key, request.run) == (ObjectKey("ml", "train"), "train")
    assert request.resources == {GPU: 2, "pods": 1}


def test_an_empty_term_matches_nothing() -> None:
    assert not NodeTerm().matches("n1", {"a": "b"})


@pytest.mark.parametrize(
    ("owner", "labels", "holder"),
    [
        (None, {}, ("pod", "p")),
        (None, {"gpuyard.io/run": "train"}, ("run", "train")),
        (("Job", "nightly"), {}, ("job", "nightly")),
        (("Job", "train"), {"gpuyard.io/run": "train"}, ("run", "train")),
        (("ReplicaSet", "web-5d4f"), {"pod-template-hash": "5d4f"}, ("deployment", "web")),
        (("ReplicaSet", "web"), {}, ("replicaset", "web")),
        (("StatefulSet", "db"), {}, ("statefulset", "db")),
        (("Node", "n1"), {}, ("pod", "p")),
    ],
)
def test_what_people_would_stop_to_end_a_pod(
    owner: tuple[str, str] | None, labels: dict[str, str], holder: tuple[str, str]
) -> None:
    owners = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    metadata = {"name": "p", "namespace": "d", "labels": labels, "ownerReferences": owners}
    assert PodRequest.of({"metadata": metadata, "spec": {"containers": []}}).holder == holder


def test_limits_count_apart_from_requests() -> None:
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    spec = {"containers": [{"resources": resources}, {"resources": {"requests": {"memory": "1Gi"}}}]}
    assert effective_limits(spec) == {"cpu": 2000, "memory": 2**30}
    assert effective_requests(spec)["cpu"] == 1000
