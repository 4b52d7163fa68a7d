"""`gpuyard install --metrics` on a real Kubernetes: how a Prometheus finds exporters, and what it sees."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.objects import Pods
from tests.cluster.installed.conftest import GPUS, OPTIONS
from tests.cluster.installed.prometheus import running_prometheus
from tests.waiting import until

SYSTEM = "--namespace=gpuyard-system"
KIND = "podmonitors.monitoring.coreos.com"
#: As much of the Prometheus operator's kind as it takes to keep one.
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": KIND},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"plural": "podmonitors", "kind": "PodMonitor"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


@pytest.fixture
def metrics(gpuyard: Gpuyard) -> Iterator[tuple[str, ...]]:
    """The options that add metrics to the install that there is; afterwards they are gone again."""
    options = (f"--image={gpuyard.json('status')['image']}", *OPTIONS)
    yield (*options, "--metrics")
    gpuyard.ok("install", *options)


@pytest.fixture
def kind(cluster: Cluster) -> Iterator[str]:
    """The cluster knows PodMonitors."""
    cluster.kubectl("create", "-f", "-", stdin=DEFINITION)
    try:
        cluster.kubectl("wait", f"crd/{KIND}", "--for=condition=Established", "--timeout=60s")
        until(lambda: "podmonitors" in discovered(cluster), "the kind is discovered")
        yield KIND
    finally:
        cluster.kubectl("delete", "crd", KIND, "--ignore-not-found")


def discovered(cluster: Cluster) -> str:
    return cluster.kubectl("api-resources", "--api-group=monitoring.coreos.com", "--cached=false")


def agent_annotations(cluster: Cluster) -> Any:
    raw = json.loads(cluster.kubectl("get", "daemonset", "gpuyard-agent", SYSTEM, "-o=json"))
    return raw["spec"]["template"]["metadata"].get("annotations") or {}


def test_exporters_are_found_by_a_pod_monitor_where_there_is_that_kind_and_else_by_annotations(
    gpuyard: Gpuyard, metrics: tuple[str, ...], kind: str
) -> None:
    cluster = gpuyard.cluster
    assert "PodMonitor gpuyard-system/gpuyard-agent created" in gpuyard.ok("install", *metrics)
    assert agent_annotations(cluster) == {}
    # People add what their Prometheus chooses by.
    cluster.kubectl("label", KIND, "gpuyard-agent", SYSTEM, "release=prometheus")
    assert "Nothing changed" in gpuyard.ok("install", *metrics)
    status = gpuyard.json("status")
    assert (status["missing"], status["changed"]) == ([], [])

    cluster.kubectl("delete", KIND, "gpuyard-agent", SYSTEM)
    assert gpuyard.json("status")["missing"] == ["PodMonitor gpuyard-system/gpuyard-agent"]
    gpuyard.ok("install", *metrics)
    assert gpuyard.json("status")["missing"] == []
    assert "PodMonitor gpuyard-system/gpuyard-agent deleted" in gpuyard.ok("install", *metrics[:-1])

    gpuyard.ok("install", *metrics)
    cluster.kubectl("delete", "crd", kind)
    until(lambda: "podmonitors" not in discovered(cluster), "the kind is gone")
    assert "DaemonSet gpuyard-system/gpuyard-agent changed" in gpuyard.ok("install", *metrics)
    assert agent_annotations(cluster)["prometheus.io/port"] == "9400"
    assert gpuyard.json("status")["missing"] == []


def test_a_prometheus_sees_the_gpus_of_all_nodes_and_an_alert_fires(
    gpuyard: Gpuyard, metrics: tuple[str, ...], pods: Pods, tmp_path: Path
) -> None:
    cluster = gpuyard.cluster
    gpuyard.ok("install", *metrics)
    pods.create("trainer", node="node-a", gpus=1)
    pods.wait_running("trainer")
    with running_prometheus(cluster, tmp_path) as prometheus:
        targets = until(
            lambda: prometheus.get("targets")["activeTargets"],
            "both agents are scraped",
            lambda found: [each["health"] for each in found] == ["up", "up"],
        )
        assert {each["labels"]["job"] for each in targets} == {"gpuyard"}
        measured = until(
            lambda: prometheus.series("DCGM_FI_DEV_GPU_UTIL"),
            "the trainer has a GPU",
            lambda found: any("pod" in each for each in found),
        )
        counted = Counter(each["Hostname"] for each in measured)
        assert counted == dict.fromkeys(cluster.nodes, GPUS)
        [held] = [each for each in measured if "pod" in each]
        assert (held["pod"], held["namespace"], held["UUID"]) == (
            "trainer",
            pods.namespace,
            *pods.devices("trainer"),
        )
        rules = until(
            lambda: [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]],
            "all rules are evaluated",
            lambda found: found and all(rule["health"] != "unknown" for rule in found),
        )
        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []

        alice = {"gpu": "2", "pid": 4711, "memory_mib": 2048, "user": "alice", "command": "python"}
        say(cluster, "node-b", {"unhealthy": {"3": "XID 79"}, "processes": [alice]})

        def alert(name: str, state: str) -> list[Any]:
            alerts = prometheus.get("alerts")["alerts"]
            return [a for a in alerts if (a["labels"]["alertname"], a["state"]) == (name, state)]

        [xid] = until(lambda: alert("GpuXid", "firing"), "it fires")
        assert xid["annotations"]["summary"] == "GPU 3 of node-b reported XID 79"
        # This one would fire in ten minutes.
        [foreign] = until(lambda: alert("GpuForeignProcess", "pending"), "alice is seen")
        assert (foreign["labels"]["Hostname"], foreign["labels"]["gpu"]) == ("node-b", "2")


def say(cluster: Cluster, node: str, state: object) -> None:
    """What `gpuyard node fault` does on a yard: says in the agent's file how its simulated GPUs are."""
    pod = cluster.kubectl(
        *("get", "pods", SYSTEM, f"--field-selector=spec.nodeName={node}", "-o=name"),
        "--selector=app.kubernetes.io/component=agent",
    ).strip()
    draft = "cat >/run/gpuyard/draft && mv /run/gpuyard/draft /run/gpuyard/simulated.json"
    where = ("exec", SYSTEM, pod, "--container=plugin", "--stdin", "--", "sh", "-c", draft)
    cluster.kubectl(*where, stdin=state)
