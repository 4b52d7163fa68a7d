"""Volumes of a pod: defaults and rules of the kinds that the yard has.

Sources: kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation` (ValidateVolumes).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from gpuyard.local.objects.kinds.fields import check_label_name, duplicate, forbidden, invalid, required
from gpuyard.local.objects.kinds.kind import FieldError

_USUAL_MODE = 0o644
_MODE_RULE = "must be a number between 0 and 0777 (octal), both inclusive"


def default_volume(volume: dict[str, Any]) -> None:
    """Fills in, in place, what Kubernetes does."""
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    if (source := volume.get("configMap")) is not None:
        source.setdefault("defaultMode", _USUAL_MODE)


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
        if "configMap" in volume:
            if "emptyDir" in volume:
                found.append(forbidden(f"{place}.configMap", "may not specify more than 1 volume type"))
            else:
                found += _validate_config_map(f"{place}.configMap", volume["configMap"])
    return found, names


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
