"""KEDA starts and ends GPU pods of a Deployment as there is something to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.harness.agent import Agent, held
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.objects import Pods, container
from tests.engines.engine import Engine
from tests.waiting import until

#: The autoscaler of Kubernetes, which takes over from the first replica on, looks every 15 s.
TIMEOUT_S = 180.0


@pytest.fixture(scope="module")
def keda(engine: Callable[..., Engine], cluster: Cluster) -> Engine:
    keda = engine("keda", "github.com/kedacore/keda/v2", "keda")
    keda.install(
        ["config/minimal"],
        {
            "keda-operator": keda.image("operator", "keda"),
            "keda-metrics-apiserver": keda.image("adapter", "keda-adapter"),
        },
    )
    available = ("apiservice/v1beta1.external.metrics.k8s.io", "--for=condition=Available", "--timeout=60s")
    cluster.kubectl("wait", *available, timeout_s=90)
    return keda


def deployment(pods: Pods) -> dict[str, Any]:
    """Without replicas of its own, of pods with one GPU each."""
    labels = {"app": "serve"}
    main = container("main", pods.cluster.registry, gpus=1)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "serve"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [main]},
            },
        },
    }


#: One replica for each pod of the namespace that asks for something.
SCALED = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "serve"},
    "spec": {
        "scaleTargetRef": {"name": "serve"},
        "minReplicaCount": 0,
        "maxReplicaCount": 3,
        "pollingInterval": 1,
        "cooldownPeriod": 1,
        "triggers": [
            {"type": "kubernetes-workload", "metadata": {"podSelector": "app=request", "value": "1"}},
        ],
    },
}


def gpus_of_pods(agent: Agent, pods: Pods) -> list[int]:
    """How many each pod of the test holds, says the kubelet."""
    return [len(uuids) for (namespace, *_), uuids in held(agent.node).items() if namespace == pods.namespace]


def test_gpu_pods_come_with_demand_and_go_with_it(keda: Engine, agent: Agent, pods: Pods) -> None:
    pods.kubectl("create", "-f", "-", stdin=deployment(pods))
    pods.kubectl("create", "-f", "-", stdin=SCALED)
    pods.kubectl("wait", "scaledobject/serve", "--for=condition=Ready", "--timeout=50s")
    assert gpus_of_pods(agent, pods) == []
    for name in ("first", "second"):
        pods.create(name, node="node-b")
        pods.kubectl("label", "pod", name, "app=request")
    try:
        until(
            lambda: gpus_of_pods(agent, pods),
            "two pods hold a GPU each",
            lambda counts: counts == [1, 1],
            timeout_s=TIMEOUT_S,
        )
    except AssertionError as error:
        raise AssertionError(f"{error}: {pods.kubectl('describe', 'scaledobject,hpa')}") from None
    pods.kubectl("delete", "pods", "--selector=app=request")
    until(lambda: gpus_of_pods(agent, pods) == [], "no pod holds a GPU", timeout_s=TIMEOUT_S)
    assert json.loads(pods.kubectl("get", "deployment", "serve", "-o=json"))["spec"]["replicas"] == 0
