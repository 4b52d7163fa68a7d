"""PersistentVolumeClaims, PersistentVolumes and StorageClasses.

Sources: kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation` (ValidatePersistentVolume,
ValidatePersistentVolumeClaim), `pkg/apis/storage`, `plugin/pkg/admission/storage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    Manifest,
)
from gpuyard.kube.quantity import parse_quantity
from gpuyard.kube.storage import (
    CLAIM_PROTECTION,
    READ_WRITE_ONCE_POD,
    SHORT_MODES,
    VOLUME_PROTECTION,
    is_default_class,
    short_modes,
)
from gpuyard.local.objects.kinds.cells import AGE, NAME
from gpuyard.local.objects.kinds.fields import (
    check_immutable,
    check_one_of,
    check_subdomain_name,
    forbidden,
    required,
    same,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import (
    Column,
    CreateContext,
    FieldError,
    KindSpec,
    status_subresource,
)
from gpuyard.local.objects.kinds.resources import validate_amount
from gpuyard.local.objects.kinds.volumes import default_host_path, validate_host_path

_BEFORE_CLASSES = "volume.beta.kubernetes.io/storage-class"
_MODES = ("Block", "Filesystem")
_POLICIES = ("Delete", "Recycle", "Retain")
#: Of a PersistentVolume's spec: all but these say where the data is.
_NO_SOURCE = {
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
}
_CLAIM_FROZEN = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound "
    "claims"
)


def _default_claim(claim: Manifest) -> None:
    claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    claim.setdefault("status", {}).setdefault("phase", "Pending")


def _prepare_claim(claim: Manifest, context: CreateContext) -> None:
    spec = claim["spec"]
    annotated = _BEFORE_CLASSES in (claim["metadata"].get("annotations") or {})
    if spec.get("storageClassName") is None and not annotated and (name := context.default_storage_class()):
        spec["storageClassName"] = name
    claim["status"] = {"phase": "Pending"}
    _protect(claim, CLAIM_PROTECTION)


def _protect(manifest: Manifest, finalizer: str) -> None:
    finalizers = manifest["metadata"].setdefault("finalizers", [])
    if finalizer not in finalizers:
        finalizers.append(finalizer)


def _validate_claim(claim: Manifest, old: Manifest | None) -> list[FieldError]:
    spec: Mapping[str, Any] = claim.get("spec") or {}
    if old is not None:
        return _claim_update(spec, old.get("spec") or {})
    found = _validate_access(spec, "at least 1 access mode is required")
    requests = (spec.get("resources") or {}).get("requests") or {}
    found += _validate_size("spec.resources", requests)
    if name := spec.get("storageClassName"):
        found += check_subdomain_name("spec.storageClassName", name)
    found += check_one_of("spec.volumeMode", spec.get("volumeMode", ""), _MODES)
    for name in ("dataSource", "dataSourceRef"):
        if spec.get(name):
            found.append(forbidden(f"spec.{name}", "this yard copies no volumes"))
    if spec.get("volumeMode") == "Block":
        found.append(forbidden("spec.volumeMode", "this yard has no block volumes"))
    return found


def _claim_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[FieldError]:
    """The controller names the volume and, of a claim that came before any class, the class."""
    once = {name for name in ("volumeName", "storageClassName") if old.get(name) is None}
    changed = {name for name in new.keys() | old.keys() if not same(new.get(name), old.get(name))} - once
    if "resources" in changed and not changed - {"resources"}:
        return [forbidden("spec.resources.requests", "volumes of this yard have no size that could grow")]
    return [forbidden("spec", _CLAIM_FROZEN)] if changed else []


def _validate_access(spec: Mapping[str, Any], why_needed: str = "") -> list[FieldError]:
    modes, place = spec.get("accessModes") or (), "spec.accessModes"
    if not modes:
        return [required(place, why_needed)]
    found = [unsupported(place, mode, sorted(SHORT_MODES)) for mode in modes if mode not in SHORT_MODES]
    if READ_WRITE_ONCE_POD in modes and len(modes) > 1:
        found.append(forbidden(place, "may not use ReadWriteOncePod with other access modes"))
    return found


def _validate_size(path: str, amounts: Mapping[str, Any]) -> list[FieldError]:
    size = amounts.get("storage")
    if size is None:
        return [required(f"{path}[storage]")]
    found = validate_amount(f"{path}[storage]", "storage", size)
    if not found and parse_quantity(size) == 0:
        found.append(FieldError(f"{path}[storage]", "FieldValueInvalid",
                                f'Invalid value: "{size}": must be greater than zero'))  # fmt: skip
    return found


def _default_volume(volume: Manifest) -> None:
    spec = volume.setdefault("spec", {})
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    if (source := spec.get("hostPath")) is not None:
        default_host_path(source)
    volume.setdefault("status", {}).setdefault("phase", "Pending")


def _prepare_volume(volume: Manifest, _context: CreateContext) -> None:
    volume["status"] = {"phase": "Pending"}
    _protect(volume, VOLUME_PROTECTION)


def _validate_volume(volume: Manifest, old: Manifest | None) -> list[FieldError]:
    spec: Mapping[str, Any] = volume.get("spec") or {}
    found = _validate_access(spec)
    if not spec.get("capacity"):
        found += [required("spec.capacity"), unsupported("spec.capacity", None, ("storage",))]
    else:
        found += _validate_size("spec.capacity", spec["capacity"])
    found += check_one_of(
        "spec.persistentVolumeReclaimPolicy", spec.get("persistentVolumeReclaimPolicy", ""), _POLICIES
    )
    found += check_one_of("spec.volumeMode", spec.get("volumeMode", ""), _MODES)
    sources = sorted(spec.keys() - _NO_SOURCE)
    if not sources:
        found.append(required("spec", "must specify a volume type"))
    for name in sources:
        if name == "hostPath":
            found += validate_host_path("spec.hostPath", spec["hostPath"])
        else:
            found.append(
                forbidden(f"spec.{name}", "this yard's volumes are folders of its machine: hostPath")
            )
    if old is not None and not same(_source(spec), _source(old.get("spec") or {})):
        detail = "spec.persistentvolumesource is immutable after creation"
        found.append(forbidden("spec.persistentvolumesource", detail))
    return found


def _source(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in _NO_SOURCE}


def _default_class(storage_class: Manifest) -> None:
    storage_class.setdefault("reclaimPolicy", "Delete")
    storage_class.setdefault("volumeBindingMode", "Immediate")


def _validate_class(storage_class: Manifest, old: Manifest | None) -> list[FieldError]:
    found = [] if storage_class.get("provisioner") else [required("provisioner")]
    found += check_one_of("reclaimPolicy", storage_class.get("reclaimPolicy", ""), _POLICIES[::2])
    modes = ("Immediate", "WaitForFirstConsumer")
    found += check_one_of("volumeBindingMode", storage_class.get("volumeBindingMode", ""), modes)
    if old is not None:
        frozen = ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
        found += check_immutable("", storage_class, old, *frozen)
    return found


def _of_spec(name: str, field: str, *, priority: int = 0) -> Column:
    return Column(name, lambda manifest, _now: (manifest.get("spec") or {}).get(field, ""), priority=priority)


def _phase(manifest: Manifest, _now: datetime) -> str:
    if manifest["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str((manifest.get("status") or {}).get("phase", ""))


def _claim_of(volume: Manifest, _now: datetime) -> str:
    reference = (volume.get("spec") or {}).get("claimRef")
    return f"{reference.get('namespace', '')}/{reference.get('name', '')}" if reference else ""


def _class_name(storage_class: Manifest, _now: datetime) -> str:
    name = str(storage_class["metadata"].get("name", ""))
    return f"{name} (default)" if is_default_class(storage_class) else name


PERSISTENT_VOLUME_CLAIM = KindSpec(
    resource=PERSISTENT_VOLUME_CLAIMS,
    short_names=("pvc",),
    default=_default_claim,
    validate=_validate_claim,
    prepare_create=_prepare_claim,
    columns=(
        NAME,
        Column("Status", _phase),
        _of_spec("Volume", "volumeName"),
        Column(
            "Capacity", lambda c, _now: ((c.get("status") or {}).get("capacity") or {}).get("storage", "")
        ),
        Column("Access Modes", lambda c, _now: short_modes((c.get("status") or {}).get("accessModes") or ())),
        _of_spec("StorageClass", "storageClassName"),
        Column("VolumeAttributesClass", lambda _manifest, _now: "<unset>"),
        AGE,
        _of_spec("VolumeMode", "volumeMode", priority=1),
    ),
    subresources=(status_subresource(PERSISTENT_VOLUME_CLAIMS),),
)
PERSISTENT_VOLUME = KindSpec(
    resource=PERSISTENT_VOLUMES,
    short_names=("pv",),
    default=_default_volume,
    validate=_validate_volume,
    prepare_create=_prepare_volume,
    columns=(
        NAME,
        Column("Capacity", lambda v, _now: ((v.get("spec") or {}).get("capacity") or {}).get("storage", "")),
        Column("Access Modes", lambda v, _now: short_modes((v.get("spec") or {}).get("accessModes") or ())),
        Column(
            "Reclaim Policy", lambda v, _now: (v.get("spec") or {}).get("persistentVolumeReclaimPolicy", "")
        ),
        Column("Status", _phase),
        Column("Claim", _claim_of),
        _of_spec("StorageClass", "storageClassName"),
        Column("VolumeAttributesClass", lambda _manifest, _now: "<unset>"),
        Column("Reason", lambda v, _now: (v.get("status") or {}).get("reason", "")),
        AGE,
        _of_spec("VolumeMode", "volumeMode", priority=1),
    ),
    subresources=(status_subresource(PERSISTENT_VOLUMES),),
)
STORAGE_CLASS = KindSpec(
    resource=STORAGE_CLASSES,
    short_names=("sc",),
    default=_default_class,
    validate=_validate_class,
    columns=(
        Column("Name", _class_name, format="name"),
        Column("Provisioner", lambda c, _now: c.get("provisioner", "")),
        Column("ReclaimPolicy", lambda c, _now: c.get("reclaimPolicy", "")),
        Column("VolumeBindingMode", lambda c, _now: c.get("volumeBindingMode", "")),
        Column("AllowVolumeExpansion", lambda c, _now: bool(c.get("allowVolumeExpansion")), type="boolean"),
        AGE,
    ),
)
