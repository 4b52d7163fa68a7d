"""Taking a service back to the template of an earlier revision, as `kubectl rollout undo` does.

Source: kubernetes `staging/src/k8s.io/kubectl/pkg/polymorphichelpers/rollback.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import (
    DEPLOYMENTS,
    REPLICA_SETS,
    Manifest,
    annotations_of,
    controller_uid,
    revision_of,
    uid_of,
)
from gpuyard.kube.wellknown import ANNOTATION_SPEC, ANNOTATION_STOPPED_AT, LABEL_RUN, LABEL_TEMPLATE_HASH
from gpuyard.runs.services.rollout_watch import find_deployment
from gpuyard.runs.services.updating import OURS, change_deployment
from gpuyard.runs.submitting.services.decision import room_for
from gpuyard.runs.target import Target
from gpuyard.workloads.spec.service.stored import StoredSpec


async def rollback_service(target: Target, name: str, revision: int | None) -> int:
    """Has the service become what it was; gives the revision that it went back to.

    Args:
        target: where it is.
        name: of the service.
        revision: its number; None for the one before the present one.

    Raises:
        UsageError: there is no such service, or no such revision.
    """
    deployment = await find_deployment(target, name)
    selector = f"{LABEL_RUN}={name}"
    listed = (await target.api.list(REPLICA_SETS, target.namespace, label_selector=selector)).items
    own = [rs for rs in listed if controller_uid(rs, DEPLOYMENTS) == uid_of(deployment)]
    former = choose_revision(deployment, own, revision)
    has_room = bool(await room_for(target, former, 1))
    await change_deployment(target, name, lambda live: taken_back(live, former, has_room=has_room))
    return revision_of(former)


def choose_revision(deployment: Manifest, replica_sets: Sequence[Manifest], wanted: int | None) -> Manifest:
    """The ReplicaSet with the template to go back to.

    Raises:
        UsageError: there is none.
    """
    name, current = deployment["metadata"]["name"], revision_of(deployment)
    there = {revision_of(rs): rs for rs in replica_sets if revision_of(rs) not in (0, current)}
    if wanted is None:
        # An update that has just been asked for has no number yet.
        earlier = [number for number in there if number < current]
        if not earlier:
            raise errors.UsageError(
                f"service {name!r} has no earlier revision", remedy=f"`gpuyard update {name}` makes a new one"
            )
        return there[max(earlier)]
    if wanted == current:
        raise errors.UsageError(f"service {name!r} is at revision {current}", remedy="there is nothing to do")
    if wanted not in there:
        numbers = ", ".join(map(str, sorted(there))) or "none"
        raise errors.UsageError(
            f"service {name!r} has no revision {wanted}",
            remedy=f"there are, besides the present {current}: {numbers}",
        )
    return there[wanted]


def taken_back(live: Manifest, former: Manifest, *, has_room: bool) -> Manifest:
    """The Deployment with the template, and the annotations of ours, that it had then. How many replicas
    there are, and what decides it, stays, and so does the port of its address.

    Args:
        live: as it is.
        former: the ReplicaSet to go back to.
        has_room: whether a replica more has a place now; else one goes before the other comes, unless the
            service's own keys say how it is updated.
    """
    template: dict[str, Any] = former["spec"]["template"]
    labels = {key: text for key, text in template["metadata"]["labels"].items() if key != LABEL_TEMPLATE_HASH}
    template = {**template, "metadata": {**template["metadata"], "labels": labels}}
    annotations = {k: text for k, text in annotations_of(live).items() if not _is_of_template(k)}
    annotations |= {k: text for k, text in annotations_of(former).items() if _is_of_template(k)}
    then, now = StoredSpec.of(former), StoredSpec.of(live)
    spec = {**live["spec"], "template": template}
    if now and not now.says_how_to_update:
        rolling = {"maxSurge": int(has_room), "maxUnavailable": int(not has_room)}
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    if then and now:
        annotations[ANNOTATION_SPEC] = then.with_scaling_of(now).annotation
    return {
        **live,
        "metadata": {**live["metadata"], "annotations": annotations},
        "spec": spec,
    }


def _is_of_template(annotation: str) -> bool:
    """Whether it says where a template came from; that the service was stopped is of no template."""
    return annotation.startswith(OURS) and annotation != ANNOTATION_STOPPED_AT
