"""Claims of a namespace: what there is, who uses it, and how it goes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuyard import errors
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import (
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    Manifest,
    controller_of,
    key_of,
    labels_of,
    uid_of,
)
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.storage import claims_of
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.target import Target

_POLL_S = 0.1
_GONE_WITHIN_S = 30.0


@dataclass(frozen=True)
class Claim:
    """A claim as `volume ls` shows it.

    Attributes:
        state: bound, pending, lost or terminating.
        size: of its volume, else what it asks for.
        folder: of this machine, that the volume is; None elsewhere.
        created_at: as the API has it.
        used_by: runs that haven't ended, and other Jobs and pods as `job/NAME` and `pod/NAME`.
        held_by: those that have ended and are still there: until they are removed, the claim can't be.
    """

    name: str
    state: str
    size: str | None
    access_modes: tuple[str, ...]
    storage_class: str | None
    volume: str | None
    folder: str | None
    created_at: str
    used_by: tuple[str, ...]
    held_by: tuple[str, ...]


async def list_claims(target: Target) -> list[Claim]:
    """The claims of the target's namespace, by name."""
    claims, (going, ended), folders = await asyncio.gather(
        target.api.list(PERSISTENT_VOLUME_CLAIMS, target.namespace), _users(target), _folders(target)
    )
    made = [_claim(claim, going, ended, folders) for claim in claims.items]
    return sorted(made, key=lambda claim: claim.name)


async def remove_claims(target: Target, names: Sequence[str]) -> AsyncIterator[str]:
    """Removes claims, and yields the name of each that is gone.

    Raises:
        UsageError: one isn't there or is used; then none is removed.
    """
    listed = (await target.api.list(PERSISTENT_VOLUME_CLAIMS, target.namespace)).items
    found = {key_of(claim).name: claim for claim in listed}
    if missing := [name for name in names if name not in found]:
        raise errors.UsageError(
            f"there is no claim {', '.join(missing)} in namespace {target.namespace}",
            remedy=f"`{target.command('volume', 'ls')}` lists them",
        )
    going, ended = await _users(target)
    if used := [name for name in names if name in going]:
        users = _together(used, going)
        raise errors.UsageError(
            f"claim {', '.join(used)} is used by {', '.join(users)}",
            remedy="wait for their end, or stop them (`gpuyard stop`), and remove it then",
        )
    if held := [name for name in names if name in ended]:
        users = _together(held, ended)
        runs = [user for user in users if "/" not in user]
        command = f": `{target.command('rm', *runs)}`" if runs == users else ""
        raise errors.UsageError(
            f"claim {', '.join(held)} is held by {', '.join(users)}, which ended and weren't removed",
            remedy=f"remove them first{command}",
        )
    for name in dict.fromkeys(names):
        uid = uid_of(found[name])
        await target.api.delete(PERSISTENT_VOLUME_CLAIMS, name, target.namespace, uid=uid)
        await _gone(target, name, uid)
        yield name


async def _gone(target: Target, name: str, uid: str) -> None:
    try:
        async with asyncio.timeout(_GONE_WITHIN_S):
            while uid_of(await target.api.get(PERSISTENT_VOLUME_CLAIMS, name, target.namespace)) == uid:
                await asyncio.sleep(_POLL_S)
    except errors.NotFound:
        return
    except TimeoutError as error:
        raise errors.Timeout(
            f"claim {name} is marked for removal, and something holds it still",
            remedy=f"it goes by itself when nobody uses it; see `kubectl describe pvc {name}`",
        ) from error


_Users = Mapping[str, set[str]]


async def _users(target: Target) -> tuple[_Users, _Users]:
    """Who uses each claim, and who has ended and holds it still. A run counts as long as it goes on, also
    when its pods aren't there yet or any more."""
    jobs, pods = await asyncio.gather(
        target.api.list(JOBS, target.namespace), target.api.list(PODS, target.namespace)
    )
    going: dict[str, set[str]] = defaultdict(set)
    ended: dict[str, set[str]] = defaultdict(set)
    names = {uid_of(job): _user(job, "job") for job in jobs.items}
    for job in jobs.items:
        if not _has_ended(job):
            for claim in claims_of(job["spec"]["template"]["spec"]):
                going[claim].add(names[uid_of(job)])
    for pod in pods.items:
        user = names.get((controller_of(pod) or {}).get("uid", "")) or _user(pod, "pod")
        for claim in claims_of(pod["spec"]):
            if not is_terminal(pod):
                going[claim].add(user)
            elif pod["spec"].get("nodeName"):
                ended[claim].add(user)
    return going, ended


def _together(names: Sequence[str], users: _Users) -> list[str]:
    return sorted({user for name in names for user in users[name]})


def _has_ended(job: Manifest) -> bool:
    return condition_is_true(job, "Complete") or condition_is_true(job, "Failed")


def _user(manifest: Manifest, kind: str) -> str:
    return labels_of(manifest).get(LABEL_RUN) or f"{kind}/{key_of(manifest).name}"


async def _folders(target: Target) -> Mapping[str, str]:
    """The folder of each volume of a yard. On a cluster they would be some node's."""
    if not target.is_yard:
        return {}
    volumes = (await target.api.list(PERSISTENT_VOLUMES)).items
    return dict(_with_folders(volumes))


def _with_folders(volumes: Sequence[Manifest]) -> Iterator[tuple[str, str]]:
    for volume in volumes:
        yield key_of(volume).name, volume["spec"]["hostPath"]["path"]


def _claim(claim: Manifest, going: _Users, ended: _Users, folders: Mapping[str, str]) -> Claim:
    name, spec = key_of(claim).name, claim["spec"]
    status: Mapping[str, Any] = claim.get("status") or {}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    deleted = "deletionTimestamp" in claim["metadata"]
    volume = spec.get("volumeName") or None
    return Claim(
        name=name,
        state="terminating" if deleted else str(status.get("phase", "Pending")).lower(),
        size=(status.get("capacity") or {}).get("storage", asked),
        access_modes=tuple(status.get("accessModes") or spec.get("accessModes") or ()),
        storage_class=spec.get("storageClassName"),
        volume=volume,
        folder=folders.get(volume or ""),
        created_at=claim["metadata"]["creationTimestamp"],
        used_by=tuple(sorted(going.get(name, ()))),
        held_by=tuple(sorted(ended.get(name, ()))),
    )
