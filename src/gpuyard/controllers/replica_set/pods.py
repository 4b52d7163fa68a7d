"""The pod that a ReplicaSet's template makes (pure).

Source: kubernetes `pkg/controller/controller_utils.go` (GetPodFromTemplate).
"""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

from gpuyard.controllers.adoption import controller_reference
from gpuyard.kube.names import random_suffix
from gpuyard.kube.objects import PODS, REPLICA_SETS, Manifest

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
