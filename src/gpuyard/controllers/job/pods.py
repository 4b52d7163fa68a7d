"""The pod that a Job's template makes (pure).

Source: Kubernetes 1.34 `pkg/controller/job` and `controller_utils.go` GetPodFromTemplate.
"""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

from gpuyard.controllers.adoption import controller_reference
from gpuyard.controllers.owned_pods.view import IndexFailures
from gpuyard.kube.names import random_suffix
from gpuyard.kube.objects import JOBS, PODS, Manifest, uid_of
from gpuyard.kube.wellknown import (
    ANNOTATION_COMPLETION_INDEX,
    ANNOTATION_INDEX_FAILURES,
    ANNOTATION_INDEX_IGNORED,
    FINALIZER_JOB_TRACKING,
    LABEL_JOB_NAME,
    LABEL_JOB_UID,
)

_SUFFIX_LENGTH = 5
#: A pod's name is also its host name: one label of DNS.
_MAX_PREFIX_LENGTH = 63 - _SUFFIX_LENGTH


def pod_of(
    job: Manifest, index: int | None, rng: random.Random, failures: IndexFailures | None = None
) -> Manifest:
    """A new pod of this Job, for a completion index or for none.

    It is named here, not by the server, so that the controller can tell it from a pod of another try
    even when the answer to the create never arrives.

    Args:
        job: its Job.
        index: the completion index.
        rng: for the name.
        failures: of that index so far, where each has a limit of its own.
    """
    name, uid = job["metadata"]["name"], uid_of(job)
    template = deepcopy(job["spec"]["template"])
    given = template.get("metadata") or {}
    metadata: dict[str, Any] = {
        "name": (pod_name := _pod_name(name, index, rng)),
        "generateName": pod_name[:-_SUFFIX_LENGTH],
        "namespace": job["metadata"]["namespace"],
        "labels": {
            **(given.get("labels") or {}),
            LABEL_JOB_NAME: name,
            LABEL_JOB_UID: uid,
            "job-name": name,
            "controller-uid": uid,
        },
        "annotations": dict(given.get("annotations") or {}),
        "finalizers": list(dict.fromkeys([*(given.get("finalizers") or ()), FINALIZER_JOB_TRACKING])),
        "ownerReferences": [controller_reference(JOBS, job)],
    }
    spec = template["spec"]
    if index is not None:
        metadata["annotations"][ANNOTATION_COMPLETION_INDEX] = str(index)
        metadata["labels"][ANNOTATION_COMPLETION_INDEX] = str(index)
        spec["hostname"] = f"{name}-{index}"
        for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
            _add_index_variable(container)
    if failures is not None:
        metadata["annotations"][ANNOTATION_INDEX_FAILURES] = str(failures.counted)
        if failures.ignored:
            metadata["annotations"][ANNOTATION_INDEX_IGNORED] = str(failures.ignored)
    return {"apiVersion": PODS.api_version, "kind": PODS.kind, "metadata": metadata, "spec": spec}


def _pod_name(job: str, index: int | None, rng: random.Random) -> str:
    tail = "-" if index is None else f"-{index}-"
    stem = job[: _MAX_PREFIX_LENGTH - len(tail)].rstrip(".-")
    return stem + tail + random_suffix(rng, _SUFFIX_LENGTH)


def _add_index_variable(container: dict[str, Any]) -> None:
    env = container.setdefault("env", [])
    if not any(variable.get("name") == "JOB_COMPLETION_INDEX" for variable in env):
        field = f"metadata.labels['{ANNOTATION_COMPLETION_INDEX}']"
        env.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": field}}})
