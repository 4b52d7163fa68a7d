from typing import Any

from gpuyard.tenancy.foreign_plugins import ForeignPlugin, foreign_plugins, served_by_no_pod


def node(name: str, gpus: str = "8") -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"allocatable": {"nvidia.com/gpu": gpus}}}


def plugin(node: str = "a", **changes: Any) -> dict[str, Any]:
    owner = {"kind": "DaemonSet", "name": "nvidia-device-plugin", "controller": True}
    path = changes.get("path", "/var/lib/kubelet/device-plugins/")
    return {
        "metadata": {
            "name": "p-x1",
            "namespace": "kube-system",
            "labels": changes.get("labels", {}),
            "ownerReferences": changes.get("owners", [owner]),
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "main", "image": changes.get("image", "nvcr.io/nvidia/k8s-device-plugin")}
            ],
            "volumes": [{"name": "v", "hostPath": {"path": path}}, {"name": "w", "emptyDir": {}}],
        },
        "status": {"phase": changes.get("phase", "Running")},
    }


def test_a_daemon_set_is_named_once_with_its_nodes() -> None:
    pods = [plugin("b"), plugin("a"), plugin("idle")]
    nodes = [node("a"), node("b"), node("idle", "0")]
    wanted = ForeignPlugin("daemonset/nvidia-device-plugin -n kube-system", ("a", "b"))
    assert foreign_plugins(nodes, pods) == [wanted]


def test_a_bare_pod_is_named_itself() -> None:
    assert foreign_plugins([node("a")], [plugin(owners=[])])[0].owner == "pod/p-x1 -n kube-system"


def test_others_are_no_rivals() -> None:
    for changes in (
        {"labels": {"app.kubernetes.io/part-of": "gpuyard"}},
        {"path": "/var/lib/kubelet/pod-resources"},
        {"image": "registry.example.com/rdma-plugin"},
        {"phase": "Succeeded"},
    ):
        assert foreign_plugins([node("a")], [plugin(**changes)]) == []


def test_gpus_that_no_pod_serves() -> None:
    nodes = [node("a"), node("b"), node("c"), node("idle", "0")]
    ours = plugin("b", labels={"app.kubernetes.io/part-of": "gpuyard"}, path="/elsewhere")
    assert served_by_no_pod(nodes, [plugin("a"), ours]) == ["c"]
    assert served_by_no_pod(nodes, [plugin("a", phase="Failed"), ours]) == ["a", "c"]
