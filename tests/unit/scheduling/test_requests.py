from __future__ import annotations

import pytest

from gpuyard.kube.objects import ObjectKey
from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.requests import NodeTerm, PodRequest

GPU = "nvidia.com/gpu"


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
            "containers": [{"resources": {"requests": {GPU: "1"}}}],
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
