"""Claims of a namespace: what there is, who uses it, and how it goes."""

from __future__ import annotations

import asyncio
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
        used_by: runs that haven't ended, and other pods as `pod/NAME`.
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


async def list_claims(target: Target) -> list[Claim]:
    """The claims of the target's namespace, by name."""
    claims, users, folders = await asyncio.gather(
        target.api.list(PERSISTENT_VOLUME_CLAIMS, target.namespace), _users(target), _folders(target)
    )
    made = [_claim(claim, users, folders) for claim in claims.items]
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
    users = await _users(target)
    if used := [name for name in names if users.get(name)]:
        runs = sorted({user for name in used for user in users[name]})
        raise errors.UsageError(
            f"claim {', '.join(used)} is used by {', '.join(runs)}",
            remedy="wait for their end, or stop them (`gpuyard stop`), and remove it then",
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


async def _users(target: Target) -> Mapping[str, Sequence[str]]:
    """Who uses each claim: runs whose pods aren't there yet or any more count as long as they go on."""
    jobs, pods = await asyncio.gather(
        target.api.list(JOBS, target.namespace), target.api.list(PODS, target.namespace)
    )
    going = [(job, job["spec"]["template"]["spec"]) for job in jobs.items if not _has_ended(job)]
    going += [(pod, pod["spec"]) for pod in pods.items if not is_terminal(pod)]
    found: dict[str, dict[str, None]] = {}
    for manifest, spec in going:
        for name in claims_of(spec):
            found.setdefault(name, {})[_user(manifest)] = None
    return {name: sorted(users) for name, users in found.items()}


def _has_ended(job: Manifest) -> bool:
    return condition_is_true(job, "Complete") or condition_is_true(job, "Failed")


def _user(manifest: Manifest) -> str:
    name = key_of(manifest).name
    kind = "job" if "template" in manifest["spec"] else "pod"
    return labels_of(manifest).get(LABEL_RUN) or f"{kind}/{name}"


async def _folders(target: Target) -> Mapping[str, str]:
    """The folder of each volume of a yard. On a cluster they would be some node's."""
    if not target.is_yard:
        return {}
    volumes = (await target.api.list(PERSISTENT_VOLUMES)).items
    return dict(_with_folders(volumes))


def _with_folders(volumes: Sequence[Manifest]) -> Iterator[tuple[str, str]]:
    for volume in volumes:
        yield key_of(volume).name, volume["spec"]["hostPath"]["path"]


def _claim(claim: Manifest, users: Mapping[str, Sequence[str]], folders: Mapping[str, str]) -> Claim:
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
        used_by=tuple(users.get(name, ())),
    )
