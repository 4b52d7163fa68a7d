"""The agent of each node: one pod, whose containers share files: what to write on the node and its pods.

The plugin holds the GPUs and the kubelet's folders, and has no credentials of the API. The labeller has
credentials, and neither a privilege nor a folder of the node. The exporter, where there is one, has a port,
looks at the GPUs and may read the kubelet's PodResources; it serves nothing to the kubelet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpuyard.gpus.cdi import FOLDER
from gpuyard.kube.objects import POD_MONITORS, Manifest, annotations_of
from gpuyard.tenancy.names import (
    AGENT,
    AGENT_LABELS,
    EXPORTER_CONTAINER,
    LABELLER,
    LABELLER_CONTAINER,
    PLUGIN_CONTAINER,
    RUNTIME_CLASS,
)
from gpuyard.tenancy.options import (
    ANNOTATED,
    CONFIGURED,
    HOST_PID,
    METRICS,
    METRICS_PORT,
    MPS,
    NOT_HOST_PID,
    NOT_MPS,
    NOT_PRIVILEGED,
    NOT_RUNTIME_CLASS,
    OWN_TOLERATIONS,
    PRIVILEGED,
    SIMULATED,
    TAINT,
    WITH_BACKEND,
    WITH_RUNTIME_CLASS,
    DriverAccess,
    InstallOptions,
)
from gpuyard.tenancy.template import Only

_PLUGINS = "/var/lib/kubelet/device-plugins"
_POD_RESOURCES = "/var/lib/kubelet/pod-resources"
_DRIVER_ROOT = "/driver-root"
_SHARED = "/run/gpuyard"
_MARKS_FILE = f"{_SHARED}/marks.json"
#: The exporter writes it, and the labeller reads it.
_USE_FILE = f"{_SHARED}/gpu-use.json"
_READY_FILE = f"{_SHARED}/ready"
_NOT_READY = "the kubelet doesn't know its GPUs yet"
_CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"
_SIMULATE, _MIG_STRATEGY, _TAINT = "--simulate=", "--mig-strategy=", "--taint"
_CONFIG, _BACKEND = "--config", "--gpu-backend="
#: Of the node, and the same in containers, since clients are told where the pipes are.
_MPS = "/run/gpuyard-mps"
_SHARED_MEMORY = "/dev/shm"
#: Clients share it with their daemon, and with nobody else on the node.
_MPS_SHARED_MEMORY = f"{_SHARED_MEMORY}/gpuyard-mps"
_NOBODY = 65534
#: Of the exporter's port.
_METRICS = "metrics"
#: The kubelet makes a new one when four fifths of it have passed.
_TOKEN_S = 3600


def daemon_set() -> dict[str, Any]:
    """The DaemonSet."""
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": AGENT, "namespace": "@namespace@", "labels": dict(AGENT_LABELS)},
        "spec": {
            "selector": {"matchLabels": dict(AGENT_LABELS)},
            # The next agent of a node starts beside the one that serves, and that one ends once the kubelet
            # knows the next: a pod that comes meanwhile gets its GPUs.
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "10%", "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": dict(AGENT_LABELS), "annotations": Only(ANNOTATED, _scraped())},
                "spec": _pod(),
            },
        },
    }


def options_of(agent: Manifest, options: InstallOptions) -> InstallOptions:
    """The options that a cluster's DaemonSet was made with; where it doesn't say, those that are given."""
    pod = agent["spec"]["template"]["spec"]
    containers = {container["name"]: container for container in pod["containers"]}
    plugin, labeller = containers.get(PLUGIN_CONTAINER, {}), containers.get(LABELLER_CONTAINER, {})
    arguments: list[str] = plugin.get("args") or []

    def value_of(name: str) -> str:
        return next((each.removeprefix(name) for each in arguments if each.startswith(name)), "")

    privileged = (plugin.get("securityContext") or {}).get("privileged", False)
    return replace(
        options,
        image=plugin.get("image", ""),
        simulate=value_of(_SIMULATE),
        mig_strategy=value_of(_MIG_STRATEGY) or options.mig_strategy,
        gpu_config=arguments[arguments.index(_CONFIG) + 1] if _CONFIG in arguments else "",
        gpu_backend=value_of(_BACKEND),
        host_pid=pod.get("hostPID", False),
        driver_access=DriverAccess.PRIVILEGED if privileged else DriverAccess.RUNTIMECLASS,
        metrics=EXPORTER_CONTAINER in containers,
        pod_monitor=EXPORTER_CONTAINER in containers
        and not _scraped().items() <= annotations_of(agent["spec"]["template"]).items(),
        taint=_TAINT in (labeller.get("args") or ()),
        node_selector=dict(pod.get("nodeSelector") or {}),
        tolerations=tuple(each for each in pod.get("tolerations") or () if each not in OWN_TOLERATIONS),
    )


def _pod() -> dict[str, Any]:
    return {
        "serviceAccountName": LABELLER,
        # Mounted by hand, into the labeller alone.
        "automountServiceAccountToken": False,
        "priorityClassName": "system-node-critical",
        "runtimeClassName": Only(WITH_RUNTIME_CLASS, RUNTIME_CLASS),
        "nodeSelector": "@json:nodeSelector@",
        "tolerations": "@json:tolerations@",
        "terminationGracePeriodSeconds": 10,
        # The first process of a PID namespace loses signals that come before it has a handler, and would be
        # killed 10 s after a SIGTERM that came while Python started. The two share no user, so that neither
        # can do anything to the other.
        "shareProcessNamespace": Only(NOT_HOST_PID, True),
        "hostPID": Only(HOST_PID, True),
        "containers": [_plugin(), _labeller(), Only(METRICS, _exporter())],
        "volumes": [
            _host_path("device-plugins", _PLUGINS, "Directory"),
            _host_path("pod-resources", _POD_RESOURCES, "Directory"),
            _host_path("cdi", FOLDER, "DirectoryOrCreate"),
            {"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            _credentials(),
            Only(PRIVILEGED, _host_path("driver-root", "/", "Directory")),
            Only(MPS, _host_path("mps", _MPS, "DirectoryOrCreate")),
            Only(MPS, _host_path("mps-shm", _MPS_SHARED_MEMORY, "DirectoryOrCreate")),
        ],
    }


def _plugin() -> dict[str, Any]:
    return {
        "name": PLUGIN_CONTAINER,
        "image": "@image@",
        "command": ["python3", "-m", "gpuyard.agent"],
        "args": [
            f"--plugins-dir={_PLUGINS}",
            f"--cdi-dir={FOLDER}",
            "--remove-cdi-on-exit",
            f"--marks-file={_MARKS_FILE}",
            f"--ready-file={_READY_FILE}",
            "--node=$(NODE_NAME)",
            # An agent of another install, and one without this option, waits until this one has ended.
            f"--owner=$(NAMESPACE)/{AGENT}",
            f"{_MIG_STRATEGY}@migStrategy@",
            Only(CONFIGURED, _CONFIG),
            Only(CONFIGURED, "@json:gpuConfig@"),
            *_backends(),
            Only(PRIVILEGED, "--cdi-driver"),
            Only(MPS, f"--mps-dir={_MPS}"),
            Only(MPS, f"--mps-shm={_MPS_SHARED_MEMORY}"),
        ],
        "env": [*_env(), _own_namespace(), *_visible_gpus()],
        "securityContext": _beside_the_kubelet(),
        "startupProbe": _startup_probe(),
        # MPS servers need some for each of their clients.
        "resources": {**_resources(), "limits": Only(NOT_MPS, _resources("@pluginMemory@")["limits"])},
        "volumeMounts": [
            {"name": "device-plugins", "mountPath": _PLUGINS},
            {"name": "pod-resources", "mountPath": _POD_RESOURCES, "readOnly": True},
            {"name": "cdi", "mountPath": FOLDER},
            {"name": "shared", "mountPath": _SHARED},
            _driver_root(),
            Only(MPS, {"name": "mps", "mountPath": _MPS}),
            Only(MPS, {"name": "mps-shm", "mountPath": _SHARED_MEMORY}),
        ],
    }


def _labeller() -> dict[str, Any]:
    return {
        "name": LABELLER_CONTAINER,
        "image": "@image@",
        "command": ["python3", "-m", "gpuyard.agent.labelling"],
        "args": [
            "--node=$(NODE_NAME)",
            f"--follow={_MARKS_FILE}",
            f"--use-file={_USE_FILE}",
            Only(TAINT, _TAINT),
            f"--daemon-set=$(NAMESPACE)/{AGENT}",
        ],
        "env": [
            *_env(),
            _own_namespace(),
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
        ],
        "securityContext": {
            "runAsUser": _NOBODY,
            "runAsGroup": _NOBODY,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": _resources(),
        "volumeMounts": [
            {"name": "shared", "mountPath": _SHARED, "readOnly": True},
            {"name": "credentials", "mountPath": _CREDENTIALS, "readOnly": True},
        ],
    }


def pod_monitor() -> dict[str, Any]:
    """What the Prometheus operator goes by."""
    endpoint = {
        "port": _METRICS,
        # `pod` and the like are of who has a GPU. A GPU that nobody has would get the exporter's own.
        "honorLabels": True,
        "relabelings": [{"action": "labeldrop", "regex": "pod|container|namespace|endpoint"}],
    }
    return {
        "apiVersion": POD_MONITORS.api_version,
        "kind": POD_MONITORS.kind,
        "metadata": {"name": AGENT, "namespace": "@namespace@", "labels": dict(AGENT_LABELS)},
        "spec": {"selector": {"matchLabels": dict(AGENT_LABELS)}, "podMetricsEndpoints": [endpoint]},
    }


def _scraped() -> dict[str, str]:
    """What a Prometheus goes by that knows no PodMonitor."""
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS_PORT),
        "prometheus.io/path": "/metrics",
    }


def _exporter() -> dict[str, Any]:
    return {
        "name": EXPORTER_CONTAINER,
        "image": "@image@",
        "command": ["python3", "-m", "gpuyard.agent.exporter"],
        "args": [
            "--node=$(NODE_NAME)",
            f"--pod-resources={_POD_RESOURCES}/kubelet.sock",
            f"--port={METRICS_PORT}",
            f"--marks-file={_MARKS_FILE}",
            f"--use-file={_USE_FILE}",
            *_backends(),
        ],
        "env": [*_env(), *_visible_gpus()],
        "ports": [{"name": _METRICS, "containerPort": METRICS_PORT, "protocol": "TCP"}],
        "securityContext": _beside_the_kubelet(),
        "resources": _resources(),
        "volumeMounts": [
            {"name": "pod-resources", "mountPath": _POD_RESOURCES, "readOnly": True},
            {"name": "shared", "mountPath": _SHARED},
            _driver_root(),
        ],
    }


def _backends() -> list[Any]:
    """Where the GPUs come from."""
    simulation = (f"{_SIMULATE}@simulate@", f"--simulated-health={_SHARED}/simulated.json")
    roots = (f"--driver-root={_DRIVER_ROOT}", f"--host-root={_DRIVER_ROOT}")
    return [
        *(Only(SIMULATED, argument) for argument in simulation),
        *(Only(PRIVILEGED, argument) for argument in roots),
        Only(WITH_BACKEND, f"{_BACKEND}@gpuBackend@"),
    ]


def _visible_gpus() -> list[Any]:
    """What NVIDIA's runtime adds to a container: all GPUs and the library that lists them, or nothing."""
    return [
        Only(WITH_RUNTIME_CLASS, {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}),
        Only(WITH_RUNTIME_CLASS, {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "utility"}),
        Only(NOT_RUNTIME_CLASS, {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}),
    ]


def _beside_the_kubelet() -> dict[str, Any]:
    return {
        # The kubelet's folders and sockets, and the CDI folder, belong to root. Owning them is enough.
        "runAsUser": 0,
        "runAsGroup": 0,
        "readOnlyRootFilesystem": True,
        "privileged": Only(PRIVILEGED, True),
        "allowPrivilegeEscalation": Only(NOT_PRIVILEGED, False),
        "capabilities": Only(NOT_PRIVILEGED, {"drop": ["ALL"]}),
        "seccompProfile": Only(NOT_PRIVILEGED, {"type": "RuntimeDefault"}),
    }


def _driver_root() -> Only:
    mount = {
        "name": "driver-root",
        "mountPath": _DRIVER_ROOT,
        "readOnly": True,
        "mountPropagation": "HostToContainer",
    }
    return Only(PRIVILEGED, mount)


def _env() -> list[dict[str, Any]]:
    return [
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
        # The root file system is read-only: looking for somewhere to write byte code costs time.
        {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
    ]


def _own_namespace() -> dict[str, Any]:
    # Not written out: kustomize may have moved the install.
    return {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}


def _startup_probe() -> dict[str, Any]:
    """Whether the kubelet knows the GPUs; once it does nobody asks again. A driver may load for minutes."""
    look = f"import os, sys; os.path.exists('{_READY_FILE}') or sys.exit(\"{_NOT_READY}\")"
    return {
        "exec": {"command": ["python3", "-I", "-S", "-c", look]},
        "periodSeconds": 1,
        "timeoutSeconds": 10,
        "failureThreshold": 600,
    }


def _resources(limit: str = "128Mi") -> dict[str, Any]:
    return {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": limit}}


def _host_path(name: str, path: str, kind: str) -> dict[str, Any]:
    return {"name": name, "hostPath": {"path": path, "type": kind}}


def _credentials() -> dict[str, Any]:
    sources: list[dict[str, Any]] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_S}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return {"name": "credentials", "projected": {"defaultMode": 0o444, "sources": sources}}
