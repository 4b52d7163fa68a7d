"""A run as the Kubernetes object that carries it: one batch/v1 Job.

Without an image it is a process of the yard's host, marked with a runtime class that no cluster has. With
one it is a container that any cluster takes as it is, within Pod Security's "restricted".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.quantity import format_bytes, to_int
from gpuyard.kube.references import escape_references
from gpuyard.kube.wellknown import (
    ANNOTATION_COMMAND,
    ENV_GPUS,
    GPU_RESOURCE,
    IMAGE_PROCESS,
    LABEL_GPU_MODEL,
    LABEL_RUN,
    RUNTIME_CLASS_PROCESS,
)
from gpuyard.workloads.command import display, resolve_command
from gpuyard.workloads.spec import RunSpec

CONTAINER = "main"

_IMAGE_HOME = "/home/gpuyard"
_IMAGE_USER = "gpuyard"
_IMAGE_UID = 1000
_MIB = 2**20
#: Python holds its output back when it isn't a terminal's, and a log that is minutes late is no log.
_ENV = {"PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class HostContext:
    """What a host process takes over from the shell that submits it.

    Attributes:
        python: absolute path of the interpreter, shims resolved.
        workdir: absolute path.
        path, home, user, lang: of the shell; an empty one isn't passed on.
        virtual_env: VIRTUAL_ENV, empty when the interpreter isn't that environment's.
    """

    python: str
    workdir: str
    path: str
    home: str
    user: str
    lang: str = ""
    virtual_env: str = ""


def render(spec: RunSpec, context: HostContext | None, *, name: str, namespace: str) -> list[Manifest]:
    """The objects of a run.

    Args:
        spec: what to run.
        context: the submitting shell, for a host process; not used when the spec has an image.
        name: the run's name (`spec.name`, or a generated one).
        namespace: where it is to live.
    """
    if spec.image:
        pod = _image_pod(spec)
    elif context:
        pod = _host_pod(spec, context)
    else:
        raise ValueError("a run without an image needs the context of its host")
    labels = {LABEL_RUN: name}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": dict(labels),
            "annotations": {ANNOTATION_COMMAND: display(spec.run)},
        },
        "spec": {
            "backoffLimit": spec.retries,
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }
    return [job]


def _host_pod(spec: RunSpec, context: HostContext) -> dict[str, Any]:
    env = {
        **_base_env(spec),
        "PATH": search_path(context),
        "HOME": context.home,
        "USER": context.user,
        "LANG": context.lang,
        "VIRTUAL_ENV": context.virtual_env,
    }
    container = {
        "name": CONTAINER,
        "image": IMAGE_PROCESS,
        "command": _command(spec, context.python),
        "workingDir": context.workdir,
        "env": _env({name: value for name, value in env.items() if value} | dict(spec.env)),
        **_resources(spec),
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    return {
        "restartPolicy": "Never",
        "runtimeClassName": RUNTIME_CLASS_PROCESS,
        **_placement(spec),
        "containers": [container],
        "volumes": [_shm(spec)],
    }


def search_path(context: HostContext) -> str:
    """The PATH of a host process: the interpreter's folder, then the shell's."""
    folders = [str(PurePosixPath(context.python).parent), *context.path.split(":")]
    return ":".join(dict.fromkeys(folder for folder in folders if folder))


def _image_pod(spec: RunSpec) -> dict[str, Any]:
    env = {**_base_env(spec), "HOME": _IMAGE_HOME, "USER": _IMAGE_USER, "LOGNAME": _IMAGE_USER, **spec.env}
    if not spec.gpus.count:
        # CUDA images say "all"; where the toolkit heeds that, a run without GPUs would see every one.
        env["NVIDIA_VISIBLE_DEVICES"] = "void"
    container = {
        "name": CONTAINER,
        "image": spec.image,
        # A command takes the place of the entrypoint, and with it of the launcher's check of the GPUs.
        "command": [*(spec.entrypoint if spec.gpus.count else ()), *_command(spec, spec.python)],
        **({"workingDir": spec.workdir} if spec.workdir else {}),
        "env": _env(env),
        **_resources(spec),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # The image's own folders belong to root: these two and /dev/shm are what the run can write.
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "home", "mountPath": _IMAGE_HOME},
        ],
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        # As process 1 of its own it would not notice signals that it doesn't handle: `stop` would have to
        # wait for the end of the grace period, and nobody would reap what its children leave.
        "shareProcessNamespace": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _IMAGE_UID,
            "runAsGroup": _IMAGE_UID,
            "fsGroup": _IMAGE_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **_placement(spec),
        **_pull_secrets(spec),
        "containers": [container],
        "volumes": [_shm(spec), {"name": "tmp", "emptyDir": {}}, {"name": "home", "emptyDir": {}}],
    }


def _pull_secrets(spec: RunSpec) -> dict[str, Any]:
    names = [{"name": name} for name in spec.image_pull_secrets]
    return {"imagePullSecrets": names} if names else {}


def _command(spec: RunSpec, python: str | None) -> list[str]:
    return [escape_references(word) for word in resolve_command(spec.run, python)]


def _base_env(spec: RunSpec) -> dict[str, str]:
    return {**_ENV, ENV_GPUS: str(spec.gpus.count)} if spec.gpus.count else _ENV


def _env(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": escape_references(value)} for name, value in values.items()]


def _resources(spec: RunSpec) -> dict[str, Any]:
    amounts: dict[str, str] = {}
    if spec.cpus:
        amounts["cpu"] = spec.cpus
    if spec.memory:
        amounts["memory"] = spec.memory
    if spec.gpus.count:
        amounts[GPU_RESOURCE] = str(spec.gpus.count)
    return {"resources": {"requests": dict(amounts), "limits": dict(amounts)}} if amounts else {}


def _shm(spec: RunSpec) -> dict[str, Any]:
    """/dev/shm in memory: `shm`, else half of `memory`, else Kubernetes' own bound.

    Half is what Linux gives a machine's /dev/shm; without a bound of ours the node's memory is the limit,
    since a fixed default would break DataLoader workers on large machines.
    """
    volume: dict[str, Any] = {"medium": "Memory"}
    if spec.shm:
        volume["sizeLimit"] = spec.shm
    elif spec.memory:
        volume["sizeLimit"] = format_bytes(max(to_int(spec.memory) // 2 // _MIB, 1) * _MIB)
    return {"name": "shm", "emptyDir": volume}


def _placement(spec: RunSpec) -> dict[str, Any]:
    placement: dict[str, Any] = {}
    if spec.priority:
        placement["priorityClassName"] = spec.priority
    if spec.node_selector:
        placement["nodeSelector"] = dict(spec.node_selector)
    tolerations = [dict(toleration) for toleration in spec.tolerations]
    if spec.gpus.count:
        # Nodes with GPUs are often tainted against everything else, and clusters don't add this by default.
        tolerations.append({"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"})
    if tolerations:
        placement["tolerations"] = tolerations
    affinity = _affinity(spec)
    if affinity:
        placement["affinity"] = affinity
    return placement


def _affinity(spec: RunSpec) -> dict[str, Any]:
    """The user's affinity, and the GPU model in each of its required node terms (of which one must hold)."""
    affinity: dict[str, Any] = dict(spec.affinity or {})
    if not spec.gpus.models:
        return affinity
    names = [model.name for model in spec.gpus.models]
    model = {"key": LABEL_GPU_MODEL, "operator": "In", "values": names}
    node: dict[str, Any] = dict(affinity.get("nodeAffinity") or {})
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    written: list[dict[str, Any]] = required.get("nodeSelectorTerms") or [{}]
    terms = [{**term, "matchExpressions": [*(term.get("matchExpressions") or ()), model]} for term in written]
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return {**affinity, "nodeAffinity": node}
