"""One pod of a run or a service, as a process of the yard's host or in an image (pure).

Without an image it is a process of the yard's host, marked with a runtime class that no cluster has. With
one it is a container that any cluster takes as it is, within Pod Security's "restricted". What starts the
pod, a Job or a Deployment, says in a `PodRole` what it has besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.quantity import format_bytes, to_int
from gpuyard.kube.references import escape_references
from gpuyard.kube.wellknown import ENV_GPUS, ENV_SUBMIT_DIR, IMAGE_PROCESS, RUNTIME_CLASS_PROCESS
from gpuyard.workloads import grace
from gpuyard.workloads.command import resolve_command
from gpuyard.workloads.gang import with_own, with_torchrun
from gpuyard.workloads.launch import Launch, launch
from gpuyard.workloads.pods.placement import placement
from gpuyard.workloads.resolved_run import HostContext, ResolvedRun
from gpuyard.workloads.spec.run_spec import RunSpec

CONTAINER = "main"

_IMAGE_HOME = "/home/gpuyard"
_IMAGE_USER = "gpuyard"
_IMAGE_UID = 1000
_IMAGE_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": _IMAGE_UID,
    "runAsGroup": _IMAGE_UID,
    "fsGroup": _IMAGE_UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_MIB = 2**20
#: Python holds its output back when it isn't a terminal's, and a log that is minutes late is no log.
_ENV = {"PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class PodRole:
    """What a pod has of what starts it.

    Attributes:
        fields: of the pod's spec: how it is started again, how it ends, what it belongs to.
        container: fields of its container.
        wiring: variables of its environment, over which its user's own win.
    """

    fields: Mapping[str, Any]
    container: Mapping[str, Any] = field(default_factory=dict)
    wiring: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class RenderedPod:
    """The spec of a pod, and the ConfigMap that it mounts; None where the image has all."""

    spec: dict[str, Any]
    config_map: Manifest | None = None


def render_pod(run: ResolvedRun, role: PodRole) -> RenderedPod:
    """The pod of a run of which all is decided."""
    if run.host:
        return RenderedPod(_host_pod(run, role, run.host))
    started = launch(run)
    return RenderedPod(_image_pod(run, role, started), started.config_map)


def _mounts(spec: RunSpec) -> list[dict[str, Any]]:
    if not spec.volumes:
        return grace.mounts(spec)
    from gpuyard.workloads.volumes import mounts  # Few runs have any, and imports cost start-up time.

    return [*grace.mounts(spec), *mounts(spec)]


def _pod_volumes(spec: RunSpec) -> list[dict[str, Any]]:
    if not spec.volumes:
        return grace.pod_volumes(spec)
    from gpuyard.workloads.volumes import pod_volumes

    return [*grace.pod_volumes(spec), *pod_volumes(spec)]


def _host_pod(run: ResolvedRun, role: PodRole, host: HostContext) -> dict[str, Any]:
    spec = run.spec
    command = with_torchrun(resolve_command(spec.run, host.python, spec.shell), spec)
    env = {
        **_base_env(spec),
        "PATH": host.search_path,
        "HOME": host.home,
        "USER": host.user,
        "LANG": host.lang,
        "VIRTUAL_ENV": host.virtual_env,
        ENV_SUBMIT_DIR: host.snapshot.submit_dir if host.snapshot else "",
    }
    container = {
        "name": CONTAINER,
        "image": IMAGE_PROCESS,
        "command": [escape_references(word) for word in command],
        "workingDir": host.workdir,
        "env": _env(role, {name: value for name, value in env.items() if value} | dict(spec.env)),
        **role.container,
        **_resources(spec),
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, *_mounts(spec)],
    }
    return {
        **role.fields,
        "runtimeClassName": RUNTIME_CLASS_PROCESS,
        **placement(spec),
        "containers": [container],
        "volumes": [_shm(spec), *_pod_volumes(spec)],
    }


def _image_pod(run: ResolvedRun, role: PodRole, started: Launch) -> dict[str, Any]:
    spec = run.spec
    env = {**_base_env(spec), "HOME": _IMAGE_HOME, "USER": _IMAGE_USER, "LOGNAME": _IMAGE_USER, **spec.env}
    if not spec.gpus.count:
        # CUDA images say "all"; where the toolkit heeds that, a run without GPUs would see every one.
        env["NVIDIA_VISIBLE_DEVICES"] = "void"
    container = {
        "name": CONTAINER,
        "image": run.image,
        "command": list(started.command),
        # A relative one is the folder here whose files go into an image that is built.
        **({"workingDir": spec.workdir} if (spec.workdir or "").startswith("/") else {}),
        "env": _env(role, env),
        **role.container,
        **_resources(spec),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # The image's own folders belong to root: these two and /dev/shm are what the run can write.
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "home", "mountPath": _IMAGE_HOME},
            *started.mounts,
            *_mounts(spec),
        ],
    }
    return {
        **role.fields,
        "automountServiceAccountToken": False,
        # As process 1 of its own it would not notice signals that it doesn't handle: `stop` would have to
        # wait for the end of the grace period, and nobody would reap what its children leave.
        "shareProcessNamespace": True,
        "securityContext": dict(_IMAGE_SECURITY),
        **placement(spec, run.excluded_nodes),
        **_pull_secrets(spec),
        "containers": [container],
        "volumes": [
            _shm(spec),
            {"name": "tmp", "emptyDir": {}},
            {"name": "home", "emptyDir": {}},
            *started.volumes,
            *_pod_volumes(spec),
        ],
    }


def _pull_secrets(spec: RunSpec) -> dict[str, Any]:
    names = [{"name": name} for name in spec.image_pull_secrets]
    return {"imagePullSecrets": names} if names else {}


def _base_env(spec: RunSpec) -> dict[str, str]:
    env = {**_ENV, **grace.environment(spec)}
    if not spec.gpus.count:
        return env
    # Several shares may be of one GPU.
    return {**env, ENV_GPUS: "1" if spec.gpus.is_share else str(spec.gpus.count)}


def _env(role: PodRole, values: Mapping[str, str]) -> list[dict[str, Any]]:
    own = [{"name": name, "value": escape_references(value)} for name, value in values.items()]
    return with_own(role.wiring, own)


def _resources(spec: RunSpec) -> dict[str, Any]:
    amounts: dict[str, str] = {}
    if spec.cpus:
        amounts["cpu"] = spec.cpus
    if spec.memory:
        amounts["memory"] = spec.memory
    if spec.gpus.count:
        amounts[spec.gpus.resource] = str(spec.gpus.count)
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
