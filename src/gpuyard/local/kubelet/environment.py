"""The environment and the command line of a container (pure).

Source: kubernetes `pkg/kubelet/kubelet_pods.go` makeEnvironmentVariables; last wins is `compose`'s own rule.
"""

from __future__ import annotations

import json
import math
import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import Manifest, annotations_of, labels_of
from gpuyard.kube.quantity import parse_quantity
from gpuyard.kube.references import expand_references
from gpuyard.kube.wellknown import ENV_SHARES

NVIDIA_VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
CUDA_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
ROCR_VISIBLE_DEVICES = "ROCR_VISIBLE_DEVICES"
HIP_VISIBLE_DEVICES = "HIP_VISIBLE_DEVICES"
CUDA_MPS_PIPE_DIRECTORY = "CUDA_MPS_PIPE_DIRECTORY"
_VISIBLE = (NVIDIA_VISIBLE_DEVICES, CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES)
PET_MASTER_PORT = "PET_MASTER_PORT"

#: Every pod is on the host's own network.
POD_IP = "127.0.0.1"

#: Linux gives a process no more arguments and environment than this, whatever its limits are (execve(2)).
_MAX_SIZE = 6 << 20

_FIELD_OF_MAP = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


@dataclass(frozen=True)
class Sources:
    """ConfigMaps and Secrets of the pod's namespace that it refers to, by name; None for a missing one."""

    config_maps: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)


def referenced_names(container: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and of the Secrets that a container's environment refers to."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for source in container.get("envFrom") or ():
        config_maps.update(ref["name"] for ref in [source.get("configMapRef")] if ref)
        secrets.update(ref["name"] for ref in [source.get("secretRef")] if ref)
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom") or {}
        config_maps.update(ref["name"] for ref in [value_from.get("configMapKeyRef")] if ref)
        secrets.update(ref["name"] for ref in [value_from.get("secretKeyRef")] if ref)
    return config_maps, secrets


def own_environment(
    pod: Manifest,
    container: Mapping[str, Any],
    sources: Sources,
    allocatable: Mapping[str, str],
    known: Mapping[str, str],
) -> dict[str, str]:
    """What the pod itself says: `envFrom`, then `env`, each may use `$(NAME)` of what came before.

    Args:
        pod: with its node.
        container: one of its containers.
        sources: what the container refers to.
        allocatable: the node's, for resource fields without a limit.
        known: further variables that `$(NAME)` may name.

    Raises:
        ContainerConfigError: a reference that isn't optional leads nowhere.
        StartError: it is more than a process can be given.
    """
    found: dict[str, str] = {}
    size = 0
    for source in container.get("envFrom") or ():
        added = _from_source(source, sources)
        size += sum(len(name) + len(value) for name, value in added.items())
        _check_size(size)
        found |= added
    usable = ChainMap(found, dict(known))
    for variable in container.get("env") or ():
        name = variable["name"]
        value: str | None
        if reference := variable.get("valueFrom"):
            value = _referenced(name, reference, pod, container, sources, allocatable)
        else:
            value = _expanded(variable.get("value") or "", usable, f"variable {name}")
        if value is not None:
            size += len(name) + len(value)
            _check_size(size)
            found[name] = value
    return found


def compose(
    base: Mapping[str, str],
    allocated: Mapping[str, str],
    own: Mapping[str, str],
    master_port: int,
    *,
    hides_nvidia: bool,
    hides_amd: bool,
) -> dict[str, str]:
    """The whole environment, last wins: base, device plugins, the pod's own, and again which GPUs it has.

    A pod can't widen what it was allotted: without GPUs it sees none, whatever it says, and one that was
    given an MPS daemon, with its limits, has that and no other. A plugin that sets
    only NVIDIA_VISIBLE_DEVICES expects a container toolkit to hide the rest; a process has only CUDA's. AMD
    GPUs that ROCm has no name for have HIP's indexes alone: their device nodes decide. Where there are no
    GPUs of a maker to hide (`hides_amd`, `hides_nvidia`) nothing is said of them to who has another's: some
    programs, such as Ray, refuse HIP's variable beside another value of CUDA's.
    """
    visible = allocated.get(NVIDIA_VISIBLE_DEVICES, "void")
    usable = allocated.get(CUDA_VISIBLE_DEVICES, "" if visible == "void" else visible)
    port = {} if PET_MASTER_PORT in own else {PET_MASTER_PORT: str(master_port)}
    gpus = {NVIDIA_VISIBLE_DEVICES: visible}
    if hides_nvidia or usable or HIP_VISIBLE_DEVICES not in allocated:
        gpus[CUDA_VISIBLE_DEVICES] = usable
    if hides_amd and HIP_VISIBLE_DEVICES not in allocated:
        gpus |= {ROCR_VISIBLE_DEVICES: "", HIP_VISIBLE_DEVICES: ""}
    fixed = {*_VISIBLE, ENV_SHARES, *(allocated.keys() & {CUDA_MPS_PIPE_DIRECTORY})}
    rest = {name: value for name, value in own.items() if name not in fixed}
    return {**base, **allocated, **rest, **gpus, **port}


def command_line(container: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """`command` and `args` with `$(NAME)` expanded.

    Raises:
        StartError: there is neither, and a host process has no image that would have one.
    """
    words: Sequence[str] = [*(container.get("command") or ()), *(container.get("args") or ())]
    if not words:
        raise errors.StartError(
            f"container {container['name']} has no command", code=127, remedy="set its command"
        )
    return expand_words(words, environment)


def expand_words(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Words of a command line with `$(NAME)` expanded.

    Raises:
        StartError: they are more than a process can be given.
    """
    expanded: list[str] = []
    size = 0
    for number, word in enumerate(words):
        expanded.append(_expanded(word, environment, f"word {number + 1} of the command line"))
        size += len(expanded[-1])
        _check_size(size)
    return expanded


def _expanded(text: str, values: Mapping[str, str], what: str) -> str:
    try:
        return expand_references(text, values, longest=_MAX_SIZE)
    except ValueError as error:
        raise _too_long(what) from error


def _check_size(size: int) -> None:
    if size > _MAX_SIZE:
        raise _too_long("its environment or command line")


def _too_long(what: str) -> errors.StartError:
    return errors.StartError(
        f"{what} gets longer than {_MAX_SIZE >> 20} MiB", code=126, remedy="pass what is large in a file"
    )


def _from_source(source: Mapping[str, Any], sources: Sources) -> dict[str, str]:
    prefix = source.get("prefix", "")
    for field_name, kind, objects in (
        ("configMapRef", "configmap", sources.config_maps),
        ("secretRef", "secret", sources.secrets),
    ):
        if reference := source.get(field_name):
            data = objects.get(reference["name"])
            if data is None and not reference.get("optional"):
                raise _missing(f'{kind} "{reference["name"]}" not found')
            return {prefix + key: value for key, value in (data or {}).items()}
    return {}


def _referenced(
    name: str,
    reference: Mapping[str, Any],
    pod: Manifest,
    container: Mapping[str, Any],
    sources: Sources,
    allocatable: Mapping[str, str],
) -> str | None:
    """The value; None for an optional one that isn't there."""
    if ref := reference.get("configMapKeyRef"):
        return _key_of("ConfigMap", pod, ref, sources.config_maps)
    if ref := reference.get("secretKeyRef"):
        return _key_of("Secret", pod, ref, sources.secrets)
    if ref := reference.get("fieldRef"):
        return _field(name, ref["fieldPath"], pod)
    if ref := reference.get("resourceFieldRef"):
        return _resource_field(name, ref, pod, container, allocatable)
    raise _missing(f"variable {name}: this yard doesn't know the source {', '.join(reference)}")


def _key_of(
    kind: str, pod: Manifest, ref: Mapping[str, Any], objects: Mapping[str, Mapping[str, str] | None]
) -> str | None:
    data = objects.get(ref["name"])
    if data is not None and ref["key"] in data:
        return data[ref["key"]]
    if ref.get("optional"):
        return None
    if data is None:
        raise _missing(f'{kind.lower()} "{ref["name"]}" not found')
    raise _missing(f"couldn't find key {ref['key']} in {kind} {pod['metadata']['namespace']}/{ref['name']}")


def field_text(path: str, pod: Manifest) -> str | None:
    """A field of the pod, as its variables and files have it; None when there is no such field.

    Source: kubernetes `pkg/fieldpath/fieldpath.go`.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    if match := _FIELD_OF_MAP.fullmatch(path):
        values = labels_of(pod) if match[1] == "labels" else annotations_of(pod)
        return values.get(match[2], "")
    if path in ("metadata.labels", "metadata.annotations"):
        values = labels_of(pod) if path == "metadata.labels" else annotations_of(pod)
        return "\n".join(f"{key}={json.dumps(value)}" for key, value in sorted(values.items()))
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName") or "default",
        "status.hostIP": POD_IP,
        "status.hostIPs": POD_IP,
        "status.podIP": POD_IP,
        "status.podIPs": POD_IP,
    }
    return str(fields[path]) if path in fields else None


def _field(name: str, path: str, pod: Manifest) -> str:
    text = field_text(path, pod)
    if text is None:
        raise _missing(f"variable {name}: there is no field {path}")
    return text


def _resource_field(
    name: str,
    ref: Mapping[str, Any],
    pod: Manifest,
    container: Mapping[str, Any],
    allocatable: Mapping[str, str],
) -> str:
    """A limit or request in units of the divisor, rounded up. Source: `pkg/api/v1/resource/helpers.go`."""
    meant = container
    if wanted := ref.get("containerName"):
        meant = next((c for c in pod["spec"]["containers"] if c["name"] == wanted), container)
    kind, _, resource = ref["resource"].partition(".")
    resources = meant.get("resources") or {}
    amount = (resources.get(kind) or {}).get(resource)
    if amount is None:
        amount = allocatable.get(resource, "0") if kind == "limits" else "0"
    divisor = parse_quantity(ref.get("divisor") or "1") or parse_quantity("1")
    try:
        return str(math.ceil(parse_quantity(amount) / divisor))
    except ValueError as error:
        raise _missing(f"variable {name}: {error}") from error


def _missing(what: str) -> errors.ContainerConfigError:
    return errors.ContainerConfigError(what, remedy="make it, or mark the reference as optional")
