"""PersistentVolumeClaims, PersistentVolumes and StorageClasses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gpuyard.local.objects.kinds.kind import CreateContext, KindSpec
from gpuyard.local.objects.kinds.storage import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS

from .conftest import create, update

GIB = {"requests": {"storage": "1Gi"}}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def claim(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": GIB, **spec}}


def volume(**spec: Any) -> dict[str, Any]:
    whole = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/srv"}}
    return {"metadata": {"name": "v"}, "spec": {**whole, **spec}}


def test_a_claim_is_completed() -> None:
    context = CreateContext(default_storage_class=lambda: "gpuyard-folder")
    one, found = create(PERSISTENT_VOLUME_CLAIM, claim(), context)
    assert found == []
    assert one["spec"]["storageClassName"] == "gpuyard-folder"
    assert one["spec"]["volumeMode"] == "Filesystem"
    assert one["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert one["status"] == {"phase": "Pending"}
    static, _ = create(PERSISTENT_VOLUME_CLAIM, claim(storageClassName=""), context)
    assert static["spec"].get("storageClassName", "") == ""


def test_a_volume_is_completed() -> None:
    one, found = create(PERSISTENT_VOLUME, volume())
    assert found == []
    assert one["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert one["spec"]["hostPath"] == {"path": "/srv", "type": ""}
    assert one["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]


@pytest.mark.parametrize(
    ("kind", "manifest", "wrong"),
    [
        (PERSISTENT_VOLUME_CLAIM, claim(accessModes=[]), ["spec.accessModes"]),
        (PERSISTENT_VOLUME_CLAIM, claim(accessModes=["ReadWriteTwice"]), ["spec.accessModes"]),
        (
            PERSISTENT_VOLUME_CLAIM,
            claim(accessModes=["ReadWriteOncePod", "ReadWriteOnce"]),
            ["spec.accessModes"],
        ),
        (PERSISTENT_VOLUME_CLAIM, claim(resources={}), ["spec.resources[storage]"]),
        (
            PERSISTENT_VOLUME_CLAIM,
            claim(resources={"requests": {"storage": "0"}}),
            ["spec.resources[storage]"],
        ),
        (PERSISTENT_VOLUME_CLAIM, claim(storageClassName="A_b"), ["spec.storageClassName"]),
        (PERSISTENT_VOLUME_CLAIM, claim(volumeMode="Block"), ["spec.volumeMode"]),
        (PERSISTENT_VOLUME_CLAIM, claim(dataSource={"kind": "A", "name": "b"}), ["spec.dataSource"]),
        (PERSISTENT_VOLUME, volume(capacity={}), ["spec.capacity"] * 2),
        (PERSISTENT_VOLUME, volume(hostPath={"path": "/a/../b"}), ["spec.hostPath.path"]),
        (PERSISTENT_VOLUME, volume(hostPath={"path": ""}), ["spec.hostPath.path"]),
        (PERSISTENT_VOLUME, volume(hostPath={"path": "/a", "type": "Disk"}), ["spec.hostPath.type"]),
        (PERSISTENT_VOLUME, volume(hostPath=None, nfs={"server": "a", "path": "/"}), ["spec.nfs"]),
        (PERSISTENT_VOLUME, volume(hostPath=None), ["spec"]),
        (
            PERSISTENT_VOLUME,
            volume(persistentVolumeReclaimPolicy="Keep"),
            ["spec.persistentVolumeReclaimPolicy"],
        ),
        (STORAGE_CLASS, {"metadata": {"name": "s"}, "provisioner": ""}, ["provisioner"]),
        (
            STORAGE_CLASS,
            {"metadata": {"name": "s"}, "provisioner": "a", "volumeBindingMode": "Late"},
            ["volumeBindingMode"],
        ),
    ],
)
def test_a_broken_rule_is_told(kind: KindSpec, manifest: dict[str, Any], wrong: list[str]) -> None:
    manifest["spec"] = {k: v for k, v in manifest.get("spec", {}).items() if v is not None}
    if not manifest["spec"]:
        del manifest["spec"]
    _, found = create(kind, manifest)
    assert [error.path for error in found] == wrong


def test_a_claim_stays_but_for_its_volume() -> None:
    old, _ = create(PERSISTENT_VOLUME_CLAIM, claim())
    assert update(PERSISTENT_VOLUME_CLAIM, old, {**old, "spec": {**old["spec"], "volumeName": "v"}}) == []
    for change in ({"accessModes": ["ReadWriteMany"]}, {"resources": {"requests": {"storage": "2Gi"}}}):
        [error] = update(PERSISTENT_VOLUME_CLAIM, old, {**old, "spec": {**old["spec"], **change}})
        assert error.type == "FieldValueForbidden"


def test_a_volume_s_place_stays() -> None:
    old, _ = create(PERSISTENT_VOLUME, volume())
    moved = {**old, "spec": {**old["spec"], "hostPath": {"path": "/other"}}}
    [error] = update(PERSISTENT_VOLUME, old, moved)
    assert error.path == "spec.persistentvolumesource"


def test_cells_are_as_kubectl_shows_them() -> None:
    bound = claim(volumeName="v", storageClassName="s", accessModes=["ReadWriteOnce", "ReadOnlyMany"])
    bound["status"] = {
        "phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany", "ReadWriteOnce"],
    }  # fmt: skip
    cells = {column.name: column.cell(bound, NOW) for column in PERSISTENT_VOLUME_CLAIM.columns}
    assert (cells["Status"], cells["Volume"], cells["Capacity"]) == ("Bound", "v", "1Gi")
    assert (cells["Access Modes"], cells["StorageClass"]) == ("RWO,ROX", "s")
    taken = volume(claimRef={"namespace": "a", "name": "b"})
    taken["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cells = {column.name: column.cell(taken, NOW) for column in PERSISTENT_VOLUME.columns}
    assert (cells["Status"], cells["Claim"]) == ("Terminating", "a/b")
    marked = {"name": "s", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    assert STORAGE_CLASS.columns[0].cell({"metadata": marked}, NOW) == "s (default)"
    # kubectl reads no table whose priority isn't a number.
    kinds = (PERSISTENT_VOLUME_CLAIM, PERSISTENT_VOLUME, STORAGE_CLASS)
    assert {type(column.priority) for kind in kinds for column in kind.columns} == {int}
