"""Changing a service: its objects are rendered anew, and the Deployment's controller takes replica after
replica to the new template. Newer changes win over older ones that are still under way."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.kube.objects import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    SCALED_OBJECTS,
    Manifest,
    Resource,
    annotations_of,
    labels_of,
)
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import (
    ANNOTATION_RESTARTED_AT,
    ANNOTATION_SCALE_TO_ZERO,
    ANNOTATION_STOPPED_AT,
    LABEL_RUN,
)
from gpuyard.runs.notices import Notify
from gpuyard.runs.services.rollout_watch import find_deployment
from gpuyard.runs.services.stopping import KEDA_PAUSED
from gpuyard.runs.submitting.creation import owner_reference, resource_of
from gpuyard.runs.submitting.services.decision import decide_service
from gpuyard.runs.submitting.submit import fit_to_nodes, prepared
from gpuyard.runs.target import Target
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.service.stored import StoredSpec
from gpuyard.workloads.spec.service.values import ServiceSpec

_TRIES = 10
#: Annotations of ours begin so; those of others stay as they are.
OURS = "gpuyard.io/"
#: An annotation that goes where the new object has none: a merge patch leaves what it doesn't name.
_OURS_ALONE = {SCALED_OBJECTS: KEDA_PAUSED, AUTOSCALERS: ANNOTATION_SCALE_TO_ZERO}


async def stored_spec(target: Target, name: str) -> StoredSpec:
    """What the service was made of.

    Raises:
        UsageError: there is no such service, or it doesn't say.
    """
    if found := StoredSpec.of(await find_deployment(target, name)):
        return found
    raise errors.UsageError(
        f"service {name!r} doesn't say what it was made of: `gpuyard serve` didn't make it",
        remedy=advice("give its whole spec: -f FILE"),
    )


async def update_service(
    target: Target,
    run: ResolvedRun,
    notify: Notify,
    *,
    environ: Mapping[str, str],
    wait: bool = False,
    read_as: str = "",
) -> None:
    """Has the service become this one; its pods follow.

    Args:
        target: where it is.
        run: as it is to be.
        notify: hears of what its user may not expect.
        environ: the caller's, with what is said of registries.
        wait: also where no node could ever run it.
        read_as: the image's name here, where nodes know it by another.

    Raises:
        UsageError: there is no such service, or the new one would never run.
    """
    running = int((await find_deployment(target, run.name))["spec"].get("replicas", 1))
    fitted = await fit_to_nodes(target, run, notify, environ=environ, refuse=not wait, read_as=read_as)
    decided = await decide_service(target, fitted, notify, environ, running=running)
    manifests = render(dataclasses.replace(decided, submitted_at=datetime.now(UTC)))
    async with prepared(target, decided, manifests, notify) as objects:
        *others, deployment = objects
        owner = owner_reference(
            {**await find_deployment(target, run.name), "kind": DEPLOYMENTS.kind, "apiVersion": "apps/v1"}
        )
        for manifest in others:
            await _bring(target, manifest, owner)
        await _drop_other_scalers(target, run.name, {manifest["kind"] for manifest in others})
        service, now = decided.spec.service, format_time(datetime.now(UTC))
        assert service is not None
        await change_deployment(target, run.name, lambda live: renewed(live, deployment, service, now))


async def change_deployment(target: Target, name: str, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Writes what `change` makes of the Deployment as it is; again where somebody else wrote meanwhile.

    Raises:
        Conflict: somebody writes all the time.
    """
    for _ in range(_TRIES):
        live = await find_deployment(target, name)
        with contextlib.suppress(errors.Conflict):
            return await target.api.update(DEPLOYMENTS, change(live))
    raise errors.Conflict(f"somebody else changes service {name!r} all the time; try again")


def renewed(live: Manifest, wanted: Manifest, service: ServiceSpec, now: str) -> Manifest:
    """The Deployment as it is to be: what others wrote on it stays, and so does a number of replicas that its
    load decided.

    Who asks for an update without any change means what its spec doesn't show: files that its program reads
    when it starts, or another image under the same tag. So its replicas are replaced, as by `kubectl rollout
    restart`.
    """
    others = {key: text for key, text in annotations_of(live).items() if not key.startswith(OURS)}
    metadata = live["metadata"] | {
        "labels": {**labels_of(live), **labels_of(wanted)},
        "annotations": {**others, **annotations_of(wanted)},
    }
    spec = dict(wanted["spec"])
    template = dict(spec["template"])
    began = annotations_of(live["spec"]["template"]).get(ANNOTATION_RESTARTED_AT)
    before, after = StoredSpec.of(live), StoredSpec.of(wanted)
    if before and after and before.is_like(after):
        began = now
    if began:
        marked = {**annotations_of(template), ANNOTATION_RESTARTED_AT: began}
        spec["template"] = {**template, "metadata": {**template.get("metadata", {}), "annotations": marked}}
    # One that was stopped begins anew.
    if service.is_scaled and ANNOTATION_STOPPED_AT not in annotations_of(live):
        least = 0 if service.scale_to_zero is not None else service.least
        spec["replicas"] = min(max(int(live["spec"].get("replicas", 1)), least), service.most)
    return {**live, "metadata": metadata, "spec": spec}


async def _bring(target: Target, manifest: Manifest, owner: Manifest) -> None:
    """Creates what isn't there, and changes what is."""
    resource, name = resource_of(manifest), manifest["metadata"]["name"]
    owned: dict[str, Any] = {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}
    try:
        await target.api.create(resource, owned, target.namespace)
    except errors.AlreadyExists:
        if resource != CONFIG_MAPS:  # whose name says what is in it
            patch = {"metadata": _patched(owned["metadata"]), "spec": manifest["spec"]}
            if (gone := _OURS_ALONE.get(resource)) is not None:
                said = patch["metadata"].get("annotations") or {}
                patch["metadata"]["annotations"] = {gone: None, **said}
            await target.api.patch(resource, name, patch, target.namespace)


def _patched(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: metadata[key] for key in ("labels", "annotations", "ownerReferences") if key in metadata}


async def _drop_other_scalers(target: Target, name: str, kept: set[str]) -> None:
    """Those that the service had before, and has no more."""
    for resource in (AUTOSCALERS, SCALED_OBJECTS):
        if resource.kind not in kept and await find_scaler(target, resource, name):
            with contextlib.suppress(errors.NotFound):
                await target.api.delete(resource, name, target.namespace)


async def find_scaler(target: Target, resource: Resource, name: str) -> Manifest | None:
    """The service's own scaler of this kind; None where it has none, or the API knows no such kind."""
    try:
        found = await target.api.get(resource, name, target.namespace)
    except (errors.NotFound, errors.Forbidden):
        return None
    return found if labels_of(found).get(LABEL_RUN) == name else None
