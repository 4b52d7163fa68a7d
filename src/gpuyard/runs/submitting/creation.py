"""Creating the objects of a run: all of them or none, also where it fails or is interrupted halfway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.kube.objects import CONFIG_MAPS, JOBS, Manifest, uid_of
from gpuyard.runs.notices import Notice, NoticeKind, Notify
from gpuyard.runs.target import Target

_TRIES = 100
_POLL_S = 0.1


async def create_run(target: Target, manifests: Sequence[Manifest], notify: Notify) -> None:
    """Creates a run's Job, and before it the ConfigMap that it mounts, if any, which the Job then owns.

    The owner can be named only when it has its uid, so last. Once begun this is carried through: Ctrl-C
    counts when it is done.

    Args:
        target: where.
        manifests: the Job, and before it the ConfigMap if there is one.
        notify: hears of an interrupt that came too late, and of a ConfigMap that outlives its run.

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


async def check_name(target: Target, name: str) -> None:
    """Raises UsageError when there is a run of this name."""
    try:
        await target.api.get(JOBS, name, target.namespace)
    except (errors.NotFound, errors.Forbidden):
        return
    raise _taken(target, name)


async def _create(target: Target, manifests: Sequence[Manifest], notify: Notify) -> None:
    *carried, job = manifests
    try:
        for config_map in carried:
            await _create_config_map(target, config_map, job)
        try:
            created = await target.api.create(JOBS, job, target.namespace)
        except errors.GpuyardError:
            for config_map in carried:
                await _settle(target, config_map, job, notify)
            raise
    except errors.NotFound as error:
        raise errors.UsageError(
            f"there is no namespace {target.namespace!r}",
            remedy=advice("make it (`kubectl create namespace NAME`), or leave --namespace out"),
        ) from error
    except errors.AlreadyExists as error:
        raise _taken(target, job["metadata"]["name"]) from error
    for config_map in carried:
        await _own(target, config_map, created, notify)


async def _create_config_map(target: Target, config_map: Manifest, job: Manifest) -> None:
    """Creates it, or takes the equal one that a submit left which was cut short.

    Raises:
        UsageError: the one of this name is in use, or holds something else.
    """
    name = config_map["metadata"]["name"]
    for _ in range(_TRIES):
        with contextlib.suppress(errors.AlreadyExists):
            await target.api.create(CONFIG_MAPS, config_map, target.namespace)
            return
        found = await _find(target, name)
        if found is None:
            continue
        if "deletionTimestamp" in found["metadata"]:
            await asyncio.sleep(_POLL_S)
            continue
        if found.get("data") != config_map["data"]:
            raise errors.UsageError(
                f"there is a ConfigMap {name} already, and it isn't this run's",
                remedy=advice("delete it (`kubectl delete configmap`), or choose another --name"),
            )
        if not found["metadata"].get("ownerReferences"):
            return
        if await _job_of(target, job) is not None:
            raise _taken(target, job["metadata"]["name"])
        # Its owner is a run that was removed, so it is about to go, at a moment that nobody knows.
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            await target.api.delete(CONFIG_MAPS, name, target.namespace, uid=uid_of(found))
    raise errors.UsageError(
        f"the ConfigMap {name} of an earlier run is being deleted, and stays",
        remedy=advice("`kubectl describe configmap` shows its finalizers; or choose another --name"),
    )


async def _settle(target: Target, config_map: Manifest, job: Manifest, notify: Notify) -> None:
    """Takes back a ConfigMap whose Job wasn't created, unless the Job that is there mounts it.

    That is another submit's, or this one's, whose answer was lost.
    """
    name = config_map["metadata"]["name"]
    with contextlib.suppress(errors.GpuyardError):
        there = await _job_of(target, job)
        found = await _find(target, name)
        if found is None or found["metadata"].get("ownerReferences"):
            return
        if there is not None and _mounts(there, name):
            await _own(target, config_map, there, notify)
        else:
            await target.api.delete(CONFIG_MAPS, name, target.namespace, uid=uid_of(found))


async def _own(target: Target, config_map: Manifest, job: Manifest, notify: Notify) -> None:
    """Makes the Job the ConfigMap's owner, so that it goes with it."""
    metadata = config_map["metadata"]
    owner = {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "name": job["metadata"]["name"],
        "uid": uid_of(job),
    }
    patch = {"metadata": {"ownerReferences": [owner]}}
    try:
        try:
            await target.api.patch(CONFIG_MAPS, metadata["name"], patch, target.namespace)
        except errors.NotFound:
            # Another submit of this name took it for its own, failed, and took it back.
            owned = {**config_map, "metadata": {**metadata, **patch["metadata"]}}
            await target.api.create(CONFIG_MAPS, owned, target.namespace)
    except errors.GpuyardError as error:
        said = f"ConfigMap {metadata['name']} won't go with its run: {error.message}"
        notify(Notice(said, NoticeKind.WARNING))


async def _find(target: Target, name: str) -> Manifest | None:
    try:
        return await target.api.get(CONFIG_MAPS, name, target.namespace)
    except errors.NotFound:
        return None


async def _job_of(target: Target, job: Manifest) -> Manifest | None:
    """The Job of this name that is there, whoever made it."""
    try:
        return await target.api.get(JOBS, job["metadata"]["name"], target.namespace)
    except errors.NotFound:
        return None


def _mounts(job: Manifest, config_map: str) -> bool:
    volumes: Sequence[Mapping[str, Any]] = job["spec"]["template"]["spec"].get("volumes") or ()
    return any((volume.get("configMap") or {}).get("name") == config_map for volume in volumes)


def _taken(target: Target, name: str) -> errors.UsageError:
    return errors.UsageError(
        f"there is a run {name!r} already (see `{target.command('show', name)}`)",
        remedy=advice("choose another --name, or add --replace, which removes it with its logs"),
    )
