"""Everything that an install sends, in the order in which it is sent."""

from __future__ import annotations

from typing import Any

from gpuyard.kube.objects import (
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    DAEMON_SETS,
    MUTATION_BINDINGS,
    MUTATION_POLICIES,
    NAMESPACES,
    POD_MONITORS,
    PRIORITY_CLASSES,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
    Manifest,
    Resource,
    key_of,
)
from gpuyard.tenancy.daemonset import daemon_set, pod_monitor
from gpuyard.tenancy.names import LABELLER, LABELS, PRIORITY_PREFIX, RUNTIME_CLASS
from gpuyard.tenancy.options import (
    CONFINE,
    OWN_TOLERATIONS,
    POD_MONITOR,
    POLICY,
    VOID,
    WITH_RUNTIME_CLASS,
    InstallOptions,
    plugin_memory,
)
from gpuyard.tenancy.policies.labeller import labeller_policy
from gpuyard.tenancy.policies.pod_use import pod_use_policy
from gpuyard.tenancy.policies.tenants import tenant_policies
from gpuyard.tenancy.policies.void import void_policy
from gpuyard.tenancy.roles import report_roles, roles
from gpuyard.tenancy.template import Only, resolve

#: Every kind that an install may have made, in the order in which an uninstall takes them away.
KINDS: tuple[Resource, ...] = (
    DAEMON_SETS,
    POD_MONITORS,
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    MUTATION_BINDINGS,
    MUTATION_POLICIES,
    RUNTIME_CLASSES,
    PRIORITY_CLASSES,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    SERVICE_ACCOUNTS,
    NAMESPACES,
)


def template() -> list[Any]:
    """The manifests with their conditions and `@option@`s; the DaemonSet is the last."""
    return [
        _namespace(),
        _service_account(),
        *roles(),
        *priority_classes(),
        Only(WITH_RUNTIME_CLASS, _runtime_class()),
        *(Only(CONFINE, manifest) for manifest in (*labeller_policy(), *report_roles(), *pod_use_policy())),
        *(Only(POLICY, manifest) for manifest in tenant_policies()),
        *(Only(VOID, manifest) for manifest in void_policy()),
        Only(POD_MONITOR, pod_monitor()),
        daemon_set(),
    ]


def install(options: InstallOptions) -> list[Manifest]:
    """The manifests for these options."""
    values = {
        "image": options.image,
        "namespace": options.namespace,
        "simulate": options.simulate,
        "migStrategy": options.mig_strategy,
        "gpuConfig": options.gpu_config,
        "pluginMemory": plugin_memory(options.gpu_config),
        "gpuBackend": options.gpu_backend,
        "nodeSelector": dict(options.node_selector),
        "tolerations": [dict(each) for each in (*OWN_TOLERATIONS, *options.tolerations)],
    }
    manifests: list[Manifest] = resolve(template(), options, values)
    return manifests


def resource_of(manifest: Manifest) -> Resource:
    """The resource of one of an install's manifests."""
    return next(kind for kind in KINDS if kind.kind == manifest["kind"])


def title(manifest: Manifest) -> str:
    """`DaemonSet gpuyard-system/gpuyard-agent`."""
    return f"{manifest['kind']} {key_of(manifest)}"


def _namespace() -> dict[str, Any]:
    # The agent mounts folders of its node, which Pod Security's other levels refuse.
    security = {"pod-security.kubernetes.io/enforce": "privileged"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "@namespace@", "labels": {**LABELS, **security}},
    }


def _service_account() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": LABELLER, "namespace": "@namespace@", "labels": dict(LABELS)},
        "automountServiceAccountToken": False,
    }


def priority_classes() -> list[Manifest]:
    """The PriorityClasses of runs, on clusters and on yards."""
    return [
        _priority_class(
            PRIORITY_PREFIX + "low", -1000, "Gives way to all other runs, and takes nobody's place.", "Never"
        ),
        _priority_class(PRIORITY_PREFIX + "high", 1000, "Goes before other runs, and may take their place."),
    ]


def _priority_class(
    name: str, value: int, description: str, preemption: str = "PreemptLowerPriority"
) -> dict[str, Any]:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "value": value,
        "preemptionPolicy": preemption,
        "description": description,
    }


def _runtime_class() -> dict[str, Any]:
    # A name of our own: one called `nvidia` may be somebody else's.
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": RUNTIME_CLASS, "labels": dict(LABELS)},
        "handler": "nvidia",
    }
