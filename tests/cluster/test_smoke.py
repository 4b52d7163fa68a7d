"""The cluster of the tests is a real one: nodes, images, logs, exec, DNS, Services, access control."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.cluster.harness.objects import Pods, container
from tests.cluster.harness.parts import DNS_ADDRESS, FRONT_PROXY
from tests.contract.recordings import NEWEST
from tests.waiting import until

TOOLS = Path(__file__).parents[2] / "tools/cluster"
NODES = ("node-a", "node-b")
#: Gets / by HTTP; Debian's static busybox has a wget that crashes.
GET = r"printf 'GET / HTTP/1.0\r\n\r\n' | nc {host} {port}"


def test_both_nodes_are_ready(cluster: Cluster) -> None:
    assert cluster.ready_nodes() == set(NODES)


def test_versions_are_those_that_were_asked_for(cluster: Cluster) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o=json"))["items"]
    info = [node["status"]["nodeInfo"] for node in nodes]
    kubernetes = _required(f"kubernetes/{os.environ.get('KUBERNETES', NEWEST)}", "k8s.io/kubernetes")
    assert cluster.version == kubernetes
    assert {node["kubeletVersion"] for node in info} == {kubernetes}
    containerd = _required("containerd", "github.com/containerd/containerd/v2")
    assert {node["containerRuntimeVersion"] for node in info} == {f"containerd://{containerd[1:]}+unknown"}


def _required(folder: str, module: str) -> str:
    """The version of a module that a part's go.mod asks for."""
    text = (TOOLS / folder / "go.mod").read_text()
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("node", NODES)
def test_a_pod_runs_to_its_end_and_shows_its_log(pods: Pods, node: str) -> None:
    assert pods.run("greeter", node=node, command="echo hello from $HOSTNAME") == "hello from greeter\n"
    assert pods.get("greeter")["spec"]["nodeName"] == node


@pytest.mark.parametrize("node", NODES)
def test_exec_reaches_a_running_container(pods: Pods, node: str) -> None:
    pods.create("waiter", node=node)
    pods.wait_running("waiter")
    assert pods.exec("waiter", "echo $((6 * 7))") == "42\n"


def test_names_and_services_lead_from_node_to_node(pods: Pods) -> None:
    serve = "mkdir /tmp/www; echo served >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"
    main = container("main", pods.cluster.registry, serve, readinessProbe={"tcpSocket": {"port": 8080}})
    pods.create_spec("server", node="node-a", containers=[main])
    pods.kubectl("label", "pod", "server", "app=server")
    pods.kubectl("create", "service", "clusterip", "server", "--tcp=80:8080")
    pods.kubectl("wait", "pod/server", "--for=condition=Ready", "--timeout=60s")
    address = pods.kubectl("get", "service", "server", "-o=jsonpath={.spec.clusterIP}")
    pods.create("client", node="node-b")
    pods.wait_running("client")

    def served() -> bool:
        # kube-proxy learns of the pod a moment after it is ready.
        try:
            return "served" in pods.exec("client", GET.format(host=address, port=80))
        except ClusterError:
            return False

    until(served, "the service answers")
    name = f"server.{pods.namespace}.svc.cluster.local"
    assert address in pods.exec("client", f"nslookup -type=a {name}")


def test_the_nodes_themselves_reach_services(cluster: Cluster) -> None:
    # As the API server does, which shares their network, when it calls a webhook.
    connect = f"exec 3<>/dev/tcp/{DNS_ADDRESS}/53 && echo reached"
    assert cluster.on_node("node-a", "bash", "-c", connect) == "reached\n"


def test_servers_of_other_apis_can_tell_whom_the_api_server_speaks_for(cluster: Cluster) -> None:
    name = "configmap/extension-apiserver-authentication"
    known = cluster.kubectl("get", "--namespace=kube-system", name, "-o=json")
    data = json.loads(known)["data"]
    assert json.loads(data["requestheader-allowed-names"]) == [FRONT_PROXY]
    assert data["requestheader-client-ca-file"] != data["client-ca-file"]


def test_a_watch_may_begin_with_what_there_is(cluster: Cluster) -> None:
    how = "watch=1&timeoutSeconds=5&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1"
    lines = cluster.kubectl("get", "--raw", f"/api/v1/namespaces?{how}&sendInitialEvents=1").splitlines()
    seen = [json.loads(line) for line in lines]
    types = [event["type"] for event in seen]
    assert "kube-system" in {e["object"]["metadata"].get("name") for e in seen[: types.index("BOOKMARK")]}
    last = seen[types.index("BOOKMARK")]["object"]["metadata"]
    assert last["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_pods_reach_nothing_outside(pods: Pods) -> None:
    # 192.0.2.0/24 is nobody's (RFC 5737); without a route it fails at once, and nothing is ever sent.
    pods.create("client", node="node-a")
    pods.wait_running("client")
    assert "unreachable" in pods.exec("client", "nc -w 5 192.0.2.1 80 2>&1 </dev/null || true")


def test_access_is_controlled_by_roles(cluster: Cluster, namespace: str) -> None:
    account = f"--as=system:serviceaccount:{namespace}:default"
    with pytest.raises(ClusterError, match=r'cannot list resource "secrets" in API group ""'):
        cluster.kubectl("get", "secrets", f"-n={namespace}", account)
    with pytest.raises(ClusterError, match="only its own Node object"):
        node = ("--as=system:node:node-a", "--as-group=system:nodes")
        cluster.kubectl("label", "node", "node-b", "a=b", *node)


def test_gpu_pods_get_their_toleration(pods: Pods) -> None:
    pods.create("trainer", node="node-a", gpus=1)
    tolerations = pods.get("trainer")["spec"]["tolerations"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in tolerations
