"""Creating the objects of a run or a service: all of them or none, also where it fails or is interrupted
halfway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.kube.objects import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    JOBS,
    POD_GROUPS,
    SCALED_OBJECTS,
    SERVICES,
    Manifest,
    Resource,
    uid_of,
    with_kind,
)
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.notices import Notice, NoticeKind, Notify
from gpuyard.runs.target import Target

_KINDS = {
    resource.kind: resource
    for resource in (
        *(JOBS, DEPLOYMENTS, CONFIG_MAPS, SERVICES, POD_GROUPS),
        *(DISRUPTION_BUDGETS, AUTOSCALERS, SCALED_OBJECTS),
    )
}
_TRIES = 100
_POLL_S = 0.1


async def create_run(target: Target, manifests: Sequence[Manifest], notify: Notify) -> None:
    """Creates a run's Job, and before it what it needs (ConfigMaps that its pods read, the Service that they
    have their names from, the PodGroup that they start with), which the Job then owns; so a service's
    Deployment, and what goes with it.

    The owner can be named only when it has its uid, so last. Once begun this is carried through: Ctrl-C
    counts when it is done.

    Args:
        target: where.
        manifests: the Job or the Deployment, and before it what goes with it.
        notify: hears of an interrupt that came too late, and of what outlives its run.

    Raises:
        UsageError: the name is taken, the namespace isn't there.
    """
    work = asyncio.create_task(_create(target, manifests, notify), name="create run")
    interrupted = False
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            interrupted = True
    await work
    if interrupted:
        name = manifests[-1]["metadata"]["name"]
        stop = target.command("stop", name)
        said = f"{name} was submitted before the interrupt, and goes on. End it: {stop}"
        notify(Notice(said, NoticeKind.INTERRUPT))
        raise asyncio.CancelledError


async def check_name(target: Target, name: str, *resources: Resource) -> None:
    """Raises UsageError when there is a run or a service of this name, or one of these kinds."""
    for resource in resources or (JOBS, DEPLOYMENTS):
        # Listed, not got: most names are free, and an answer that refuses takes longer to read. A Deployment
        # that somebody else made is in no run's way: they have no pods in common.
        with contextlib.suppress(errors.NotFound, errors.Forbidden):
            selector = f"{LABEL_RUN}={name}"
            if (await target.api.list(resource, target.namespace, label_selector=selector)).items:
                raise _taken(target, resource, name)


async def _create(target: Target, manifests: Sequence[Manifest], notify: Notify) -> None:
    *carried, job = manifests
    resource, name = resource_of(job), job["metadata"]["name"]
    try:
        for one in carried:
            await _create_carried(target, one, job)
        try:
            created = with_kind(resource, await target.api.create(resource, job, target.namespace))
        except errors.GpuyardError:
            for one in carried:
                await _settle(target, one, job, notify)
            raise
    except errors.NotFound as error:
        raise errors.UsageError(
            f"there is no namespace {target.namespace!r}",
            remedy=advice("make it (`kubectl create namespace NAME`), or leave --namespace out"),
        ) from error
    except errors.AlreadyExists as error:
        raise _taken(target, resource, name) from error
    for one in carried:
        await _own(target, one, created, notify)


def resource_of(manifest: Manifest) -> Resource:
    """Of an object that a run or a service consists of."""
    return _KINDS[manifest["kind"]]


async def _create_carried(target: Target, carried: Manifest, job: Manifest) -> None:
    """Creates it, or takes the equal one that a submit left which was cut short.

    Raises:
        UsageError: the one of this name is in use, or holds something else.
    """
    resource, name = resource_of(carried), carried["metadata"]["name"]
    what = f"{resource.kind} {name}"
    for _ in range(_TRIES):
        with contextlib.suppress(errors.AlreadyExists):
            await target.api.create(resource, carried, target.namespace)
            return
        found = await _find(target, carried)
        if found is None:
            continue
        if "deletionTimestamp" in found["metadata"]:
            await asyncio.sleep(_POLL_S)
            continue
        if not _is_equal(carried, found):
            raise errors.UsageError(
                f"there is a {what} already, and it isn't this run's",
                remedy=advice("delete it (`kubectl delete`), or choose another --name"),
            )
        if not found["metadata"].get("ownerReferences"):
            return
        if await _job_of(target, job) is not None:
            raise _taken(target, resource_of(job), job["metadata"]["name"])
        # Its owner is a run that was removed, so it is about to go, at a moment that nobody knows.
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            await target.api.delete(resource, name, target.namespace, uid=uid_of(found))
    raise errors.UsageError(
        f"the {what} of an earlier run is being deleted, and stays",
        remedy=advice("`kubectl describe` shows its finalizers; or choose another --name"),
    )


def _is_equal(carried: Manifest, found: Manifest) -> bool:
    if "data" in carried:
        return bool(found.get("data") == carried["data"])
    spec = found.get("spec") or {}
    return all(spec.get(name) == value for name, value in carried["spec"].items())


async def _settle(target: Target, carried: Manifest, job: Manifest, notify: Notify) -> None:
    """Takes back what a Job needs that wasn't created, unless the Job that is there needs it.

    That is another submit's, or this one's, whose answer was lost.
    """
    with contextlib.suppress(errors.GpuyardError):
        there = await _job_of(target, job)
        found = await _find(target, carried)
        if found is None or found["metadata"].get("ownerReferences"):
            return
        if there is not None and _needs(there, carried):
            await _own(target, carried, there, notify)
        else:
            name = carried["metadata"]["name"]
            await target.api.delete(resource_of(carried), name, target.namespace, uid=uid_of(found))


async def _own(target: Target, carried: Manifest, job: Manifest, notify: Notify) -> None:
    """Makes the Job the owner, so that what it needs goes with it."""
    metadata, resource = carried["metadata"], resource_of(carried)
    patch = {"metadata": {"ownerReferences": [owner_reference(job)]}}
    try:
        try:
            await target.api.patch(resource, metadata["name"], patch, target.namespace)
        except errors.NotFound:
            # Another submit of this name took it for its own, failed, and took it back.
            owned = {**carried, "metadata": {**metadata, **patch["metadata"]}}
            await target.api.create(resource, owned, target.namespace)
    except errors.GpuyardError as error:
        said = f"{resource.kind} {metadata['name']} won't go with its run: {error.message}"
        notify(Notice(said, NoticeKind.WARNING))


def owner_reference(owner: Manifest) -> Manifest:
    """To a Job or a Deployment that is there."""
    resource = resource_of(owner)
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
    }


async def _find(target: Target, carried: Manifest) -> Manifest | None:
    try:
        return await target.api.get(resource_of(carried), carried["metadata"]["name"], target.namespace)
    except errors.NotFound:
        return None


async def _job_of(target: Target, job: Manifest) -> Manifest | None:
    """The Job, or the Deployment, of this name that is there, whoever made it."""
    resource = resource_of(job)
    try:
        return with_kind(resource, await target.api.get(resource, job["metadata"]["name"], target.namespace))
    except errors.NotFound:
        return None


def _needs(job: Manifest, carried: Manifest) -> bool:
    pod, name = job["spec"]["template"]["spec"], carried["metadata"]["name"]
    if resource_of(job) == DEPLOYMENTS and carried["kind"] != CONFIG_MAPS.kind:
        return True  # of its own name, and for nobody else
    if carried["kind"] == SERVICES.kind:
        return bool(pod.get("subdomain") == name)
    if carried["kind"] == POD_GROUPS.kind:
        return bool((pod.get("schedulingGroup") or {}).get("podGroupName") == name)
    volumes: Sequence[Mapping[str, Any]] = pod.get("volumes") or ()
    env = [variable for container in pod["containers"] for variable in container.get("env") or ()]
    if any(_reads(variable, name) for variable in env):
        return True
    return any((volume.get("configMap") or {}).get("name") == name for volume in volumes)


def _reads(variable: Mapping[str, Any], config_map: str) -> bool:
    source = (variable.get("valueFrom") or {}).get("configMapKeyRef") or {}
    return bool(source.get("name") == config_map)


def _taken(target: Target, resource: Resource, name: str) -> errors.UsageError:
    if resource == DEPLOYMENTS:
        return errors.UsageError(
            f"there is a service {name!r} already (see `{target.command('show', name)}`)",
            remedy=f"change it: `{target.command('update', name)}` with the same options or file; "
            + advice("or choose another --name"),
        )
    return errors.UsageError(
        f"there is a run {name!r} already (see `{target.command('show', name)}`)",
        remedy=advice("choose another --name, or add --replace, which removes it with its logs"),
    )
