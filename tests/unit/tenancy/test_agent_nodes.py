from typing import Any

from gpuyard.tenancy.agent_nodes import kept_off, why_no_agent

LINUX = {"kubernetes.io/os": "linux"}
POD = {"nodeSelector": LINUX, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}


def node(name: str, *taints: str, **labels: str) -> dict[str, Any]:
    found = []
    for taint in taints:
        pair, _, effect = taint.partition(":")
        key, _, value = pair.partition("=")
        found.append({"key": key, "value": value, "effect": effect})
    return {"metadata": {"name": name, "labels": LINUX | labels}, "spec": {"taints": found}}


CONTROL = node("cp", "node-role.kubernetes.io/control-plane:NoSchedule")


def test_nodes_of_the_control_plane_are_not_meant() -> None:
    nodes = [CONTROL, node("a"), node("b", "sku=gpu:NoSchedule")]
    assert {name: str(misfit) for name, misfit in kept_off(nodes, POD).items()} == {
        "b": "has the taint sku=gpu:NoSchedule"
    }


def test_why_there_is_no_agent_names_node_taint_and_flag() -> None:
    why, remedy = why_no_agent([CONTROL, node("a", "sku=gpu:NoSchedule", "dedicated=ml:NoExecute")], POD)
    assert why == "node a has the taint sku=gpu:NoSchedule, dedicated=ml:NoExecute"
    flags = "--toleration dedicated=ml:NoExecute --toleration sku=gpu:NoSchedule"
    assert remedy == f"add {flags}, or --tolerate-all for any taint"
    why, remedy = why_no_agent([CONTROL], POD)
    assert why == "node cp has the taint node-role.kubernetes.io/control-plane:NoSchedule"


def test_many_nodes_are_not_all_named() -> None:
    why, remedy = why_no_agent([node(f"n{number}", "spot:NoSchedule") for number in range(5)], POD)
    assert why.endswith("node n2 has the taint spot:NoSchedule; and 2 more")
    assert remedy.count("--toleration ") == 1


def test_without_a_node_of_these_labels() -> None:
    why, remedy = why_no_agent([node("a")], {**POD, "nodeSelector": {**LINUX, "gpu": "yes"}})
    assert why == "no node has the labels kubernetes.io/os=linux,gpu=yes"
    assert "--node-selector" in remedy
