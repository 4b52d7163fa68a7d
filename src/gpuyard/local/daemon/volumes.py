"""Claims and volumes of a yard: who gets which, folders for those that want a new one, and what goes when.

    claim made ──▶ a PersistentVolume that suits it, else a new folder ──▶ both Bound
    claim deleted ─▶ no pod names it ─▶ claim gone ─▶ its volume Released, or, with policy Delete, removed

Sources: kubernetes `pkg/controller/volume/persistentvolume`, `pkg/controller/volume/pvcprotection`,
`pkg/controller/volume/pvprotection`. A folder has no size: what is written counts against the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.kube.objects import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
    Manifest,
    ObjectKey,
    Resource,
    annotations_of,
    key_of,
    uid_of,
    with_kind,
)
from gpuyard.kube.quantity import parse_quantity
from gpuyard.kube.selectors import Selector
from gpuyard.kube.storage import CLAIM_PROTECTION, PROVISIONED_BY, VOLUME_PROTECTION, claims_of
from gpuyard.kube.wellknown import PROVISIONER_FOLDER
from gpuyard.local.runtime.removal import remove_tree

#: Kinds whose informers it needs beside that of pods.
FOLLOWED = (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES)

_COMPONENT = "persistentvolume-controller"


class VolumeController:
    """Binds each claim to one volume, for as long as both are there. Made before the informers are run.

    A claim and a volume are each handled by one worker at a time. Both name one another; where only one
    does, since the yard was killed between the two writes, the other follows.

    Args:
        informers: of claims, volumes, classes and pods; run by the caller.
        folders: where new volumes are made, each under its PersistentVolume's name.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        informers: Mapping[Resource, Informer],
        folders: Path,
    ) -> None:
        self._api = api
        self._folders = folders
        self._informers = informers
        self._claims, self._volumes, self._classes = (informers[resource] for resource in FOLLOWED)
        self._pods = informers[PODS]
        self._events = EventRecorder(api, _COMPONENT, clock)
        supervisor = self._claims.supervisor
        self._claim_queue = WorkQueue("claims", self._sync_claim, supervisor, self._claims.reference)
        self._volume_queue = WorkQueue("volumes", self._sync_volume, supervisor, self._volumes.reference)
        self._claims.add_handler(self._on_claim)
        self._volumes.add_handler(self._on_volume)
        self._classes.add_handler(lambda _old, _new: self._look_at_waiting())
        self._pods.add_handler(self._on_pod)

    async def run(self) -> None:
        """Works until cancelled."""
        for resource in (*FOLLOWED, PODS):
            await self._informers[resource].synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claim_queue.run(), name="claims")
            group.create_task(self._volume_queue.run(), name="volumes")

    # -- what changes -----------------------------------------------------------------------------------

    def _on_claim(self, old: Manifest | None, new: Manifest | None) -> None:
        claim = new or old or {}
        self._claim_queue.add(key_of(claim))
        if name := (claim.get("spec") or {}).get("volumeName"):
            self._volume_queue.add(ObjectKey("", name))

    def _on_volume(self, old: Manifest | None, new: Manifest | None) -> None:
        volume = new or old or {}
        self._volume_queue.add(key_of(volume))
        if reference := (volume.get("spec") or {}).get("claimRef"):
            self._claim_queue.add(ObjectKey(reference.get("namespace", ""), reference.get("name", "")))
        if old is None or new is None or _phase(old) != _phase(new):
            self._look_at_waiting()

    def _look_at_waiting(self) -> None:
        for key, claim in self._claims.objects.items():
            if _phase(claim) != "Bound":
                self._claim_queue.add(key)

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            return
        pod = old or {}
        for name in claims_of(pod["spec"]):
            self._claim_queue.add(ObjectKey(key_of(pod).namespace, name))

    # -- claims -----------------------------------------------------------------------------------------

    async def _sync_claim(self, key: ObjectKey) -> None:
        claim = self._claims.objects.get(key)
        if claim is None:
            return
        if claim["metadata"].get("deletionTimestamp"):
            if not self._is_held(key):
                await self._release(PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_PROTECTION)
            return
        name = claim["spec"].get("volumeName", "")
        if name:
            await self._sync_named(claim, name)
        elif (volume := self._found_for(claim)) is not None:
            await self._bind(claim, volume)
        else:
            await self._provision(claim)

    async def _sync_named(self, claim: Manifest, name: str) -> None:
        """A claim that says which volume it has, or wants."""
        volume = self._volumes.objects.get(ObjectKey("", name))
        if volume is None:
            if _phase(claim) == "Bound":
                await self._status(PERSISTENT_VOLUME_CLAIMS, claim, {**claim["status"], "phase": "Lost"})
                said = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                await self._tell(claim, "ClaimLost", said)
            return
        reference = volume["spec"].get("claimRef")
        if reference and not _is_for(reference, claim):
            said = f'volume "{name}" already bound to a different claim.'
            await self._tell(claim, "FailedBinding", said)
        elif why := _unsuited(volume, claim):
            await self._tell(claim, "VolumeMismatch", f'Cannot bind to requested volume "{name}": {why}')
        else:
            await self._bind(claim, volume)

    def _found_for(self, claim: Manifest) -> Manifest | None:
        """The volume that was set aside for the claim, else the smallest free one that suits it."""
        volumes = [v for v in self._volumes.objects.values() if not v["metadata"].get("deletionTimestamp")]
        suited = [volume for volume in volumes if not _unsuited(volume, claim)]
        for volume in suited:
            if (reference := volume["spec"].get("claimRef")) and _is_for(reference, claim):
                return volume
        free = [volume for volume in suited if not volume["spec"].get("claimRef") and _selects(claim, volume)]
        return min(free, key=lambda v: (parse_quantity(_capacity(v)), key_of(v).name), default=None)

    async def _bind(self, claim: Manifest, volume: Manifest) -> None:
        """Has both name one another, and say so; what is done already is left as it is."""
        key, name = key_of(claim), key_of(volume).name
        if (volume["spec"].get("claimRef") or {}).get("uid") != uid_of(claim):
            patch = {
                "metadata": {"resourceVersion": volume["metadata"]["resourceVersion"]},
                "spec": {"claimRef": _reference(claim)},
            }
            volume = await self._api.patch(PERSISTENT_VOLUMES, name, patch)
        if claim["spec"].get("volumeName") != name:
            notes = {f"pv.kubernetes.io/{what}": "yes" for what in ("bind-completed", "bound-by-controller")}
            bound: dict[str, Any] = {"metadata": {"annotations": notes}, "spec": {"volumeName": name}}
            claim = await self._api.patch(PERSISTENT_VOLUME_CLAIMS, key.name, bound, key.namespace)
        await self._status(PERSISTENT_VOLUMES, volume, {"phase": "Bound"})
        status = {
            "phase": "Bound",
            "accessModes": volume["spec"]["accessModes"],
            "capacity": {"storage": _capacity(volume)},
        }
        await self._status(PERSISTENT_VOLUME_CLAIMS, claim, status)

    async def _provision(self, claim: Manifest) -> None:
        """Makes a folder and its PersistentVolume, which is the claim's from the start."""
        wanted = claim["spec"].get("storageClassName", "")
        storage_class = self._classes.objects.get(ObjectKey("", wanted)) if wanted else None
        if storage_class is None:
            said = "no persistent volumes available for this claim and no storage class is set"
            missing = f'storageclass.storage.k8s.io "{wanted}" not found'
            await self._tell(claim, *(("ProvisioningFailed", missing) if wanted else ("FailedBinding", said)))
            return
        if storage_class["provisioner"] != PROVISIONER_FOLDER:
            said = (
                "Waiting for a volume to be created either by the external provisioner "
                f"'{storage_class['provisioner']}' or manually by the system administrator."
            )
            await self._tell(claim, "ExternalProvisioning", said)
            return
        name = f"pvc-{uid_of(claim)}"
        folder = self._folders / name
        try:
            await asyncio.to_thread(_make_folder, folder)
        except OSError as error:
            said = f"can't make the folder {folder}: {error.strerror}"
            await self._tell(claim, "ProvisioningFailed", said)
            raise errors.StoreUnwritable(
                said, remedy="free space on its disk, or mend its permissions"
            ) from error
        volume = {
            "apiVersion": PERSISTENT_VOLUMES.api_version,
            "kind": PERSISTENT_VOLUMES.kind,
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER_FOLDER}},
            "spec": {
                "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
                "accessModes": claim["spec"]["accessModes"],
                "persistentVolumeReclaimPolicy": storage_class["reclaimPolicy"],
                "storageClassName": wanted,
                "hostPath": {"path": str(folder), "type": "Directory"},
                "claimRef": _reference(claim),
            },
        }
        try:
            made = await self._api.create(PERSISTENT_VOLUMES, volume)
        except errors.AlreadyExists:
            made = await self._api.get(PERSISTENT_VOLUMES, name)
        await self._bind(claim, made)
        said = f"Successfully provisioned volume {name}"
        named = with_kind(PERSISTENT_VOLUME_CLAIMS, claim)
        await self._events.record(named, "Normal", "ProvisioningSucceeded", said)

    def _is_held(self, key: ObjectKey) -> bool:
        # Also by a pod that has ended, until it is removed.
        return any(
            key.namespace == pod_key.namespace
            and pod["spec"].get("nodeName")
            and key.name in claims_of(pod["spec"])
            for pod_key, pod in self._pods.objects.items()
        )

    # -- volumes ----------------------------------------------------------------------------------------

    async def _sync_volume(self, key: ObjectKey) -> None:
        volume = self._volumes.objects.get(key)
        if volume is None:
            return
        reference = volume["spec"].get("claimRef") or {}
        deleted = bool(volume["metadata"].get("deletionTimestamp"))
        if reference.get("uid"):
            if await self._has_claim(reference):
                return
            await self._reclaim(volume)
        elif _phase(volume) != "Available":
            await self._status(PERSISTENT_VOLUMES, volume, {"phase": "Available"})
        if deleted:
            await self._release(PERSISTENT_VOLUMES, volume, VOLUME_PROTECTION)

    async def _has_claim(self, reference: Mapping[str, Any]) -> bool:
        """Asked of the API itself: data are at stake, and an informer may be late."""
        try:
            claim = await self._api.get(PERSISTENT_VOLUME_CLAIMS, reference["name"], reference["namespace"])
        except errors.NotFound:
            return False
        return bool(uid_of(claim) == reference["uid"])

    async def _reclaim(self, volume: Manifest) -> None:
        """The claim is gone: a folder of ours goes, too, where its policy says so. Others stay."""
        name, spec = key_of(volume).name, volume["spec"]
        folder = self._folders / name
        ours = annotations_of(volume).get(PROVISIONED_BY) == PROVISIONER_FOLDER
        ours = ours and spec["hostPath"]["path"] == str(folder)
        if spec.get("persistentVolumeReclaimPolicy") != "Delete" or not ours:
            await self._status(PERSISTENT_VOLUMES, volume, {"phase": "Released"})
            return
        await asyncio.to_thread(remove_tree, folder)
        if await asyncio.to_thread(folder.exists):
            said = f"not all of {folder} can be removed: see the yard's daemon.log"
            await self._status(PERSISTENT_VOLUMES, volume, {"phase": "Failed", "message": said})
            return
        await self._api.delete(PERSISTENT_VOLUMES, name, uid=uid_of(volume))

    # -- writing ----------------------------------------------------------------------------------------

    async def _status(self, resource: Resource, manifest: Manifest, status: Mapping[str, Any]) -> None:
        if (manifest.get("status") or {}) == status:
            return
        key = key_of(manifest)
        await self._api.patch(
            resource, key.name, {"status": status}, key.namespace or None, subresource="status"
        )

    async def _release(self, resource: Resource, manifest: Manifest, finalizer: str) -> None:
        key, metadata = key_of(manifest), manifest["metadata"]
        held = metadata.get("finalizers") or []
        if finalizer not in held:
            return
        kept = [name for name in held if name != finalizer]
        patch = {"metadata": {"finalizers": kept, "resourceVersion": metadata["resourceVersion"]}}
        await self._api.patch(resource, key.name, patch, key.namespace or None)

    async def _tell(self, claim: Manifest, reason: str, message: str) -> None:
        await self._events.record(with_kind(PERSISTENT_VOLUME_CLAIMS, claim), "Warning", reason, message)


def _make_folder(folder: Path) -> None:
    """Whoever a container's user is may write in it; the folder above is the yard's user's alone."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)


def _phase(manifest: Manifest) -> str:
    return str((manifest.get("status") or {}).get("phase", ""))


def _capacity(volume: Manifest) -> str:
    return str(volume["spec"]["capacity"]["storage"])


def _reference(claim: Manifest) -> dict[str, Any]:
    key = key_of(claim)
    return {
        "apiVersion": PERSISTENT_VOLUME_CLAIMS.api_version,
        "kind": PERSISTENT_VOLUME_CLAIMS.kind,
        "namespace": key.namespace,
        "name": key.name,
        "uid": uid_of(claim),
    }


def _is_for(reference: Mapping[str, Any], claim: Manifest) -> bool:
    """Whether a volume is the claim's; one without a uid is set aside for the next claim of that name."""
    key = key_of(claim)
    named = (reference.get("namespace"), reference.get("name")) == (key.namespace, key.name)
    return named and reference.get("uid") in (None, "", uid_of(claim))


def _unsuited(volume: Manifest, claim: Manifest) -> str:
    """Why the claim can't have the volume, whose ever it is; empty when it can."""
    wanted, spec = claim["spec"], volume["spec"]
    if spec.get("storageClassName", "") != wanted.get("storageClassName", ""):
        return "storageClassName does not match"
    if not set(wanted["accessModes"]) <= set(spec["accessModes"]):
        return "incompatible accessMode"
    if spec.get("volumeMode") != wanted.get("volumeMode"):
        return "incompatible volumeMode"
    if parse_quantity(_capacity(volume)) < parse_quantity(wanted["resources"]["requests"]["storage"]):
        return "requested PV is too small"
    return ""


def _selects(claim: Manifest, volume: Manifest) -> bool:
    selector = claim["spec"].get("selector")
    return selector is None or Selector.of(selector).matches(volume["metadata"].get("labels") or {})
