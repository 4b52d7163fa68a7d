"""What StorageClasses say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.kube.objects import annotations_of

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
#: Taken to this day. Source: kubernetes `pkg/volume/util/storageclass.go`.
_DEFAULT_BEFORE = "storageclass.beta.kubernetes.io/is-default-class"


def is_default_class(storage_class: Mapping[str, Any]) -> bool:
    """Whether a claim that names no class gets this one."""
    annotations = annotations_of(storage_class)
    return "true" in (annotations.get(DEFAULT_CLASS), annotations.get(_DEFAULT_BEFORE))
