"""What is found on nodes, over nodes and pods that are made up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpuyard.doctor.check import CheckState
from gpuyard.kube.objects import DAEMON_SETS, RUNTIME_CLASSES, Manifest

from .test_cluster import agent, look, node, parts

SIMULATED = {"gpuyard.io/simulated": "true"}


def foreign(name: str = "a", image: str = "nvcr.io/nvidia/k8s-device-plugin:v0.17") -> Manifest:
    folder = {"name": "v", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}
    owner = {"kind": "DaemonSet", "name": "nvidia-device-plugin", "controller": True}
    return {
        "metadata": {"name": "p", "namespace": "kube-system", "ownerReferences": [owner]},
        "spec": {"nodeName": name, "containers": [{"image": image}], "volumes": [folder]},
        "status": {"phase": "Running"},
    }


# -- agents ---------------------------------------------------------------------------------------------


def test_an_agent_that_does_not_run_says_why() -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    found = look("agents", pods=[agent("a"), agent("b", "False", waiting)], nodes=[node("a"), node("b")])
    assert found.outcome is CheckState.BROKEN
    assert found.message == "b: plugin ImagePullBackOff Back-off pulling image"
    assert found.remedy == "see more: kubectl describe pod agent-b -n gpuyard-system"
    assert [(n.node, n.outcome) for n in found.nodes] == [("a", CheckState.OK), ("b", CheckState.BROKEN)]


def test_an_agent_without_a_sandbox_says_what_its_node_says() -> None:
    waiting = agent("a", "False", {"reason": "ContainerCreating"})
    uid = waiting["metadata"].setdefault("uid", "1")

    def event(text: str, moment: str, about: str = uid) -> Manifest:
        return {
            "type": "Warning",
            "message": text,
            "lastTimestamp": f"2026-01-31T12:00:{moment}Z",
            "involvedObject": {"uid": about},
        }

    said = 'rpc error: code = Unknown desc = no runtime for "nvidia" is configured'
    warnings = [event("old", "00"), event(said, "10"), event("another's", "20", "2")]
    found = look("agents", pods=[waiting], warnings=warnings)
    assert found.message == 'a: plugin ContainerCreating no runtime for "nvidia" is configured'
    assert "--driver-access privileged" in found.remedy


def test_agents_without_pods() -> None:
    installed: Any = parts(simulate="H100:8")
    installed[DAEMON_SETS][0]["status"] = {"desiredNumberScheduled": 3}
    assert "2 of 3 agents have no pod" in look("agents", installed=installed).message
    installed[DAEMON_SETS][0]["status"] = {"desiredNumberScheduled": 0}
    assert (
        "no node has the labels kubernetes.io/os=linux"
        in look("agents", installed=installed, pods=[]).message
    )


def marked(changed: Manifest) -> Manifest:
    changed["metadata"]["annotations"] = {"gpuyard.io/labels-set": "nvidia.com/gpu.count"}
    return changed


SKU = {"taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]}


def test_a_taint_that_keeps_every_agent_off_is_named() -> None:
    installed: Any = parts(simulate="H100:8")
    installed[DAEMON_SETS][0]["status"] = {"desiredNumberScheduled": 0}
    found = look("agents", installed=installed, pods=[], nodes=[node(spec=SKU)])
    assert found.message == "there are 0 agents: node a has the taint sku=gpu:NoSchedule"
    assert "--toleration sku=gpu:NoSchedule" in found.remedy


def test_an_agent_that_came_before_the_taint_counts() -> None:
    installed: Any = parts(simulate="H100:8")
    installed[DAEMON_SETS][0]["status"] = {"desiredNumberScheduled": 0, "numberMisscheduled": 1}
    found = look("agents", installed=installed, nodes=[marked(node(spec=SKU))])
    assert (found.outcome, found.message) == (CheckState.OK, "1 of 1 run")


def test_nodes_that_were_deselected_and_are_still_marked_are_named() -> None:
    installed: Any = parts(simulate="H100:8", node_selector={"gpu": "yes"})
    nodes = [node("a", labels={"gpu": "yes"}), marked(node("b", usable=0)), node("c", usable=0)]
    found = look("agents", installed=installed, nodes=nodes)
    assert found.outcome is CheckState.WARNING
    assert (
        found.message
        == "b: has gpuyard's labels or taint, and is to have no agent: it lacks the label gpu=yes"
    )
    assert found.remedy == "`gpuyard install` again, as it is installed, takes them away"
    # Its GPUs are gone, as they should be.
    assert look("gpus", installed=installed, nodes=nodes).outcome is CheckState.OK


def test_marks_that_an_install_left_are_named() -> None:
    nothing: Any = {kind: [] for kind in parts()}
    found = look("agents", installed=nothing, pods=[], nodes=[marked(node(usable=0))])
    assert found.outcome is CheckState.WARNING and "none is installed" in found.message
    assert found.remedy == "`gpuyard uninstall` takes them away"


def test_a_labeller_that_writes_nothing_is_named() -> None:
    found = look("agents", nodes=[node(labels={"gpuyard.io/gpu-model": None})])
    assert found.outcome is CheckState.WARNING and "its labeller has written nothing" in found.message
    assert found.remedy.endswith("kubectl logs agent-a -n gpuyard-system -c labeller")


# -- plugins --------------------------------------------------------------------------------------------


def test_two_plugins_on_a_node() -> None:
    found = look("plugins", pods=[agent(), foreign()])
    assert found.outcome is CheckState.BROKEN
    assert (
        "daemonset/nvidia-device-plugin -n kube-system serves GPUs beside gpuyard's agent on a"
        in found.message
    )
    assert "kubectl delete daemonset/nvidia-device-plugin -n kube-system" in found.remedy


def test_another_plugin_elsewhere_is_fine() -> None:
    found = look("plugins", pods=[agent(), foreign("b")], nodes=[node("a"), node("b")])
    assert (found.outcome, found.message) == (
        CheckState.OK,
        "daemonset/nvidia-device-plugin -n kube-system serves b",
    )


def test_gpus_that_no_pod_serves() -> None:
    found = look("plugins", nodes=[node("a"), node("b")])
    assert found.outcome is CheckState.WARNING
    assert "GPUs of b are served by what is no pod" in found.message
    assert "--node-selector" in found.remedy


# -- GPUs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "outcome", "said"),
    [
        (node(usable=7), CheckState.WARNING, "a: 1 of its 8 GPUs can't be had"),
        (
            node(usable=0),
            CheckState.BROKEN,
            "a: none of its 8 GPUs can be had: its device plugin is gone: the agent calls none of them",
        ),
        (
            node(usable=0, labels={"gpuyard.io/gpu-model": None}),
            CheckState.BROKEN,
            "a: none of its 8 GPUs can be had: its device plugin is gone, or says that all are unhealthy",
        ),
        (node(gpus=0), CheckState.BROKEN, "labelled as if it had GPUs"),
        (node(labels={"nvidia.com/gpu.count": "4"}), CheckState.WARNING, "nvidia.com/gpu.count says 4"),
        (node(ready="Unknown"), CheckState.WARNING, "is not ready"),
        (node(spec={"unschedulable": True}), CheckState.WARNING, "is cordoned"),
    ],
)
def test_gpus(changed: Manifest, outcome: CheckState, said: str) -> None:
    found = look("gpus", nodes=[changed])
    assert found.outcome is outcome and said in found.message and found.remedy


# What can't be printed doesn't reach a terminal.
WHY = {"gpuyard.io/no-gpus": "there is no libnvidia-ml.so.1\x1b\n"}


def test_nodes_that_have_no_gpus_say_why() -> None:
    driverless = node(gpus=0, labels={"gpuyard.io/gpu-model": ""})
    del driverless["metadata"]["labels"]["gpuyard.io/gpu-model"]
    driverless["metadata"]["annotations"] = WHY
    found = look("gpus", nodes=[driverless])
    assert (found.outcome, found.message) == (
        CheckState.BROKEN,
        "no node has GPUs: a: there is no libnvidia-ml.so.1",
    )
    # Where others have some it is a node like any.
    assert look("gpus", nodes=[node("b"), driverless]).outcome is CheckState.OK
    lost = node(usable=0)
    lost["metadata"]["annotations"] = WHY
    assert look("gpus", nodes=[lost]).message == "a: has no GPUs to give: there is no libnvidia-ml.so.1"


def test_one_bad_node_among_several() -> None:
    nodes = [node("a"), node("b", usable=7), node("c", usable=6)]
    found = look("gpus", nodes=nodes)
    assert found.message == "b: 1 of its 8 GPUs can't be had (2 of 3 nodes)"
    assert len(found.nodes) == 3


def test_no_gpus_at_all() -> None:
    cpu: Manifest = {"metadata": {"name": "cpu"}, "status": {}, "spec": {}}
    found = look("gpus", nodes=[cpu])
    assert found.outcome is CheckState.BROKEN and "no node has GPUs" in found.message
    assert look("driver", nodes=[cpu]).outcome is look("cdi", nodes=[cpu]).outcome is CheckState.SKIPPED


def test_a_driver_that_nobody_tells() -> None:
    found = look("driver", nodes=[node(labels={"nvidia.com/cuda.driver-version.full": ""})])
    assert found.outcome is CheckState.WARNING and "nobody says which driver" in found.message


def test_a_driver_that_does_not_answer() -> None:
    hanging = node()
    hanging["metadata"]["annotations"] = {
        "gpuyard.io/gpu-driver": "the NVIDIA driver doesn't answer (in wait)"
    }
    found = look("driver", nodes=[hanging])
    assert (found.outcome, found.message) == (
        CheckState.WARNING,
        "a: the NVIDIA driver doesn't answer (in wait)",
    )
    assert "kubectl drain a" in found.remedy


# -- toolkit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "outcome"),
    [
        ("v1.17.8-ubi8", CheckState.OK),
        ("1.20.0", CheckState.OK),
        ("v1.17.7", CheckState.BROKEN),
        ("v1.9.0", CheckState.BROKEN),
    ],
)
def test_toolkits(tag: str, outcome: CheckState) -> None:
    toolkit = foreign(image=f"nvcr.io/nvidia/k8s/container-toolkit:{tag}")
    toolkit["spec"]["volumes"] = []
    found = look("toolkit", pods=[agent(), toolkit], installed=parts())
    assert found.outcome is outcome, found
    assert found.message.startswith("agents reach the driver by NVIDIA's runtime (gpuyard-nvidia)")
    assert ("CVE-2025-23266" in found.remedy) is (outcome is CheckState.BROKEN)


def test_a_toolkit_that_can_not_be_seen() -> None:
    found = look("toolkit", installed=parts(driver_access="privileged"))
    assert found.outcome is CheckState.SKIPPED and "nvidia-ctk --version" in found.remedy


def test_a_runtime_class_that_is_gone() -> None:
    installed: Any = parts() | {RUNTIME_CLASSES: []}
    found = look("toolkit", installed=installed)
    assert (
        found.outcome is CheckState.BROKEN
        and "RuntimeClass gpuyard-nvidia, which isn't there" in found.message
    )


def test_simulated_gpus_need_none() -> None:
    assert look("toolkit", nodes=[node(labels=SIMULATED)]).message == "simulated GPUs need none"


# -- CDI ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runtime", "outcome", "said"),
    [
        ("containerd://2.0.1", CheckState.OK, "containerd 2.0.1: on by default"),
        ("containerd://2.1.5+unknown", CheckState.OK, "containerd 2.1.5"),
        ("containerd://1.7.27-k3s1", CheckState.WARNING, "takes CDI only when told to"),
        ("containerd://1.6.20~ds1", CheckState.BROKEN, "knows no CDI"),
        ("cri-o://1.30.2", CheckState.OK, "cri-o 1.30.2"),
        ("cri-o://1.23.1", CheckState.BROKEN, "knows no CDI"),
        ("docker://24.0.7", CheckState.WARNING, "nobody knows whether docker 24.0.7 takes CDI"),
        ("", CheckState.WARNING, "nobody knows whether an unknown runtime takes CDI"),
    ],
)
def test_runtimes(runtime: str, outcome: CheckState, said: str) -> None:
    found = look("cdi", nodes=[node(runtime=runtime)])
    assert found.outcome is outcome and said in found.message, found
    if outcome is not CheckState.OK:
        assert "where NVIDIA's runtime is the default one" in found.remedy
        assert not found.remedy.startswith("Or")


def test_cdi_is_not_all() -> None:
    old = "containerd://1.6.20"
    # Device nodes of simulated GPUs come without it.
    assert look("cdi", nodes=[node(runtime=old, labels=SIMULATED)]).outcome is CheckState.WARNING
    legacy = node(runtime=old, labels={"gpuyard.io/gpu-injection": "legacy"})
    assert look("cdi", nodes=[legacy]).outcome is CheckState.OK
    found = look("cdi", nodes=[node(kubelet="v1.28.9")])
    assert found.outcome is CheckState.WARNING and "DevicePluginCDIDevices" in found.message


@pytest.mark.parametrize(
    ("trouble", "outcome", "said"),
    [
        ("duplicate", CheckState.BROKEN, "/var/run/cdi/copy.json has CDI devices of the same names"),
        ("unwritten", CheckState.BROKEN, "can't write its CDI spec /var/run/cdi/copy.json: why"),
        ("rewritten", CheckState.WARNING, "/var/run/cdi/copy.json was why; the agent has written it again"),
    ],
)
def test_what_the_agent_says_of_its_cdi_spec(trouble: str, outcome: CheckState, said: str) -> None:
    raw = [{"trouble": trouble, "file": "/var/run/cdi/copy.json", "detail": "why"}]
    here = node(labels=SIMULATED)
    here["metadata"]["annotations"] = {"gpuyard.io/cdi": json.dumps(raw)}
    found = look("cdi", nodes=[here])
    assert found.outcome is outcome and said in found.message, found
    assert found.remedy


def test_an_agent_that_can_not_take_over() -> None:
    stuck = agent(ready="False", waiting={"reason": "ErrImagePull"})
    stuck["metadata"]["name"] = "agent-next"
    for pods in ([agent(), stuck], [stuck, agent()]):
        found = look("agents", nodes=[marked(node())], pods=pods)
        assert found.outcome is CheckState.WARNING
        assert found.message.startswith("a: its next agent can't take over: plugin ErrImagePull")
