"""A run as Kubernetes objects: one batch/v1 Job, and a ConfigMap where its image lacks files.

Without an image it is a process of the yard's host, marked with a runtime class that no cluster has. With
one it is a container that any cluster takes as it is, within Pod Security's "restricted".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gpuyard.gpus.resources import GPU_RESOURCE, whole_gpus
from gpuyard.kube.objects import Manifest
from gpuyard.kube.quantity import format_bytes, to_int
from gpuyard.kube.references import escape_references
from gpuyard.kube.wellknown import (
    ANNOTATION_COMMAND,
    ANNOTATION_PYTHONPATH,
    ANNOTATION_SNAPSHOT,
    ANNOTATION_SUBMITTED_AT,
    ENV_GPUS,
    ENV_SUBMIT_DIR,
    IMAGE_PROCESS,
    LABEL_GPU_MODEL,
    LABEL_RUN,
    RUNTIME_CLASS_PROCESS,
)
from gpuyard.workloads import grace
from gpuyard.workloads.command import display, resolve_command
from gpuyard.workloads.gang import (
    environment,
    is_elastic,
    is_gang,
    job_annotations,
    job_fields,
    pod_group,
    service,
    subdomain,
    template_annotations,
    with_own,
    with_torchrun,
)
from gpuyard.workloads.launch import Launch, launch
from gpuyard.workloads.pod_failure_policy import retry_fields
from gpuyard.workloads.resolved_run import HostContext, ResolvedRun
from gpuyard.workloads.spec.run_spec import RunSpec

if TYPE_CHECKING:
    from gpuyard.workloads.sweeps.sweep import SweepObjects

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


def render(run: ResolvedRun) -> list[Manifest]:
    """The objects of a run in the order of creation: claims that it makes, the ConfigMap that its Job mounts,
    the Service that its pods have their names from, the PodGroup by which a scheduler starts them together
    and the values of its tasks, if any, and the Job.

    Nothing changes them afterwards: what is to be in them has to be in `run`.
    """
    carried, tasks = _claims(run), _tasks(run)
    named = [service(run.name, run.namespace)] if is_gang(run.spec) else []
    if run.has_pod_group:
        named.append(pod_group(run.name, run.namespace, run.spec))
    if tasks:
        named.append(tasks.config_map)
    if run.host:
        return [*carried, *named, _job(run, tasks, _host_pod(run, tasks, run.host))]
    started = launch(run)
    files = [started.config_map] if started.config_map else []
    return [*carried, *files, *named, _job(run, tasks, _image_pod(run, tasks, started))]


def _job(run: ResolvedRun, tasks: SweepObjects | None, pod: dict[str, Any]) -> Manifest:
    labels = {LABEL_RUN: run.name}
    annotations = {ANNOTATION_COMMAND: display(run.spec.run), **(tasks.annotations if tasks else {})}
    annotations |= job_annotations(run.spec)
    if run.submitted_at is not None:
        annotations[ANNOTATION_SUBMITTED_AT] = run.submitted_at.isoformat(timespec="microseconds")
    if run.host and run.host.snapshot:
        annotations[ANNOTATION_SNAPSHOT] = run.host.snapshot.target.name
    if run.host and run.host.pythonpath and "PYTHONPATH" not in run.spec.env:
        annotations[ANNOTATION_PYTHONPATH] = run.host.pythonpath
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": run.name,
            "namespace": run.namespace,
            "labels": dict(labels),
            "annotations": annotations,
        },
        "spec": {
            **job_fields(run.spec),
            **(tasks.job_fields(run.spec.at_once) if tasks else {}),
            **retry_fields(
                run.spec.retries,
                is_queued=run.is_queued,
                is_gang=is_gang(run.spec),
                is_elastic=is_elastic(run.spec),
                by_index=tasks is not None,
                ends_unused=grace.ends_unused(run.spec),
            ),
            "template": {"metadata": {"labels": dict(labels), **_annotated(run.spec)}, "spec": pod},
        },
    }


def _tasks(run: ResolvedRun) -> SweepObjects | None:
    if run.spec.sweep is None:
        return None
    from gpuyard.workloads.sweeps.sweep import SweepObjects  # Few runs are sweeps.

    return SweepObjects(run.name, run.namespace, run.spec.sweep)


def _claims(run: ResolvedRun) -> list[Manifest]:
    if not run.spec.volumes:
        return []
    from gpuyard.workloads.volumes import claims  # Few runs have any, and imports cost start-up time.

    return claims(run)


def _mounts(spec: RunSpec) -> list[dict[str, Any]]:
    if not spec.volumes:
        return grace.mounts(spec)
    from gpuyard.workloads.volumes import mounts

    return [*grace.mounts(spec), *mounts(spec)]


def _pod_volumes(spec: RunSpec) -> list[dict[str, Any]]:
    if not spec.volumes:
        return grace.pod_volumes(spec)
    from gpuyard.workloads.volumes import pod_volumes

    return [*grace.pod_volumes(spec), *pod_volumes(spec)]


def _annotated(spec: RunSpec) -> dict[str, Any]:
    annotations = template_annotations(spec)
    return {"annotations": annotations} if annotations else {}


def _among_others(run: ResolvedRun) -> dict[str, Any]:
    """Below what the pods of a run have their names, the first part of which the Job's controller sets, and
    with what they start."""
    if not is_gang(run.spec):
        return {}
    group = {"schedulingGroup": {"podGroupName": run.name}} if run.has_pod_group else {}
    return {"subdomain": subdomain(run.name), **group}


def _host_pod(run: ResolvedRun, tasks: SweepObjects | None, host: HostContext) -> dict[str, Any]:
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
        "env": _env(run, tasks, {name: value for name, value in env.items() if value} | dict(spec.env)),
        **_resources(spec),
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, *_mounts(spec)],
    }
    return {
        "restartPolicy": "Never",
        **grace.pod_fields(spec),
        "runtimeClassName": RUNTIME_CLASS_PROCESS,
        **_among_others(run),
        **_placement(spec),
        "containers": [container],
        "volumes": [_shm(spec), *_pod_volumes(spec)],
    }


def _image_pod(run: ResolvedRun, tasks: SweepObjects | None, started: Launch) -> dict[str, Any]:
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
        "env": _env(run, tasks, env),
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
        "restartPolicy": "Never",
        **grace.pod_fields(spec),
        "automountServiceAccountToken": False,
        # As process 1 of its own it would not notice signals that it doesn't handle: `stop` would have to
        # wait for the end of the grace period, and nobody would reap what its children leave.
        "shareProcessNamespace": True,
        **_among_others(run),
        "securityContext": dict(_IMAGE_SECURITY),
        **_placement(spec, run.excluded_nodes),
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


def _env(run: ResolvedRun, tasks: SweepObjects | None, values: Mapping[str, str]) -> list[dict[str, Any]]:
    own = [{"name": name, "value": escape_references(value)} for name, value in values.items()]
    wiring = environment(run.name, run.namespace, run.spec)
    return with_own([*wiring, *(tasks.environment if tasks else ())], own)


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


def _placement(spec: RunSpec, excluded_nodes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    placement: dict[str, Any] = {}
    if spec.priority:
        placement["priorityClassName"] = spec.priority
    if spec.node_selector:
        placement["nodeSelector"] = dict(spec.node_selector)
    tolerations = [dict(toleration) for toleration in spec.tolerations]
    if spec.gpus.count:
        # Nodes with GPUs are often tainted against everything else, and clusters don't add this by default.
        # gpuyard's own taint has NVIDIA's name, whosever the GPUs are.
        keys = dict.fromkeys((GPU_RESOURCE, whole_gpus(spec.gpus.vendor)))
        tolerations += [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]
    if tolerations:
        placement["tolerations"] = tolerations
    affinity = _affinity(spec, excluded_nodes)
    if affinity:
        placement["affinity"] = affinity
    return placement


def _affinity(spec: RunSpec, excluded_nodes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The user's affinity; in each of its required node terms, of which one must hold, our own as well."""
    affinity: dict[str, Any] = dict(spec.affinity or {})
    ours: list[Mapping[str, Any]] = []
    if spec.gpus.models and not spec.gpus.by_model:
        names = [model.name for model in spec.gpus.models]
        ours.append({"key": LABEL_GPU_MODEL, "operator": "In", "values": names})
    if excluded_nodes:
        ours.append(dict(excluded_nodes))
    if not ours:
        return affinity
    node: dict[str, Any] = dict(affinity.get("nodeAffinity") or {})
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    written: list[dict[str, Any]] = required.get("nodeSelectorTerms") or [{}]
    terms = [{**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *ours]} for term in written]
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return {**affinity, "nodeAffinity": node}
