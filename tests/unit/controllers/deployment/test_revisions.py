"""Which ReplicaSet is of which template, and what is written on it."""

from __future__ import annotations

import copy
from typing import Any

from gpuyard.controllers.deployment.revisions import (
    annotations_for,
    current_of,
    new_replica_set,
    to_forget,
)
from gpuyard.controllers.deployment.rolling import ReplicaBounds

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"


def a_deployment(**metadata: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u", **metadata},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def test_a_new_one_has_the_digest_in_its_name_labels_and_selector() -> None:
    made = new_replica_set(a_deployment(), 2, 1, ReplicaBounds(3, 1))
    digest = made["metadata"]["name"].removeprefix("web-")
    assert len(digest) == 10
    labels = {"app": "web", "pod-template-hash": digest}
    assert made["metadata"]["labels"] == labels == made["spec"]["selector"]["matchLabels"]
    assert made["spec"]["template"]["metadata"]["labels"] == labels
    assert made["metadata"]["annotations"] == {
        REVISION: "2",
        "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_it_is_known_by_its_template_and_another_template_has_another_name() -> None:
    deployment = a_deployment()
    made = new_replica_set(deployment, 1, 1, ReplicaBounds(3))
    assert current_of(deployment, [made]) is made
    changed = copy.deepcopy(deployment)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "j"
    assert current_of(changed, [made]) is None
    other = new_replica_set(changed, 2, 1, ReplicaBounds(3))
    collided = new_replica_set({**deployment, "status": {"collisionCount": 1}}, 1, 1, ReplicaBounds(3))
    assert len({one["metadata"]["name"] for one in (made, other, collided)}) == 3


def test_one_that_is_the_newest_again_keeps_its_former_numbers() -> None:
    deployment = a_deployment(
        annotations={"why": "a", REVISION: "9", "kubectl.kubernetes.io/restartedAt": "b"}
    )
    one = {"metadata": {"annotations": {REVISION: "2", HISTORY: "1"}}}
    assert annotations_for(deployment, one, 5) == {
        "why": "a", "kubectl.kubernetes.io/restartedAt": "b", REVISION: "5", HISTORY: "1,2",
    }  # fmt: skip
    assert annotations_for(deployment, one, 1)[REVISION] == "2"
    long = {"metadata": {"annotations": {REVISION: "4", HISTORY: ",".join(["1000000000"] * 300)}}}
    assert len(annotations_for(deployment, long, 5)[HISTORY]) <= 2_000
    odd = {"metadata": {"annotations": {REVISION: "no number"}}}
    assert annotations_for(deployment, odd, 5)[REVISION] == "no number"


def test_the_oldest_are_forgotten_that_have_no_pods() -> None:
    def old(revision: int, *, size: int = 0, seen: int = 1) -> dict[str, Any]:
        metadata = {"name": f"r{revision}", "generation": 1, "annotations": {REVISION: str(revision)}}
        return {"metadata": metadata, "spec": {"replicas": size}, "status": {"observedGeneration": seen}}

    deployment = a_deployment()
    deployment["spec"]["revisionHistoryLimit"] = 1
    sets = [old(4), old(1, size=1), old(3, seen=0), old(2)]
    assert [one["metadata"]["name"] for one in to_forget(deployment, sets)] == ["r2"]
    deployment["spec"]["revisionHistoryLimit"] = 4
    assert to_forget(deployment, sets) == []
