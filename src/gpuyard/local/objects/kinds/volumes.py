"""Volumes of a pod: defaults and rules of the kinds that the yard has.

Sources: kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation` (ValidateVolumes).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

from gpuyard.local.objects.kinds.fields import (
    check_label_name,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import FieldError

_USUAL_MODE = 0o644
_HOST_PATH_TYPES = (
    "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_POD_FIELDS = (
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
)  # fmt: skip
_POD_FIELD_OF_MAP = re.compile(r"metadata\.(labels|annotations)\['[^']+'\]")
_MODE_RULE = "must be a number between 0 and 0777 (octal), both inclusive"


def default_volume(volume: dict[str, Any]) -> None:
    """Fills in, in place, what Kubernetes does."""
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    for kind in ("configMap", "downwardAPI"):
        if (source := volume.get(kind)) is not None:
            source.setdefault("defaultMode", _USUAL_MODE)
    for item in (volume.get("downwardAPI") or {}).get("items") or ():
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")
    if (source := volume.get("hostPath")) is not None:
        default_host_path(source)


def default_host_path(source: dict[str, Any]) -> None:
    """Fills in, in place, what Kubernetes does."""
    source.setdefault("type", "")


def validate_host_path(path: str, source: Mapping[str, Any]) -> list[FieldError]:
    """A path without a way back, and a type that there is."""
    found: list[FieldError] = []
    target, kind = source.get("path", ""), source.get("type", "")
    if not target:
        found.append(required(f"{path}.path"))
    if ".." in target.split("/"):
        found.append(invalid(f"{path}.path", target, "must not contain '..'"))
    if kind and kind not in _HOST_PATH_TYPES:
        found.append(unsupported(f"{path}.type", kind, _HOST_PATH_TYPES))
    return found


def validate_volumes(path: str, volumes: list[dict[str, Any]]) -> tuple[list[FieldError], set[str]]:
    """What is wrong with them, and their names."""
    found: list[FieldError] = []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        place, name = f"{path}[{index}]", volume.get("name", "")
        found += check_label_name(f"{place}.name", name)
        if name and name in names:
            found.append(duplicate(f"{place}.name", name))
        names.add(name)
        sources = [kind for kind in _SOURCES if kind in volume]
        found += [
            forbidden(f"{place}.{kind}", "may not specify more than 1 volume type") for kind in sources[1:]
        ]
        if sources and (validate := _SOURCES[sources[0]]):
            found += validate(f"{place}.{sources[0]}", volume[sources[0]])
    return found, names


def _validate_claim(path: str, source: Mapping[str, Any]) -> list[FieldError]:
    return [] if source.get("claimName") else [required(f"{path}.claimName")]


def _validate_config_map(path: str, source: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    if not source.get("name"):
        found.append(required(f"{path}.name"))
    found += _validate_mode(f"{path}.defaultMode", source.get("defaultMode"))
    for index, item in enumerate(source.get("items") or ()):
        place, target = f"{path}.items[{index}]", item.get("path", "")
        if not item.get("key"):
            found.append(required(f"{place}.key"))
        found += _validate_path(f"{place}.path", target)
        found += _validate_mode(f"{place}.mode", item.get("mode"))
    return found


def _validate_downward(path: str, source: Mapping[str, Any]) -> list[FieldError]:
    found = _validate_mode(f"{path}.defaultMode", source.get("defaultMode"))
    for index, item in enumerate(source.get("items") or ()):
        place = f"{path}.items[{index}]"
        found += _validate_path(f"{place}.path", item.get("path", ""))
        found += _validate_mode(f"{place}.mode", item.get("mode"))
        field = (item.get("fieldRef") or {}).get("fieldPath", "")
        if not field and "resourceFieldRef" not in item:
            found.append(required(f"{place}.fieldRef"))
        elif field and field not in _POD_FIELDS and not _POD_FIELD_OF_MAP.fullmatch(field):
            found.append(unsupported(f"{place}.fieldRef.fieldPath", field, _POD_FIELDS))
    return found


def _validate_path(path: str, target: str) -> list[FieldError]:
    if not target:
        return [required(path)]
    if posixpath.isabs(target):
        return [invalid(path, target, "must be a relative path")]
    if ".." in target.split("/"):
        return [invalid(path, target, "must not contain '..'")]
    if target.startswith(".."):
        return [invalid(path, target, "must not start with '..'")]
    return []


def _validate_mode(path: str, mode: int | None) -> list[FieldError]:
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid(path, mode, _MODE_RULE)]


#: The kinds of volumes that there are, in Kubernetes' order of looking at them.
_SOURCES: Mapping[str, Callable[[str, Mapping[str, Any]], list[FieldError]] | None] = {
    "emptyDir": None,
    "hostPath": validate_host_path,
    "downwardAPI": _validate_downward,
    "configMap": _validate_config_map,
    "persistentVolumeClaim": _validate_claim,
}
