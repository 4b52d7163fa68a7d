"""What StorageClasses, PersistentVolumes and PersistentVolumeClaims say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gpuyard.kube.objects import annotations_of

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
#: Taken to this day. Source: kubernetes `pkg/volume/util/storageclass.go`.
_DEFAULT_BEFORE = "storageclass.beta.kubernetes.io/is-default-class"

#: Keeps a claim while a pod uses it, and a volume while it is bound. Source: `pkg/volume/util/finalizer.go`.
CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
#: On a PersistentVolume: who made it.
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"

READ_WRITE_ONCE, READ_WRITE_ONCE_POD = "ReadWriteOnce", "ReadWriteOncePod"
READ_WRITE_MANY, READ_ONLY_MANY = "ReadWriteMany", "ReadOnlyMany"
#: In the order in which kubectl shows them, and its words for them.
SHORT_MODES = {
    READ_WRITE_ONCE: "RWO",
    READ_ONLY_MANY: "ROX",
    READ_WRITE_MANY: "RWX",
    READ_WRITE_ONCE_POD: "RWOP",
}


def claims_of(pod_spec: Mapping[str, Any], pod: str = "") -> Iterator[str]:
    """Names of the claims that a pod's volumes name, and where its own name is given of those that are made
    for it, which are called after pod and volume."""
    for volume in pod_spec.get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield str(claim["claimName"])
        elif "ephemeral" in volume and pod:
            yield f"{pod}-{volume['name']}"


def short_modes(modes: Iterable[str]) -> str:
    """Access modes as kubectl shows them: `RWO,ROX`."""
    return ",".join(short for mode, short in SHORT_MODES.items() if mode in set(modes))


def is_default_class(storage_class: Mapping[str, Any]) -> bool:
    """Whether a claim that names no class gets this one."""
    annotations = annotations_of(storage_class)
    return "true" in (annotations.get(DEFAULT_CLASS), annotations.get(_DEFAULT_BEFORE))
