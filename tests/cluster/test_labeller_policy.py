"""What a labeller's token can do to nodes, asked of a real API server with tokens that are bound to pods."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpuyard.tenancy.options import InstallOptions
from gpuyard.tenancy.policies.labeller import labeller_policy
from gpuyard.tenancy.policies.pod_use import pod_use_policy
from gpuyard.tenancy.roles import report_roles, roles
from gpuyard.tenancy.template import resolve
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.cluster.harness.objects import container
from tests.waiting import until

OWN, OTHER = "node-a", "node-b"
ACCOUNT = "gpuyard-labeller"
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
#: On the node already, and not gpuyard's.
THEIRS = {"key": "test.example/team", "value": "a", "effect": "PreferNoSchedule"}


def label(name: str, value: str | None = "x") -> dict[str, Any]:
    return {"metadata": {"labels": {name: value}}}


def annotation(name: str, value: str | None = "x") -> dict[str, Any]:
    return {"metadata": {"annotations": {name: value}}}


def taints(*wanted: dict[str, str]) -> dict[str, Any]:
    return {"spec": {"taints": list(wanted)}}


OWNER = {"apiVersion": "v1", "kind": "Node", "name": OTHER, "uid": "0"}
#: name → the patch of the labeller's own node, and what the refusal says; "" when it is taken.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "gpu-labels": (
        {"metadata": {"labels": {"nvidia.com/gpu.count": "8", "nvidia.com/gpu.present": "true"}}},
        "",
    ),
    "gpu-label-changed": (label("nvidia.com/gpu.memory", "2"), ""),
    "gpu-label-gone": (label("nvidia.com/gpu.memory", None), ""),
    "model": (label("gpuyard.io/gpu-model", "H100"), ""),
    "hardware-type": (label("hardware-type", "nvidia-gpu"), ""),
    "record": (annotation("gpuyard.io/labels-set", "nvidia.com/gpu.count"), ""),
    "health": (annotation("gpuyard.io/gpu-health", "[]"), ""),
    "taint": (taints(THEIRS, TAINT), ""),
    "nothing": ({"metadata": {}}, ""),
    "role": (label("node-role.kubernetes.io/control-plane", ""), "labels that describe GPUs only"),
    "restricted": (label("node-restriction.kubernetes.io/tenant", "a"), "labels that describe GPUs only"),
    "any-label": (label("team"), "labels that describe GPUs only"),
    # NVIDIA's operator runs its pods where these say so.
    "operator": (label("nvidia.com/gpu.deploy.driver", "true"), "labels that describe GPUs only"),
    "their-label-changed": (label("test.example/zone"), "labels that describe GPUs only"),
    "their-label-gone": (label("test.example/zone", None), "labels that describe GPUs only"),
    "any-annotation": (annotation("gpuyard.io/other"), "its own annotations only"),
    "their-annotation-gone": (annotation("test.example/note", None), "its own annotations only"),
    "evict": (taints(THEIRS, TAINT | {"effect": "NoExecute"}), "the taint nvidia.com/gpu:NoSchedule only"),
    "any-taint": (taints(THEIRS, TAINT | {"key": "team"}), "the taint nvidia.com/gpu:NoSchedule only"),
    "their-taint-gone": (taints(TAINT), "the taint nvidia.com/gpu:NoSchedule only"),
    "their-taint-changed": (taints(THEIRS | {"value": "b"}), "the taint nvidia.com/gpu:NoSchedule only"),
    "cordon": ({"spec": {"unschedulable": True}}, "it doesn't cordon"),
    "provider": ({"spec": {"providerID": "aws:///i-1"}}, "nothing of a node's spec but its taint"),
    "finalizer": ({"metadata": {"finalizers": ["test.example/x"]}}, "neither owners nor finalizers"),
    "owner": ({"metadata": {"ownerReferences": [OWNER]}}, "neither owners nor finalizers"),
}


USE = annotation("gpuyard.io/gpu-use", "{}")
#: name → the patch of a pod of the labeller's own node, and what the refusal says; "" when it is taken.
POD_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "use": (USE, ""),
    "use-gone": (annotation("gpuyard.io/gpu-use", None), ""),
    "any-annotation": (annotation("cdi.k8s.io/x"), "the annotation gpuyard.io/gpu-use of pods only"),
    "label": (label("app"), "neither labels, owners nor finalizers of a pod"),
    "finalizer": ({"metadata": {"finalizers": ["test.example/x"]}}, "neither labels, owners nor finalizers"),
    "owner": ({"metadata": {"ownerReferences": [OWNER]}}, "neither labels, owners nor finalizers of a pod"),
    "image": ({"spec": {"activeDeadlineSeconds": 1}}, "changes nothing of a pod's spec"),
}


@dataclass
class Labellers:
    """Accounts of labellers in a namespace, held by the policy.

    Attributes:
        folder: of their kubeconfigs.
        tokens: by the pod that they are bound to; "" for one that is bound to none.
    """

    cluster: Cluster
    namespace: str
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, pod: str) -> str:
        """The token that a kubelet would mount into the pod."""
        if pod not in self.tokens:
            bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if pod else ()
            asked = ("create", "token", ACCOUNT, f"-n={self.namespace}", *bound)
            self.tokens[pod] = self.cluster.kubectl(*asked).strip()
        return self.tokens[pod]

    def refusal(self, patch: object, *, node: str = OWN, pod: str = OWN, words: tuple[str, ...] = ()) -> str:
        """What the API server says against a patch of a node with a pod's token; empty when it does it."""
        patching = ("node", node, "--type=merge", f"--patch={json.dumps(patch)}", *words)
        return self._refusal(pod, "patch", *patching)

    def pod_refusal(self, patch: object, pod: str, *, words: tuple[str, ...] = ()) -> str:
        """The same of a patch of a pod, with the token of the labeller of OWN."""
        patching = (
            "pod",
            pod,
            f"-n={self.namespace}",
            "--type=merge",
            f"--patch={json.dumps(patch)}",
            *words,
        )
        return self._refusal(OWN, "patch", *patching)

    def _refusal(self, pod: str, *asked: str) -> str:
        raw = json.loads(self.cluster.kubeconfig.read_text())
        raw["users"] = [{"name": "labeller", "user": {"token": self.token(pod)}}]
        raw["contexts"][0]["context"]["user"] = "labeller"
        file = self.folder / f"labeller-{pod}"
        file.write_text(json.dumps(raw))
        try:
            self.cluster.kubectl(f"--kubeconfig={file}", *asked, "--dry-run=server")
        except ClusterError as error:
            return str(error)
        return ""


@pytest.fixture(scope="module")
def labellers(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labellers]:
    """A pod of the account on each node, and what is another's on the first; an install may be there, too."""
    name = f"labellers-{secrets.token_hex(4)}"
    reports, _ = report_roles()
    role, binding = roles()[:2]
    # kubectl looks at what it patches; a labeller doesn't.
    look = {"apiGroups": [""], "resources": ["pods", "nodes/status"], "verbs": ["get"]}
    role = {**role, "rules": [*role["rules"], *reports["rules"], look]}
    values = {"namespace": name}
    made = resolve([*labeller_policy(), role, binding], InstallOptions(""), values)
    of_pods = resolve(pod_use_policy(), InstallOptions(""), values)
    for own, manifests in ((name, made), (f"{name}-pods", of_pods)):
        for manifest in manifests:
            manifest["metadata"] = {"name": own}
        manifests[1]["spec"]["policyName"] = manifests[3]["roleRef"]["name"] = own
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": node, "namespace": name},
            "spec": {
                "serviceAccountName": ACCOUNT,
                "nodeSelector": {"kubernetes.io/hostname": node},
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 1,
                "containers": [container("main", cluster.registry)],
            },
        }
        for node in (OWN, OTHER)
    ]
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("create", "serviceaccount", ACCOUNT, f"-n={name}")
    theirs = f"{THEIRS['key']}={THEIRS['value']}:{THEIRS['effect']}"
    labellers = Labellers(cluster, name, tmp_path_factory.mktemp("labellers"))
    try:
        for manifest in (*made, *of_pods, *pods):
            cluster.kubectl("create", "-f", "-", stdin=manifest)
        cluster.kubectl("label", "node", OWN, "test.example/zone=a")
        cluster.kubectl("annotate", "node", OWN, "test.example/note=a")
        cluster.kubectl("taint", "node", OWN, theirs)
        cluster.kubectl("wait", f"-n={name}", "--for=condition=PodScheduled", "pods", "--all")
        until(lambda: "it doesn't cordon" in labellers.refusal(CASES["cordon"][0]), "the policy holds")
        until(lambda: "of its own node only" in labellers.pod_refusal(USE, OTHER), "that for pods, too")
        yield labellers
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy", "clusterrolebinding"):
            cluster.kubectl("delete", kind, name, f"{name}-pods", "--ignore-not-found")
        cluster.kubectl("delete", "clusterrole", name, f"{name}-pods", "--ignore-not-found")
        cluster.kubectl("label", "node", OWN, "test.example/zone-")
        cluster.kubectl("annotate", "node", OWN, "test.example/note-")
        cluster.kubectl("taint", "node", OWN, f"{theirs}-")
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("case", CASES)
def test_its_own_node(labellers: Labellers, case: str) -> None:
    patch, message = CASES[case]
    said = labellers.refusal(patch)
    assert (message in said) if message else said == ""


@pytest.mark.parametrize("case", ["gpu-labels", "taint", "cordon", "role"])
def test_another_node(labellers: Labellers, case: str) -> None:
    patch, _ = CASES[case]
    assert "a labeller changes its own node only" in labellers.refusal(patch, node=OTHER)
    assert "a labeller changes its own node only" in labellers.refusal(patch, pod=OTHER)


def test_the_other_labeller_has_the_other_node(labellers: Labellers) -> None:
    assert labellers.refusal(CASES["gpu-labels"][0], node=OTHER, pod=OTHER) == ""


def test_a_token_of_no_pod_changes_no_node(labellers: Labellers) -> None:
    for node in (OWN, OTHER):
        said = labellers.refusal(CASES["gpu-labels"][0], node=node, pod="")
        assert "a labeller changes its own node only" in said


@pytest.mark.parametrize("case", POD_CASES)
def test_a_pod_of_its_own_node(labellers: Labellers, case: str) -> None:
    patch, message = POD_CASES[case]
    said = labellers.pod_refusal(patch, OWN)
    assert (message in said) if message else said == ""


def test_a_pod_of_another_node(labellers: Labellers) -> None:
    assert "changes pods of its own node only" in labellers.pod_refusal(USE, OTHER)


def test_a_pods_status_is_not_the_labellers(labellers: Labellers) -> None:
    said = labellers.pod_refusal({"status": {"reason": "x"}}, OWN, words=("--subresource=status",))
    assert 'resource "pods/status"' in said


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"conditions": [{"type": "GpuUnhealthy", "status": "True", "reason": "XID79"}]}, ""),
        (
            {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]},
            "the conditions GpuUnhealthy",
        ),
        ({"capacity": {"nvidia.com/gpu": "9"}}, "nothing of a node's status but its conditions"),
        ({"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}]}, "nothing of a node's status"),
    ],
)
def test_of_a_nodes_status_a_condition_is_the_labellers(
    labellers: Labellers, status: dict[str, Any], message: str
) -> None:
    words = ("--subresource=status", "--type=strategic")
    said = labellers.refusal({"status": status}, words=words)
    assert (message in said) if message else said == ""
    assert "its own node only" in labellers.refusal({"status": status}, node=OTHER, words=words)


def test_the_policy_is_without_type_errors(labellers: Labellers) -> None:
    for name in (labellers.namespace, f"{labellers.namespace}-pods"):
        asked = ("get", "validatingadmissionpolicy", name, "-o=jsonpath={.status.typeChecking}")
        found = until(lambda: labellers.cluster.kubectl(*asked), "it is checked")  # noqa: B023
        assert "expressionWarnings" not in found
