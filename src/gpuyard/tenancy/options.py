"""The options of an install, and what of it depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpuyard.tenancy.names import NAMESPACE
from gpuyard.tenancy.template import Condition

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
        taint: whether nodes with GPUs keep pods without a GPU request away.
        policy: whether tenants' pods are checked at admission. It needs Kubernetes 1.30.
        node_selector: labels of the nodes that get an agent.
    """

    image: str
    namespace: str = NAMESPACE
    simulate: str = ""
    driver_access: DriverAccess = DriverAccess.RUNTIMECLASS
    taint: bool = False
    policy: bool = False
    node_selector: Mapping[str, str] = field(default_factory=lambda: dict(_LINUX))


def _runtime_class(options: InstallOptions) -> bool:
    return not options.simulate and options.driver_access is DriverAccess.RUNTIMECLASS


def _privileged(options: InstallOptions) -> bool:
    return not options.simulate and options.driver_access is DriverAccess.PRIVILEGED


_HELM_RUNTIME_CLASS = 'and (not .Values.simulate) (eq .Values.driverAccess "runtimeclass")'
_HELM_PRIVILEGED = 'and (not .Values.simulate) (eq .Values.driverAccess "privileged")'

SIMULATED = Condition[InstallOptions](lambda options: bool(options.simulate), ".Values.simulate")
WITH_RUNTIME_CLASS = Condition[InstallOptions](_runtime_class, _HELM_RUNTIME_CLASS)
NOT_RUNTIME_CLASS = Condition[InstallOptions](
    lambda options: not _runtime_class(options), f"not ({_HELM_RUNTIME_CLASS})"
)
PRIVILEGED = Condition[InstallOptions](_privileged, _HELM_PRIVILEGED)
NOT_PRIVILEGED = Condition[InstallOptions](
    lambda options: not _privileged(options), f"not ({_HELM_PRIVILEGED})"
)
TAINT = Condition[InstallOptions](lambda options: options.taint, ".Values.taint")
POLICY = Condition[InstallOptions](lambda options: options.policy, ".Values.policy")
