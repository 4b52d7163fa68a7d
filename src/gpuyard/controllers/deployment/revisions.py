"""Which ReplicaSet is of a Deployment's template, what a new one is like, and which old ones may go (pure).

Source: kubernetes `pkg/controller/deployment/sync.go` and `util/deployment_util.go`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import orjson

from gpuyard.controllers.adoption import controller_reference
from gpuyard.controllers.deployment.rolling import ReplicaBounds
from gpuyard.kube.objects import DEPLOYMENTS, REPLICA_SETS, Manifest, annotations_of, number_in, revision_of
from gpuyard.kube.wellknown import (
    ANNOTATION_DESIRED_REPLICAS,
    ANNOTATION_LAST_APPLIED,
    ANNOTATION_MAX_REPLICAS,
    ANNOTATION_REVISION,
    ANNOTATION_REVISION_HISTORY,
    LABEL_TEMPLATE_HASH,
)

_MAX_HISTORY_CHARACTERS = 2_000
_MAX_NAME_LENGTH = 253
#: Without vowels, as Kubernetes' own suffixes, so that no word forms by accident.
_NO_WORDS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")
#: Annotations that a ReplicaSet doesn't get from its Deployment.
_OWN = frozenset(
    (
        ANNOTATION_LAST_APPLIED, ANNOTATION_REVISION, ANNOTATION_REVISION_HISTORY,
        ANNOTATION_DESIRED_REPLICAS, ANNOTATION_MAX_REPLICAS, "deprecated.deployment.rollback.to",
    )
)  # fmt: skip


def current_of(deployment: Manifest, replica_sets: Sequence[Manifest]) -> Manifest | None:
    """The ReplicaSet of the Deployment's template, the oldest where there are several."""
    wanted = _without_hash(deployment["spec"]["template"])
    same = (one for one in replica_sets if _without_hash(one["spec"]["template"]) == wanted)
    return min(same, key=age_of, default=None)


def is_of(deployment: Manifest, replica_set: Manifest) -> bool:
    """Whether the ReplicaSet has the Deployment's template."""
    return current_of(deployment, [replica_set]) is not None


def age_of(manifest: Manifest) -> tuple[str, str]:
    """Sorts the older first."""
    return manifest["metadata"].get("creationTimestamp", ""), manifest["metadata"]["name"]


def new_replica_set(deployment: Manifest, revision: int, size: int, bounds: ReplicaBounds) -> Manifest:
    """A ReplicaSet of the Deployment's template, named after the digest of it.

    Kubernetes takes the digest of a Go structure: the same template has another name there.
    """
    metadata, spec = deployment["metadata"], deployment["spec"]
    template = deepcopy(spec["template"])
    collisions = (deployment.get("status") or {}).get("collisionCount", 0)
    digest = _digest(orjson.dumps([template, collisions], option=orjson.OPT_SORT_KEYS))
    labels = {**((template.get("metadata") or {}).get("labels") or {}), LABEL_TEMPLATE_HASH: digest}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    selector = deepcopy(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), LABEL_TEMPLATE_HASH: digest}
    made: Manifest = {
        "apiVersion": REPLICA_SETS.api_version,
        "kind": REPLICA_SETS.kind,
        "metadata": {
            "name": f"{metadata['name'][: _MAX_NAME_LENGTH - len(digest) - 1]}-{digest}",
            "namespace": metadata["namespace"],
            "labels": dict(labels),
            "ownerReferences": [controller_reference(DEPLOYMENTS, deployment)],
        },
        "spec": {"replicas": size, "selector": selector, "template": template},
    }
    if seconds := spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = seconds
    made["metadata"]["annotations"] = {
        **annotations_for(deployment, made, revision),
        **size_annotations(bounds),
    }
    return made


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:10].translate(_NO_WORDS)


def size_annotations(bounds: ReplicaBounds) -> dict[str, str]:
    """What a ReplicaSet says of its Deployment when it is scaled."""
    return {
        ANNOTATION_DESIRED_REPLICAS: str(bounds.wanted),
        ANNOTATION_MAX_REPLICAS: str(bounds.wanted + bounds.surge),
    }


def annotations_for(deployment: Manifest, replica_set: Manifest, revision: int) -> dict[str, str]:
    """Those of the ReplicaSet that is the newest as of `revision`: the Deployment's, and its number.

    One that becomes the newest again keeps the numbers that it had.
    """
    had = annotations_of(replica_set)
    result = {**had, **{k: v for k, v in annotations_of(deployment).items() if k not in _OWN}}
    former = revision_of(replica_set)
    if ANNOTATION_REVISION in had and number_in(replica_set, ANNOTATION_REVISION) is None:
        return result
    if former < revision:
        result[ANNOTATION_REVISION] = str(revision)
        if ANNOTATION_REVISION in had:
            result[ANNOTATION_REVISION_HISTORY] = _history(had, former)
    return result


def _history(annotations: Mapping[str, str], former: int) -> str:
    numbers = [*filter(None, annotations.get(ANNOTATION_REVISION_HISTORY, "").split(",")), str(former)]
    while len(text := ",".join(numbers)) > _MAX_HISTORY_CHARACTERS and len(numbers) > 1:
        numbers.pop(0)
    return text


def to_forget(deployment: Manifest, old: Sequence[Manifest]) -> list[Manifest]:
    """Old ReplicaSets beyond the limit of the history, of the lowest revisions, that have no pods."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    alive = [one for one in old if not one["metadata"].get("deletionTimestamp")]
    alive.sort(key=lambda one: (revision_of(one), age_of(one)))
    return [one for one in alive[: max(0, len(alive) - limit)] if _is_settled_at_none(one)]


def _is_settled_at_none(replica_set: Manifest) -> bool:
    status = replica_set.get("status") or {}
    return (
        not status.get("replicas")
        and replica_set["spec"].get("replicas", 1) == 0
        and status.get("observedGeneration", 0) >= replica_set["metadata"].get("generation", 0)
    )


def _without_hash(template: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != LABEL_TEMPLATE_HASH}
    return {**template, "metadata": {k: v for k, v in {**metadata, "labels": labels}.items() if v}}
