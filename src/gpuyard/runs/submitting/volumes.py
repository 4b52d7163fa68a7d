"""The volumes of a run before its submit: folders of this machine, and claims, which have to suit it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.kube.objects import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, Manifest, key_of, uid_of
from gpuyard.kube.quantity import parse_quantity
from gpuyard.kube.storage import READ_ONLY_MANY, READ_WRITE_MANY, READ_WRITE_ONCE_POD, short_modes
from gpuyard.runs.notices import Notice, Notify
from gpuyard.runs.target import Target
from gpuyard.workloads.gang import is_gang
from gpuyard.workloads.spec.run_spec import RunSpec
from gpuyard.workloads.spec.text_tree import is_text
from gpuyard.workloads.spec.volumes import Volume


def with_folders(spec: RunSpec, base: Path, *, is_process: bool) -> RunSpec:
    """The spec with the folders of this machine by their full paths.

    Args:
        spec: what to run.
        base: folder that relative ones start from, the spec file's or the current one.
        is_process: whether it is a process of this machine, which has to have the places to mount at.

    Raises:
        UsageError: a folder isn't there or isn't its user's, or nothing can be mounted at a path.
    """
    for volume in spec.volumes if is_process else ():
        _check_place(volume.path)
    found = tuple(
        dataclasses.replace(volume, folder=_folder(volume, base)) if volume.folder else volume
        for volume in spec.volumes
    )
    return dataclasses.replace(spec, volumes=found)


def _folder(volume: Volume, base: Path) -> str:
    folder = Path(os.path.realpath(base / Path(volume.folder).expanduser()))
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "isn't there"
            raise errors.UsageError(
                f"the folder {folder} for {volume.path} {what}",
                remedy=f"make it (mkdir -p {folder}), or name one that is there",
            )
        if not os.access(folder, os.R_OK | os.X_OK):
            raise errors.UsageError(
                f"the folder {folder} for {volume.path} is closed to you", remedy="name one that you may read"
            )
        if not volume.read_only and not os.access(folder, os.W_OK):
            raise errors.UsageError(
                f"the folder {folder} for {volume.path} isn't yours to write to",
                remedy=advice("mount it read-only: --volume PATH=FOLDER:ro"),
            )
    except OSError as error:
        raise errors.UsageError(
            f"can't look at the folder {folder}: {error.strerror}", remedy="name one that you may enter"
        ) from error
    if not is_text(str(folder)) or ":" in str(folder):
        raise errors.UsageError(
            f"the folder {os.fsencode(folder)!r} can't be mounted: its name has a colon or isn't UTF-8",
            remedy="rename it",
        )
    return str(folder)


def _check_place(path: str) -> None:
    """A process sees this machine's folders, and a volume hides one of them, or one that root's hasn't."""
    place, top = Path(path), Path(*Path(path).parts[:2])
    if place.is_dir() or not os.path.lexists(top) or path.startswith("/tmp/"):
        return
    raise errors.UsageError(
        f"a process of this machine can't have a volume at {path}: there is no such folder",
        remedy=f"make it (mkdir -p {path}), or mount the volume at a path such as /data or /tmp/data",
    )


@contextlib.asynccontextmanager
async def claims_ready(
    target: Target, spec: RunSpec, wanted: Sequence[Manifest], notify: Notify
) -> AsyncIterator[None]:
    """Makes the claims that the run wants and that aren't there; a submit that fails takes them back.

    Args:
        target: where.
        spec: with its volumes.
        wanted: claims as the run would make them.
        notify: hears of what was made.

    Raises:
        UsageError: a claim isn't there, or doesn't suit the run.
    """
    to_make = {key_of(claim).name: claim for claim in wanted}
    for volume in spec.volumes:
        if volume.claim and await _is_there(target, spec, volume):
            to_make.pop(volume.claim, None)
    made: list[Manifest] = []
    try:
        for name, claim in to_make.items():
            with contextlib.suppress(errors.AlreadyExists):
                made.append(await target.api.create(PERSISTENT_VOLUME_CLAIMS, claim, target.namespace))
                size = claim["spec"]["resources"]["requests"]["storage"]
                notify(Notice(f"Made claim {name} of {size}, which stays when the run is removed"))
        yield
    except errors.GpuyardError:
        for claim in made:
            with contextlib.suppress(errors.GpuyardError):
                name = key_of(claim).name
                await target.api.delete(PERSISTENT_VOLUME_CLAIMS, name, target.namespace, uid=uid_of(claim))
        raise


async def _is_there(target: Target, spec: RunSpec, volume: Volume) -> bool:
    """Whether the claim is there, and then suits; one that the user may not see counts as such."""
    try:
        claim = await target.api.get(PERSISTENT_VOLUME_CLAIMS, volume.claim, target.namespace)
    except errors.Forbidden:
        return volume.size is None
    except errors.NotFound:
        if volume.size is None:
            raise await _missing(target, volume) from None
        return False
    _check_life(target, claim)
    _check_size(claim, volume)
    _check_modes(target, spec, claim, volume)
    await _check_binding(target, claim)
    return True


async def _missing(target: Target, volume: Volume) -> errors.UsageError:
    import difflib

    names: list[str] = []
    with contextlib.suppress(errors.ApiError):
        listed = await target.api.list(PERSISTENT_VOLUME_CLAIMS, target.namespace)
        names = sorted(key_of(claim).name for claim in listed.items)
    near = difflib.get_close_matches(volume.claim, names, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    there = f"there are: {', '.join(names[:10])}; " if names and not near else ""
    folder = f", or a folder of this machine: ./{volume.claim}" if target.is_yard else ""
    return errors.UsageError(
        f"there is no claim {volume.claim!r} in namespace {target.namespace}",
        remedy=f"{meant}{there}to have it made, give its size in a spec file: "
        f"`{volume.path}: {{claim: {volume.claim}, size: 10Gi}}`{folder}",
    )


def _refused(claim: Manifest, why: str, remedy: str) -> errors.UsageError:
    return errors.UsageError(f"claim {key_of(claim).name} {why}", remedy=remedy)


def _check_life(target: Target, claim: Manifest) -> None:
    if "deletionTimestamp" in claim["metadata"]:
        raise _refused(
            claim,
            "is being deleted",
            f"`{target.command('volume', 'ls')}` says who uses it still; wait until it is gone",
        )
    if _status(claim).get("phase") == "Lost":
        volume = claim["spec"].get("volumeName")
        raise _refused(claim, f"has lost its volume {volume}", "bring that back, or make the claim anew")


def _status(claim: Manifest) -> dict[str, Any]:
    return dict(claim.get("status") or {})


def _check_size(claim: Manifest, volume: Volume) -> None:
    if volume.size is None:
        return
    asked = claim["spec"]["resources"]["requests"]["storage"]
    has = (_status(claim).get("capacity") or {}).get("storage", asked)
    if parse_quantity(has) < parse_quantity(volume.size):
        raise _refused(
            claim,
            f"has {has}, and the run asks for {volume.size}",
            "make it larger where its class allows that, ask for less, or name another claim",
        )
    name = claim["spec"].get("storageClassName")
    if volume.storage_class and name != volume.storage_class:
        raise _refused(
            claim,
            f"is of class {name or 'none'}, not {volume.storage_class}",
            "leave storage_class out, or name another claim",
        )


def _check_modes(target: Target, spec: RunSpec, claim: Manifest, volume: Volume) -> None:
    modes = set(_status(claim).get("accessModes") or claim["spec"].get("accessModes") or ())
    shown = short_modes(modes)
    if not volume.read_only and modes == {READ_ONLY_MANY}:
        remedy = advice("mount it read-only: --volume PATH=CLAIM:ro")
        raise _refused(claim, f"can only be read ({shown})", remedy)
    if not is_gang(spec):
        return
    wanted = {READ_WRITE_MANY, READ_ONLY_MANY} if volume.read_only else {READ_WRITE_MANY}
    # Several pods of one node may share what one node may mount: a yard has one node.
    if modes & wanted or (target.is_yard and modes != {READ_WRITE_ONCE_POD}):
        return
    whom = "one pod" if modes == {READ_WRITE_ONCE_POD} else "one node"
    raise _refused(
        claim,
        f"can be mounted by {whom} ({shown}), and the run has {spec.nodes} pods",
        f"name a claim of access mode {READ_WRITE_MANY}, or run on one node",
    )


async def _check_binding(target: Target, claim: Manifest) -> None:
    """A claim that wants a volume which is another's would wait for ever."""
    name = claim["spec"].get("volumeName")
    if not name or _status(claim).get("phase") == "Bound":
        return
    try:
        reference = (await target.api.get(PERSISTENT_VOLUMES, name))["spec"].get("claimRef") or {}
    except errors.ApiError:
        return  # There is none yet, or its user may not see it.
    key = key_of(claim)
    if not reference or (reference.get("namespace"), reference.get("name")) == (key.namespace, key.name):
        return
    raise _refused(
        claim,
        f"wants volume {name}, which is bound to claim {reference.get('namespace')}/{reference.get('name')}",
        "make the claim anew without a volumeName, or name the other one",
    )
