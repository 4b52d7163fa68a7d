"""What is found of tenants' bounds, over objects that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard import errors
from gpuyard.doctor.check import Check, CheckState
from gpuyard.kube.objects import ADMISSION_POLICIES, NAMESPACES, Manifest

from .test_cluster import agent, forbidden, look, node, parts

TEAM = {"metadata": {"name": "team-a", "labels": {"gpuyard.io/tenant": "a"}}}


def tenants(**changes: Any) -> Check:
    """What is found where one namespace is a tenant's and the policies hold, but for these."""
    facts: dict[str, Any] = {"tenants": [TEAM], "installed": parts(policy=True)}
    return look("tenants", **(facts | changes))


def exposed(text: str, **labels: str) -> Manifest:
    made = node(labels=labels)
    made["metadata"]["annotations"] = {"gpuyard.io/gpu-exposure": text}
    return made


def toolkit(**env: str) -> Manifest:
    listed = [{"name": name, "value": value} for name, value in env.items()]
    container = {"image": "nvcr.io/nvidia/k8s/container-toolkit:v1.18.2", "env": listed}
    metadata = {"name": "t", "namespace": "gpu-operator"}
    return {"metadata": metadata, "spec": {"nodeName": "a", "containers": [container]}, "status": {}}


def volume(claim: str = "", **spec: Any) -> Manifest:
    bound = {"claimRef": {"namespace": claim, "name": "c"}} if claim else {}
    return {"metadata": {"name": "pv"}, "spec": spec | bound}


CLOSED = exposed("default-runtime=no,variable=yes")


def test_without_tenants_there_is_nothing_to_look_at() -> None:
    assert tenants(tenants=[]).outcome is CheckState.SKIPPED


def test_who_may_not_see_namespaces_is_offered_no_role_for_it() -> None:
    found = tenants(tenants=forbidden(NAMESPACES.plural))
    assert (found.outcome, found.remedy) == (CheckState.SKIPPED, "")


def test_all_is_well() -> None:
    found = tenants(nodes=[CLOSED])
    assert (found.outcome, found.message) == (
        CheckState.OK,
        "the policies hold in 1 namespace, and images can't choose GPUs on nodes",
    )
    assert [n.message for n in found.nodes] == ["NVIDIA's runtime is only for those who name it"]


def test_no_policy() -> None:
    found = tenants(nodes=[CLOSED], installed=parts())
    assert found.outcome is CheckState.WARNING
    assert found.message == "no policy holds in team-a: pods there can take any GPU"
    assert "--policy" in found.remedy


def test_half_a_policy() -> None:
    lacks = parts(("ValidatingAdmissionPolicyBinding gpuyard-tenants",), policy=True)
    assert "no policy holds in team-a" in tenants(nodes=[CLOSED], installed=lacks).message


def test_policies_that_may_not_be_seen_are_not_missing() -> None:
    hidden: Any = parts(policy=True) | {ADMISSION_POLICIES: forbidden("validatingadmissionpolicies")}
    assert tenants(nodes=[CLOSED], installed=hidden).outcome is CheckState.OK


OPEN = "on a, NVIDIA's runtime is the default one, and takes NVIDIA_VISIBLE_DEVICES from images"
UNKNOWN = "on a, NVIDIA's runtime may be the default one"


@pytest.mark.parametrize(
    ("seen", "pods", "said"),
    [
        (exposed("default-runtime=yes,variable=yes"), [], OPEN),
        (exposed("default-runtime=yes"), [], OPEN),
        (exposed("default-runtime=yes,variable=no"), [], ""),
        (exposed("default-runtime=no"), [], ""),
        (exposed("variable=no"), [], ""),
        (node(), [], UNKNOWN),
        (exposed("variable=yes"), [], UNKNOWN),
        (node(labels={"gpuyard.io/gpu-injection": "cdi"}), [], ""),
        (exposed("default-runtime=yes", **{"gpuyard.io/gpu-injection": "cdi"}), [], OPEN),
        (node(labels={"gpuyard.io/simulated": "true"}), [], ""),
        (node(), [toolkit()], OPEN),
        (node(), [toolkit(NVIDIA_RUNTIME_SET_AS_DEFAULT="false")], ""),
        (node(), [toolkit(CONTAINERD_SET_AS_DEFAULT="1")], OPEN),
        (
            node(),
            [toolkit(CONTAINERD_SET_AS_DEFAULT="true", NVIDIA_RUNTIME_SET_AS_DEFAULT="false")],
            "",
        ),
        (node(), [toolkit(ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED="false")], ""),
        # What the agent read on the node counts before what a pod was told.
        (exposed("default-runtime=no"), [toolkit()], ""),
    ],
)
def test_what_images_can_do_on_a_node(seen: Manifest, pods: list[Manifest], said: str) -> None:
    found = tenants(nodes=[seen], pods=[agent(), *pods])
    assert found.outcome is (CheckState.WARNING if said else CheckState.OK)
    assert said in found.message
    assert bool(found.remedy) is bool(said)


def test_containers_that_are_given_void_need_no_node_that_is_closed() -> None:
    found = tenants(nodes=[exposed("default-runtime=yes")], installed=parts(policy=True, void=True))
    assert (found.outcome, found.message) == (CheckState.OK, "the policies hold in 1 namespace")


def test_an_agent_that_got_its_gpus_by_the_variable_knows_that_it_counts() -> None:
    by_class = agent()
    by_class["spec"]["runtimeClassName"] = "gpuyard-nvidia"
    assert OPEN in tenants(nodes=[exposed("default-runtime=yes")], pods=[by_class]).message


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (volume(hostPath={"path": "/var/lib/kubelet/device-plugins"}), "/var/lib/kubelet/device-plugins"),
        (volume("team-a", hostPath={"path": "/dev"}), "/dev"),
        (volume("others", hostPath={"path": "/dev"}), ""),
        (volume(hostPath={"path": "/"}), "/"),
        (volume(hostPath={"path": "/var/lib/"}), "/var/lib"),
        (volume(hostPath={"path": "/srv/../run/nvidia"}), "/run/nvidia"),
        (volume(local={"path": "/etc"}), "/etc"),
        (volume(local={"path": "/dev/disk/by-id/nvme-1"}), ""),
        (volume(hostPath={"path": "/srv/data"}), ""),
        (volume(hostPath={"path": "/device"}), ""),
        (volume(local={"path": "/var/lib/rancher/k3s/storage/a"}), ""),
        (volume(nfs={"server": "s", "path": "/dev"}), ""),
        (volume(csi={"driver": "d"}), ""),
    ],
)
def test_volumes_that_are_a_nodes_own_folders(seen: Manifest, said: str) -> None:
    found = tenants(nodes=[CLOSED], persistent_volumes=[seen])
    assert found.outcome is (CheckState.WARNING if said else CheckState.OK)
    assert (f"the PersistentVolume pv is {said} of a node" in found.message) is bool(said)


def test_all_that_is_open_is_said_at_once() -> None:
    found = tenants(
        nodes=[exposed("default-runtime=yes")],
        installed=parts(),
        persistent_volumes=[volume(hostPath={"path": "/"})],
    )
    assert found.message.count("; ") == 2
    assert found.remedy.count("\n") == 2


def test_what_was_not_seen_takes_nothing_from_the_rest() -> None:
    hidden: errors.GpuyardError = forbidden("pods")
    found = tenants(pods=hidden, persistent_volumes=forbidden("persistentvolumes"), installed=parts())
    assert found.message == "no policy holds in team-a: pods there can take any GPU"
