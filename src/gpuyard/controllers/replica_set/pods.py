"""Whose a pod is, and the pod that a ReplicaSet's template makes (pure).

Source: kubernetes `pkg/controller/controller_ref_manager.go` and `controller_utils.go` (GetPodFromTemplate).
"""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

from gpuyard.kube.names import random_suffix
from gpuyard.kube.objects import PODS, REPLICA_SETS, Manifest, Resource, labels_of, uid_of
from gpuyard.kube.selectors import Selector

_SUFFIX_LENGTH = 5
#: As `generateName` cuts it: prefix and suffix are a label of DNS.
_MAX_PREFIX_LENGTH = 63 - _SUFFIX_LENGTH


def pod_of(replica_set: Manifest, rng: random.Random) -> Manifest:
    """A new pod, named here so that the controller knows it again even if the server's answer is lost."""
    template = deepcopy(replica_set["spec"]["template"])
    given = template.get("metadata") or {}
    prefix = f"{replica_set['metadata']['name']}-"[:_MAX_PREFIX_LENGTH]
    metadata: dict[str, Any] = {
        "name": prefix + random_suffix(rng, _SUFFIX_LENGTH),
        "generateName": prefix,
        "namespace": replica_set["metadata"]["namespace"],
        "labels": dict(given.get("labels") or {}),
        "annotations": dict(given.get("annotations") or {}),
        "ownerReferences": [controller_reference(REPLICA_SETS, replica_set)],
    }
    if finalizers := given.get("finalizers"):
        metadata["finalizers"] = list(finalizers)
    return {
        "apiVersion": PODS.api_version,
        "kind": PODS.kind,
        "metadata": metadata,
        "spec": template["spec"],
    }


def controller_reference(resource: Resource, owner: Manifest) -> dict[str, Any]:
    """The owner reference by which an object controls another."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def adoption(resource: Resource, owner: Manifest, orphan: Manifest) -> dict[str, Any]:
    """The strategic merge patch by which an owner takes on an object that nobody controls."""
    references = [controller_reference(resource, owner)]
    return {"metadata": {"uid": uid_of(orphan), "ownerReferences": references}}


def release(owner_uid: str, owned: Manifest) -> dict[str, Any]:
    """The strategic merge patch by which an owner lets go of an object that its selector doesn't match."""
    references = [{"$patch": "delete", "uid": owner_uid}]
    return {"metadata": {"uid": uid_of(owned), "ownerReferences": references}}


def selects(owner: Manifest, manifest: Manifest) -> bool:
    """Whether the owner's selector matches the object; an empty one matches none."""
    selector = owner["spec"].get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        return False
    return Selector.of(selector).matches(labels_of(manifest))
