"""Containers of a pod: their defaults and rules.

Sources: kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation` (validateContainers).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from gpuyard.local.objects.kinds.fields import (
    check_label_name,
    check_one_of,
    duplicate,
    invalid,
    not_found,
    required,
)
from gpuyard.local.objects.kinds.kind import FieldError
from gpuyard.local.objects.kinds.probes import default_probes, no_probes, validate_probes
from gpuyard.local.objects.kinds.resources import validate_resources

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_ENV_NAME = re.compile(r"[\x20-\x3c\x3e-\x7e]+")
_ENV_RULE = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_FIELD_OF_MAP = re.compile(r"metadata\.(labels|annotations)\['[^']+'\]")


def default_container(container: dict[str, Any]) -> None:
    """Fills in what Kubernetes does."""
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", _pull_policy(container.get("image", "")))
    container.setdefault("resources", {})
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
    default_probes(container)


def validate_containers(
    path: str,
    containers: list[dict[str, Any]],
    volumes: Collection[str],
    names: set[str],
    grace_s: int | None,
) -> list[FieldError]:
    """Rules of each container.

    Args:
        path: of the list.
        containers: the list.
        volumes: names of those that they may mount.
        names: collects those of the containers, so that init containers count too.
        grace_s: of the pod; None for init containers, which have neither probes nor hooks.
    """
    found: list[FieldError] = []
    for index, container in enumerate(containers):
        place = f"{path}[{index}]"
        name = container.get("name", "")
        found += check_label_name(f"{place}.name", name)
        if name and name in names:
            found.append(duplicate(f"{place}.name", name))
        names.add(name)
        found += _validate_container(place, container, volumes)
        found += (
            no_probes(place, container) if grace_s is None else validate_probes(place, container, grace_s)
        )
    return found


def _validate_container(
    path: str, container: Mapping[str, Any], volumes: Collection[str]
) -> list[FieldError]:
    image = container.get("image", "")
    found: list[FieldError] = []
    if not image:
        found.append(required(f"{path}.image"))
    elif image != image.strip():
        found.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    policy = container.get("terminationMessagePolicy", "")
    found += check_one_of(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    found += _validate_ports(f"{path}.ports", container.get("ports") or [])
    for index, variable in enumerate(container.get("env") or ()):
        found += _validate_variable(f"{path}.env[{index}]", variable)
    for index, source in enumerate(container.get("envFrom") or ()):
        found += _validate_env_from(f"{path}.envFrom", index, source)
    found += _validate_mounts(f"{path}.volumeMounts", container.get("volumeMounts") or [], volumes)
    found += check_one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy", ""), _PULL_POLICIES)
    return found + validate_resources(f"{path}.resources", container.get("resources") or {})


def _pull_policy(image: str) -> str:
    """Always for a tag of `latest` or none, unless a digest pins the image."""
    if "@" in image:
        return "IfNotPresent"
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return "IfNotPresent" if colon and tag != "latest" else "Always"


def _validate_ports(path: str, ports: list[dict[str, Any]]) -> list[FieldError]:
    found: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        place = f"{path}[{index}]"
        number, name = port.get("containerPort", 0), port.get("name", "")
        if not number:
            found.append(required(f"{place}.containerPort"))
        elif not 1 <= number <= 65535:
            found.append(invalid(f"{place}.containerPort", number, "must be between 1 and 65535, inclusive"))
        found += check_one_of(f"{place}.protocol", port.get("protocol", ""), _PROTOCOLS)
        if name in names:
            found.append(duplicate(f"{place}.name", name))
        if name:
            names.add(name)
            found += check_label_name(f"{place}.name", name)
            if len(name) > 15:
                found.append(invalid(f"{place}.name", name, "must be no more than 15 characters"))
    return found


def _validate_variable(path: str, variable: Mapping[str, Any]) -> list[FieldError]:
    found = _validate_env_name(f"{path}.name", variable.get("name", ""))
    source = variable.get("valueFrom")
    if source is None:
        return found
    place = f"{path}.valueFrom"
    given = [name for name in _SOURCES if name in source]
    if not given:
        choices = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        return [*found, invalid(place, "", f"must specify one of: {choices}")]
    if variable.get("value"):
        return [*found, invalid(place, "", "may not be specified when `value` is not empty")]
    if len(given) > 1:
        return [*found, invalid(place, "", "may not have more than one field specified at a time")]
    return found + _validate_source(f"{place}.{given[0]}", given[0], source[given[0]])


def _validate_source(path: str, kind: str, source: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    match kind:
        case "fieldRef":
            field = source.get("fieldPath", "")
            if not field:
                found.append(required(f"{path}.fieldPath"))
            elif field not in _FIELDS and not _FIELD_OF_MAP.fullmatch(field):
                detail = f"error converting fieldPath: field label not supported: {field}"
                found.append(invalid(f"{path}.fieldPath", field, detail))
        case "resourceFieldRef":
            if not source.get("resource"):
                found.append(required(f"{path}.resource"))
        case "configMapKeyRef" | "secretKeyRef":
            found += [required(f"{path}.{name}") for name in ("name", "key") if not source.get(name)]
    return found


def _validate_env_from(field: str, index: int, source: Mapping[str, Any]) -> list[FieldError]:
    path = f"{field}[{index}]"
    found: list[FieldError] = []
    if source.get("prefix"):
        found += _validate_env_name(f"{path}.prefix", source["prefix"])
    given = [name for name in ("configMapRef", "secretRef") if name in source]
    if not given:
        return [*found, invalid(field, "", "must specify one of: `configMapRef` or `secretRef`")]
    if len(given) > 1:
        return [*found, invalid(path, "", "may not have more than one field specified at a time")]
    if not source[given[0]].get("name"):
        found.append(required(f"{path}.{given[0]}.name"))
    return found


def _validate_env_name(path: str, name: str) -> list[FieldError]:
    if not name:
        return [required(path)]
    return [] if _ENV_NAME.fullmatch(name) else [invalid(path, name, _ENV_RULE)]


def _validate_mounts(path: str, mounts: list[dict[str, Any]], volumes: Collection[str]) -> list[FieldError]:
    found: list[FieldError] = []
    places: set[str] = set()
    for index, mount in enumerate(mounts):
        place = f"{path}[{index}]"
        name, target = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            found.append(required(f"{place}.name"))
        elif name not in volumes:
            found.append(not_found(f"{place}.name", name))
        if not target:
            found.append(required(f"{place}.mountPath"))
        elif target in places:
            found.append(invalid(f"{place}.mountPath", target, "must be unique"))
        places.add(target)
    return found
