"""What the policy of `gpuyard install --policy` lets tenants' pods do, asked of a real API server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from gpuyard.tenancy.policies.tenants import tenant_policy
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.waiting import until

GPU = {"limits": {"nvidia.com/gpu": 1}}
VOID = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}]


def env(name: str, **value: Any) -> dict[str, Any]:
    return {"env": [{"name": name, **value}]}


def adds(capability: str) -> dict[str, Any]:
    return {"securityContext": {"capabilities": {"add": [capability]}}}


SECRET = {"valueFrom": {"secretKeyRef": {"name": "a", "key": "b", "optional": True}}}
MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/var/run/nvidia-container-devices/all"}]}
EMPTY = {"volumes": [{"name": "v", "emptyDir": {}}]}
#: name → of the container, of the pod, its annotations, and what the refusal says; "" when it's let in.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str], str]] = {
    "plain": ({}, {}, {}, ""),
    "gpus": ({"resources": GPU}, {}, {}, ""),
    "void": ({"env": VOID}, {}, {}, ""),
    "other-variable": (env("NVIDIA_DRIVER_CAPABILITIES", value="all"), {}, {}, ""),
    "other-capability": (adds("NET_BIND_SERVICE"), {}, {}, ""),
    "all-gpus": (env("NVIDIA_VISIBLE_DEVICES", value="all"), {}, {}, "choose GPUs past the scheduler"),
    "all-beside-limit": (
        env("NVIDIA_VISIBLE_DEVICES", value="all") | {"resources": GPU},
        {},
        {},
        "choose GPUs past the scheduler",
    ),
    "from-a-secret": (env("NVIDIA_VISIBLE_DEVICES", **SECRET), {}, {}, "choose GPUs past the scheduler"),
    "empty": (env("NVIDIA_VISIBLE_DEVICES", value=""), {}, {}, "choose GPUs past the scheduler"),
    "mig-config": (env("NVIDIA_MIG_CONFIG_DEVICES", value="all"), {}, {}, "past the scheduler"),
    "mig-monitor": (env("NVIDIA_MIG_MONITOR_DEVICES", value="all"), {}, {}, "past the scheduler"),
    "imex": (env("NVIDIA_IMEX_CHANNELS", value="0"), {}, {}, "past the scheduler"),
    "host-path": (
        {},
        {"volumes": [{"name": "v", "hostPath": {"path": "/dev"}}]},
        {},
        "hostPath volumes reach",
    ),
    "mounted-choice": (MOUNT, EMPTY, {}, "mounts under /var/run/nvidia-container-devices"),
    "privileged": ({"securityContext": {"privileged": True}}, {}, {}, "privileged containers"),
    "mknod": (adds("MKNOD"), {}, {}, "the capabilities ALL, SYS_ADMIN"),
    "cap-sys-admin": (adds("CAP_SYS_ADMIN"), {}, {}, "the capabilities ALL, SYS_ADMIN"),
    "host-ipc": ({}, {"hostIPC": True}, {}, "hostIPC, hostPID and hostNetwork"),
    "host-pid": ({}, {"hostPID": True}, {}, "hostIPC, hostPID and hostNetwork"),
    "host-network": ({}, {"hostNetwork": True}, {}, "hostIPC, hostPID and hostNetwork"),
    "cdi": ({}, {}, {"cdi.k8s.io/mine": "nvidia.com/gpu=0"}, "annotations under cdi.k8s.io/"),
    "nvidia-cdi": ({}, {}, {"nvidia.cdi.k8s.io/a": "nvidia.com/gpu=0"}, "annotations under cdi.k8s.io/"),
    "node-name": ({}, {"nodeName": "node-a"}, {}, "spec.nodeName goes round scheduler"),
    "runtime-class": ({}, {"runtimeClassName": "nvidia"}, {}, "this runtimeClassName gives"),
    "runtime-class-void": ({"env": VOID}, {"runtimeClassName": "nvidia"}, {}, ""),
    "runtime-class-gpu": ({"resources": GPU}, {"runtimeClassName": "nvidia"}, {}, ""),
    "runtime-class-no-gpu": (
        {"resources": {"limits": {"nvidia.com/gpu": 0}}},
        {"runtimeClassName": "nvidia"},
        {},
        "this runtimeClassName gives",
    ),
}


def pod(
    name: str, container: dict[str, Any], spec: dict[str, Any], annotations: Any = None
) -> dict[str, Any]:
    main = {"name": "main", "image": "busybox:1", **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"containers": [main], **spec},
    }


@pytest.fixture(scope="module")
def tenant(cluster: Cluster) -> Iterator[str]:
    """A namespace with the tenant label, in which the policy holds; an install's own may be there too."""
    suffix = secrets.token_hex(4)
    name = f"tenant-{suffix}"
    policy, binding = tenant_policy()
    for manifest in (policy, binding):
        manifest["metadata"] = {"name": f"test-{suffix}"}
    binding["spec"]["policyName"] = f"test-{suffix}"
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}}
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "gpuyard.io/tenant=a")
    cluster.kubectl("wait", f"-n={name}", "--for=create", "serviceaccount/default", "--timeout=30s")
    cluster.kubectl("apply", "-f", "-", stdin={**runtime, "handler": "runc"})
    try:
        for manifest in (policy, binding):
            cluster.kubectl("create", "-f", "-", stdin=manifest)
        probe = pod("probe", {}, {"hostPID": True})
        until(lambda: "hostPID" in refusal(cluster, name, probe), "the policy holds")
        yield name
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            cluster.kubectl("delete", kind, f"test-{suffix}", "--ignore-not-found")
        cluster.kubectl("delete", "runtimeclass", "nvidia")
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def refusal(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> str:
    """What the API server says against a pod; empty when it would take it."""
    try:
        cluster.kubectl("create", f"-n={namespace}", "--dry-run=server", "-f", "-", stdin=manifest)
    except ClusterError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_pods_of_tenants(cluster: Cluster, tenant: str, case: str, where: str) -> None:
    container, spec, annotations, message = CASES[case]
    manifest = pod(case, container, spec, annotations)
    if where == "initContainers":
        manifest["spec"]["initContainers"] = [{"name": "first", "image": "busybox:1", **container}]
        if container:
            manifest["spec"]["containers"] = [{"name": "main", "image": "busybox:1", "env": VOID}]
    said = refusal(cluster, tenant, manifest)
    assert (message in said) if message else said == ""


def test_the_policy_is_without_type_errors(cluster: Cluster, tenant: str) -> None:
    policy, path = tenant.replace("tenant-", "test-"), "-o=jsonpath={.status.typeChecking}"
    found = until(lambda: cluster.kubectl("get", "validatingadmissionpolicy", policy, path), "it is checked")
    assert "expressionWarnings" not in found


def test_ephemeral_containers_are_looked_at(cluster: Cluster, tenant: str) -> None:
    cluster.kubectl("create", f"-n={tenant}", "-f", "-", stdin=pod("runs", {"env": VOID}, {}))
    with pytest.raises(ClusterError, match="choose GPUs past the scheduler"):
        debugger = ("--image=busybox:1", "--env=NVIDIA_VISIBLE_DEVICES=all", "--", "true")
        cluster.kubectl("debug", f"-n={tenant}", "runs", *debugger)


def test_a_pod_that_was_there_before_can_change_and_go(cluster: Cluster, namespace: str, tenant: str) -> None:
    loud = pod("loud", env("NVIDIA_VISIBLE_DEVICES", value="all"), {}, {"cdi.k8s.io/mine": "x"})
    cluster.kubectl("create", f"-n={namespace}", "-f", "-", stdin=loud)
    cluster.kubectl("label", "namespace", namespace, "gpuyard.io/tenant=b")

    def holds() -> bool:
        return "hostPID" in refusal(cluster, namespace, pod("probe", {}, {"hostPID": True}))

    until(holds, "the namespace is a tenant's")
    cluster.kubectl("label", f"-n={namespace}", "pod", "loud", "a=b")
    with pytest.raises(ClusterError, match=r"annotations under cdi\.k8s\.io"):
        cluster.kubectl("annotate", f"-n={namespace}", "pod", "loud", "cdi.k8s.io/other=x")
    cluster.kubectl("delete", f"-n={namespace}", "pod", "loud", "--grace-period=0", "--force")


def test_other_namespaces_are_free(cluster: Cluster, namespace: str, tenant: str) -> None:
    assert refusal(cluster, namespace, pod("free", {}, {"hostPID": True})) == ""
