"""The options of an install, and what of it depends on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gpuyard.gpus.resources import whole_gpus
from gpuyard.kube.wellknown import AMD, NVIDIA
from gpuyard.tenancy.names import NAMESPACE
from gpuyard.tenancy.template import Condition

#: The first Kubernetes with ValidatingAdmissionPolicy, and with tokens that say where their pod runs.
ADMISSION_SINCE = (1, 30)
#: The first with MutatingAdmissionPolicy.
VOID_SINCE = (1, 36)
#: Of agents, always: the first is of their own taint, and administrators put both on nodes with such GPUs.
OWN_TOLERATIONS = tuple({"key": whole_gpus(vendor), "operator": "Exists"} for vendor in (NVIDIA, AMD))
#: Where dcgm-exporter's are looked for, too.
METRICS_PORT = 9400
TOLERATE_ALL = {"operator": "Exists"}
_LINUX = {"kubernetes.io/os": "linux"}


class DriverAccess(StrEnum):
    """How the plugin reaches the driver: /dev/nvidia* behind a hostPath is closed by the device cgroup.

    RUNTIMECLASS: NVIDIA's container runtime on the nodes puts GPUs and NVML into the container.
    PRIVILEGED: the container may do anything on the node, and sees its file system.
    """

    RUNTIMECLASS = "runtimeclass"
    PRIVILEGED = "privileged"


@dataclass(frozen=True)
class InstallOptions:
    """How gpuyard is installed.

    Attributes:
        image: of the agent, as the nodes pull it.
        namespace: of the agent; made by the install.
        simulate: simulated GPUs for every node, such as `H100:8`; empty for the real ones.
        driver_access: for real GPUs.
        mig_strategy: how parts of split GPUs are offered: none, single or mixed.
        metrics: whether each agent has an exporter, on METRICS_PORT of its pod.
        pod_monitor: whether a Prometheus finds the exporters by a PodMonitor; else by annotations.
        gpu_config: the agents' configuration, as JSON; empty for none.
        gpu_backend: a Python module of the image that finds another vendor's GPUs; empty for none.
        host_pid: whether agents see the processes of their node, to say whose a foreign one is.
        taint: whether nodes with GPUs keep pods without a GPU request away.
        policy: whether tenants' pods are checked at admission. It needs ADMISSION_SINCE.
        confine: whether admission keeps each labeller to its node. It needs the same.
        void: whether tenants' containers without GPUs are given NVIDIA_VISIBLE_DEVICES=void. It needs
            VOID_SINCE.
        node_selector: labels of the nodes that get an agent.
        tolerations: of the agents besides OWN_TOLERATIONS, as Kubernetes writes them.
    """

    image: str
    namespace: str = NAMESPACE
    simulate: str = ""
    driver_access: DriverAccess = DriverAccess.RUNTIMECLASS
    mig_strategy: str = "none"
    metrics: bool = False
    pod_monitor: bool = False
    gpu_config: str = ""
    gpu_backend: str = ""
    host_pid: bool = False
    taint: bool = False
    policy: bool = False
    confine: bool = True
    void: bool = False
    node_selector: Mapping[str, str] = field(default_factory=lambda: dict(_LINUX))
    tolerations: Sequence[Mapping[str, str]] = ()


def shares_by_mps(gpu_config: str) -> bool:
    """Whether the agents' configuration, as JSON, shares some GPUs by MPS."""
    config = json.loads(gpu_config or "{}")
    return bool((config.get("sharing") or {}).get("mps"))


def scrubs_memory(gpu_config: str) -> bool:
    """Whether the agents' configuration, as JSON, has memory overwritten before containers start."""
    flags = json.loads(gpu_config or "{}").get("flags") or {}
    return (flags.get("plugin") or {}).get("preStart") == "scrub"


def plugin_memory(gpu_config: str) -> str:
    """The limit of a plugin: CUDA takes some hundred MiB of the node's for each GPU that is scrubbed."""
    return "2Gi" if scrubs_memory(gpu_config) else "128Mi"


#: The same, in a chart's notation.
HELM_PLUGIN_MEMORY = (
    '(ternary "2Gi" "128Mi" (eq (dig "flags" "plugin" "preStart" "none" .Values.gpuConfig) "scrub"))'
)


def _mps_daemons(options: InstallOptions) -> bool:
    return _privileged(options) and shares_by_mps(options.gpu_config)


def _runtime_class(options: InstallOptions) -> bool:
    return not options.simulate and options.driver_access is DriverAccess.RUNTIMECLASS


def _privileged(options: InstallOptions) -> bool:
    return not options.simulate and options.driver_access is DriverAccess.PRIVILEGED


_HELM_RUNTIME_CLASS = 'and (not .Values.simulate) (eq .Values.driverAccess "runtimeclass")'
_HELM_PRIVILEGED = 'and (not .Values.simulate) (eq .Values.driverAccess "privileged")'

_HELM_MPS = f'and ({_HELM_PRIVILEGED}) (dig "sharing" "mps" false .Values.gpuConfig)'
_HELM_POD_MONITOR = '.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor"'

SIMULATED = Condition[InstallOptions](lambda options: bool(options.simulate), ".Values.simulate")
CONFIGURED = Condition[InstallOptions](lambda options: bool(options.gpu_config), ".Values.gpuConfig")
WITH_RUNTIME_CLASS = Condition[InstallOptions](_runtime_class, _HELM_RUNTIME_CLASS)
NOT_RUNTIME_CLASS = Condition[InstallOptions](
    lambda options: not _runtime_class(options), f"not ({_HELM_RUNTIME_CLASS})"
)
PRIVILEGED = Condition[InstallOptions](_privileged, _HELM_PRIVILEGED)
NOT_PRIVILEGED = Condition[InstallOptions](
    lambda options: not _privileged(options), f"not ({_HELM_PRIVILEGED})"
)
# Simulated GPUs have no daemons, and the rights of `runtimeclass` aren't enough for them.
MPS = Condition[InstallOptions](_mps_daemons, _HELM_MPS)
NOT_MPS = Condition[InstallOptions](lambda options: not _mps_daemons(options), f"not ({_HELM_MPS})")
WITH_BACKEND = Condition[InstallOptions](lambda options: bool(options.gpu_backend), ".Values.gpuBackend")
HOST_PID = Condition[InstallOptions](lambda options: options.host_pid, ".Values.hostPID")
NOT_HOST_PID = Condition[InstallOptions](lambda options: not options.host_pid, "not .Values.hostPID")
METRICS = Condition[InstallOptions](lambda options: options.metrics, ".Values.metrics")
# Never both, or a Prometheus that goes by both would count everything twice.
POD_MONITOR = Condition[InstallOptions](
    lambda options: options.metrics and options.pod_monitor, f"and .Values.metrics ({_HELM_POD_MONITOR})"
)
ANNOTATED = Condition[InstallOptions](
    lambda options: options.metrics and not options.pod_monitor,
    f"and .Values.metrics (not ({_HELM_POD_MONITOR}))",
)
TAINT = Condition[InstallOptions](lambda options: options.taint, ".Values.taint")
POLICY = Condition[InstallOptions](lambda options: options.policy, ".Values.policy")
CONFINE = Condition[InstallOptions](
    lambda options: options.confine,
    'semverCompare ">={}.{}.0-0" .Capabilities.KubeVersion.Version'.format(*ADMISSION_SINCE),
)
VOID = Condition[InstallOptions](lambda options: options.void, ".Values.void")
