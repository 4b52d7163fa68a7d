"""Claims and volumes of a yard, from the first binding to the last byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import (
    EVENTS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
    Manifest,
    Resource,
    uid_of,
)
from gpuyard.local.daemon.volumes import FOLLOWED, VolumeController
from gpuyard.local.objects.verbs import ObjectApi, utc_now
from tests.waiting import until_async


@contextlib.asynccontextmanager
async def controlling(api: ObjectApi, folders: Path) -> AsyncIterator[None]:
    informers = {resource: Informer(api, resource) for resource in (*FOLLOWED, PODS)}
    controller = VolumeController(api, utc_now, informers, folders)
    tasks = [asyncio.create_task(run()) for run in (*(i.run for i in informers.values()), controller.run)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def claim(api: ObjectApi, name: str = "c", size: str = "1Gi", **spec: Any) -> Manifest:
    whole = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    manifest = {"metadata": {"name": name, "namespace": "default"}, "spec": whole}
    return await api.create(PERSISTENT_VOLUME_CLAIMS, manifest)


async def volume(api: ObjectApi, name: str, folder: Path, size: str = "1Gi", **spec: Any) -> Manifest:
    whole = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "mine",
        "hostPath": {"path": str(folder)},
        **spec,
    }
    return await api.create(PERSISTENT_VOLUMES, {"metadata": {"name": name}, "spec": whole})


async def pod_with(api: ObjectApi, name: str) -> None:
    pod = {
        "restartPolicy": "Never",
        "runtimeClassName": "gpuyard-process",
        "nodeName": "n",
        "containers": [{"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
    }
    await api.create(PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": pod})


async def in_phase(api: ObjectApi, resource: Resource, name: str, phase: str) -> Manifest:
    async def look() -> Manifest | None:
        found = await api.get(resource, name, "default")
        return found if (found.get("status") or {}).get("phase") == phase else None

    found = await until_async(look, f"{name} is {phase}")
    assert found is not None
    return found


async def gone(api: ObjectApi, resource: Resource, name: str) -> None:
    async def look() -> bool:
        try:
            await api.get(resource, name, "default")
        except errors.NotFound:
            return True
        return False

    assert await until_async(look, f"{name} is gone")


async def told(api: ObjectApi, reason: str) -> str:
    async def look() -> list[str]:
        events = (await api.list(EVENTS, "default")).items
        return [event["message"] for event in events if event["reason"] == reason]

    return (await until_async(look, f"an event {reason}"))[0]


async def test_a_claim_gets_a_folder_that_goes_with_it(api: ObjectApi, tmp_path: Path) -> None:
    await api.bootstrap()
    folders = tmp_path / "folders"
    async with controlling(api, folders):
        await claim(api)
        bound = await in_phase(api, PERSISTENT_VOLUME_CLAIMS, "c", "Bound")
        name = bound["spec"]["volumeName"]
        made = await in_phase(api, PERSISTENT_VOLUMES, name, "Bound")
        assert made["spec"]["claimRef"]["uid"] == uid_of(bound)
        assert made["spec"]["hostPath"]["path"] == str(folders / name)
        (folders / name / "kept").touch()
        await api.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
        await gone(api, PERSISTENT_VOLUME_CLAIMS, "c")
        await gone(api, PERSISTENT_VOLUMES, name)
    assert list(folders.iterdir()) == []


async def test_a_claim_stays_until_its_pod_is_removed(api: ObjectApi, tmp_path: Path) -> None:
    await api.bootstrap()
    async with controlling(api, tmp_path):
        await claim(api)
        await in_phase(api, PERSISTENT_VOLUME_CLAIMS, "c", "Bound")
        await pod_with(api, "c")
        await api.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
        await claim(api, "later")
        await in_phase(api, PERSISTENT_VOLUME_CLAIMS, "later", "Bound")
        # Whatever came before that was handled.
        assert (await api.get(PERSISTENT_VOLUME_CLAIMS, "c", "default"))["metadata"]["deletionTimestamp"]
        await api.patch(PODS, "p", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
        await claim(api, "last")
        await in_phase(api, PERSISTENT_VOLUME_CLAIMS, "last", "Bound")
        assert (await api.get(PERSISTENT_VOLUME_CLAIMS, "c", "default"))["metadata"]["deletionTimestamp"]
        await api.delete(PODS, "p", "default", grace_period_s=0)
        await gone(api, PERSISTENT_VOLUME_CLAIMS, "c")


async def test_the_smallest_volume_that_suits_is_taken_and_its_data_stay(
    api: ObjectApi, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    async with controlling(api, tmp_path / "folders"):
        for name, size in (("small", "1Gi"), ("large", "9Gi"), ("fits", "5Gi")):
            await volume(api, name, own, size, persistentVolumeReclaimPolicy="Delete")
            await in_phase(api, PERSISTENT_VOLUMES, name, "Available")
        await claim(api, size="4Gi", storageClassName="mine")
        bound = await in_phase(api, PERSISTENT_VOLUME_CLAIMS, "c", "Bound")
        assert bound["spec"]["volumeName"] == "fits"
        assert bound["status"]["capacity"] == {"storage": "5Gi"}
        # Nobody removes what is bound, nor what we haven't made.
        await api.delete(PERSISTENT_VOLUMES, "fits")
        await api.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
        await gone(api, PERSISTENT_VOLUMES, "fits")
    assert own.is_dir()


async def test_a_volume_that_is_bound_elsewhere_is_told(api: ObjectApi, tmp_path: Path) -> None:
    async with controlling(api, tmp_path):
        await volume(api, "v", tmp_path)
        await claim(api, "first", storageClassName="mine", volumeName="v")
        await in_phase(api, PERSISTENT_VOLUME_CLAIMS, "first", "Bound")
        await claim(api, "second", storageClassName="mine", volumeName="v")
        assert await told(api, "FailedBinding") == 'volume "v" already bound to a different claim.'
        await volume(api, "w", tmp_path, "1Gi")
        await claim(api, "big", "2Gi", storageClassName="mine", volumeName="w")
        assert "requested PV is too small" in await told(api, "VolumeMismatch")


async def test_a_claim_waits_for_its_class_and_for_a_volume(api: ObjectApi, tmp_path: Path) -> None:
    async with controlling(api, tmp_path):
        await claim(api, storageClassName="later")
        assert 'storageclass.storage.k8s.io "later" not found' in await told(api, "ProvisioningFailed")
        later = {"metadata": {"name": "later"}, "provisioner": "gpuyard.io/folder", "reclaimPolicy": "Retain"}
        await api.create(STORAGE_CLASSES, later)
        bound = await in_phase(api, PERSISTENT_VOLUME_CLAIMS, "c", "Bound")
        await api.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
        await in_phase(api, PERSISTENT_VOLUMES, bound["spec"]["volumeName"], "Released")
        assert (tmp_path / bound["spec"]["volumeName"]).is_dir()
        await claim(api, "static", storageClassName="")
        assert "no storage class is set" in await told(api, "FailedBinding")


async def test_a_folder_is_removed_by_its_volume_s_name_alone(api: ObjectApi, tmp_path: Path) -> None:
    """Whoever may write PersistentVolumes could name any folder."""
    victim = tmp_path / "victim"
    victim.mkdir()
    async with controlling(api, tmp_path / "folders"):
        forged = {"name": "forged", "annotations": {"pv.kubernetes.io/provisioned-by": "gpuyard.io/folder"}}
        reference = {"namespace": "default", "name": "gone", "uid": "gone"}
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "hostPath": {"path": str(victim)},
            "claimRef": reference,
        }
        await api.create(PERSISTENT_VOLUMES, {"metadata": forged, "spec": spec})
        await in_phase(api, PERSISTENT_VOLUMES, "forged", "Released")
    assert victim.is_dir()
