"""Kueue lets runs in, as far as a quota goes; `explain` says with its words why one waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.agent import Agent, held
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.cluster.harness.objects import GPU, WAIT, Pods
from tests.engines.engine import Engine
from tests.waiting import until

API = "kueue.x-k8s.io/v1beta2"
GPUS_OF_QUEUE = 2


@pytest.fixture(scope="module")
def kueue(engine: Callable[..., Engine]) -> Engine:
    kueue = engine("kueue", "sigs.k8s.io/kueue", "kueue-system")
    kueue.install(["config/default"], {"kueue-controller-manager": kueue.image("kueue", "manager")})
    return kueue


@pytest.fixture
def queue(kueue: Engine, cluster: Cluster, namespace: str) -> Iterator[str]:
    """A queue with two GPUs, which every Job of the test's namespace joins: that is what its name means."""
    quotas = {"cpu": 8, "memory": "32Gi", GPU: GPUS_OF_QUEUE}
    flavor = {"name": namespace, "resources": [{"name": n, "nominalQuota": q} for n, q in quotas.items()]}
    objects: list[dict[str, Any]] = [
        {"kind": "ResourceFlavor", "metadata": {"name": namespace}, "spec": {}},
        {
            "kind": "ClusterQueue",
            "metadata": {"name": namespace},
            "spec": {
                "namespaceSelector": {},
                "resourceGroups": [{"coveredResources": list(quotas), "flavors": [flavor]}],
            },
        },
        {
            "kind": "LocalQueue",
            "metadata": {"name": "default", "namespace": namespace},
            "spec": {"clusterQueue": namespace},
        },
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": API, **raw} for raw in objects]}

    def made() -> str:
        return cluster.kubectl("apply", "--server-side", "-f", "-", stdin=listed)

    # kube-proxy learns of Kueue's webhook a moment after it is ready.
    until(made, "Kueue takes the queue", not_yet=ClusterError)
    cluster.kubectl(
        *("wait", f"--namespace={namespace}", "localqueue/default", "--for=condition=Active", "--timeout=30s")
    )
    yield "default"
    cluster.kubectl("delete", "jobs", "--all", f"--namespace={namespace}")
    cluster.kubectl("delete", "clusterqueue", namespace, "--wait=false")
    cluster.kubectl("delete", "resourceflavor", namespace, "--wait=false")


@pytest.fixture
def submit(gpuyard: Gpuyard, pods: Pods, queue: str) -> Callable[[str, int], None]:
    """Submits a run that waits until it is stopped: `submit(NAME, GPUS)`."""

    def submitted(name: str, gpus: int) -> None:
        options = (f"--name={name}", f"--gpus={gpus}", f"--namespace={pods.namespace}", "--detach", "--wait")
        image = f"--image={pods.cluster.registry}/busybox:1"
        gpuyard.ok("run", *options, image, "--", "sh", "-c", WAIT)
        assert job(pods, name)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue

    return submitted


def job(pods: Pods, name: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(pods.kubectl("get", "job", name, "-o=json"))
    return raw


def gpus(agent: Agent, pods: Pods, run: str) -> int:
    """How many a run holds, says the kubelet."""
    held_by = held(agent.node).items()
    return sum(
        len(uuids) for (ns, pod, _), uuids in held_by if ns == pods.namespace and pod.startswith(f"{run}-")
    )


def held_at_job(gpuyard: Gpuyard, pods: Pods, name: str, word: str = "quota") -> dict[str, Any]:
    """What `explain` says of a run that Kueue has judged, once it says a word."""

    def blocked() -> dict[str, Any]:
        said: dict[str, Any] = gpuyard.json("explain", name, f"--namespace={pods.namespace}")
        return said["blocked"] or {}

    return until(
        blocked,
        f"explain says what Kueue has against {name}",
        lambda found: word in str(found.get("evidence")),
    )


def test_a_run_starts_when_its_queue_has_room(
    gpuyard: Gpuyard, agent: Agent, pods: Pods, submit: Callable[[str, int], None]
) -> None:
    submit("first", 1)
    until(lambda: gpus(agent, pods, "first") == 1, "the first run has its GPU")
    submit("second", 2)
    found = held_at_job(gpuyard, pods, "second")
    assert (found["step"], found["cause"]) == ("job", "queued")
    assert found["owner"] == {"kind": "LocalQueue", "namespace": pods.namespace, "name": "default"}
    said = found["evidence"][0]
    assert f"insufficient unused quota for {GPU} in flavor {pods.namespace}, 1 more needed" in said
    assert job(pods, "second")["spec"]["suspend"]
    assert gpus(agent, pods, "second") == 0
    gpuyard.ok("stop", "first", f"--namespace={pods.namespace}")
    until(lambda: gpus(agent, pods, "second") == 2, "the second run has its GPUs")
    assert gpuyard.json("explain", "second", f"--namespace={pods.namespace}")["blocked"] is None


def test_a_run_that_is_stopped_while_it_waits_is_never_let_in(
    gpuyard: Gpuyard, agent: Agent, pods: Pods, submit: Callable[[str, int], None]
) -> None:
    namespace = f"--namespace={pods.namespace}"
    submit("first", 2)
    until(lambda: gpus(agent, pods, "first") == 2, "the first run has its GPUs")
    submit("stopped", 1)
    submit("removed", 1)
    submit("third", 1)
    found = held_at_job(gpuyard, pods, "third", "in its LocalQueue")
    assert found["evidence"][-1] == "Kueue says: place 3 in its LocalQueue, and 3 in the ClusterQueue"
    gpuyard.ok("stop", "stopped", namespace)
    gpuyard.ok("rm", "--force", "removed", namespace)
    assert state(gpuyard, pods, "stopped") == "stopped"
    (active,) = (w["spec"]["active"] for w in workloads(pods) if "stopped" in w["metadata"]["name"])
    assert active is False
    gpuyard.ok("stop", "first", namespace)
    # Whoever waited behind it gets what became free.
    until(lambda: gpus(agent, pods, "third") == 1, "the third run has its GPU")
    assert job(pods, "stopped")["spec"]["suspend"]
    assert state(gpuyard, pods, "stopped") == "stopped"
    # Kueue lets go of the workload some time after its Job is gone.
    until(
        lambda: not [w for w in workloads(pods) if "removed" in w["metadata"]["name"]], "its workload is gone"
    )


def state(gpuyard: Gpuyard, pods: Pods, name: str) -> str:
    """As `ps` has it."""
    rows = gpuyard.json("ps", f"--namespace={pods.namespace}")
    return next(str(row["state"]) for row in rows if row["name"] == name)


def workloads(pods: Pods) -> list[dict[str, Any]]:
    raw: list[dict[str, Any]] = json.loads(pods.kubectl("get", "workloads", "-o=json"))["items"]
    return raw


def test_a_run_that_gives_its_place_to_another_waits_again(
    gpuyard: Gpuyard, agent: Agent, pods: Pods, submit: Callable[[str, int], None]
) -> None:
    submit("first", 1)
    until(lambda: gpus(agent, pods, "first") == 1, "the run has its GPU")
    # Rules by exit code would fail it now and then, not each time.
    assert len(job(pods, "first")["spec"]["podFailurePolicy"]["rules"]) == 1
    workload = pods.kubectl("get", "workloads", "-o=name").strip()
    for active in (False, True):
        patch = json.dumps({"spec": {"active": active}})
        pods.kubectl("patch", workload, "--type=merge", f"-p={patch}")
        until(
            lambda: gpus(agent, pods, "first"),
            "it gives its GPU away, or has one again",
            lambda held, active=active: held == int(active),  # type: ignore[misc]
        )
    types = {c["type"] for c in job(pods, "first")["status"]["conditions"] if c["status"] == "True"}
    assert not types & {"Failed", "FailureTarget"}


def test_an_admission_check_that_nobody_passes(
    cluster: Cluster,
    gpuyard: Gpuyard,
    agent: Agent,
    pods: Pods,
    queue: str,
    submit: Callable[[str, int], None],
) -> None:
    check = {"kind": "AdmissionCheck", "metadata": {"name": pods.namespace}}
    raw = {"apiVersion": API, **check, "spec": {"controllerName": "example.com/budget"}}
    strategy = {"admissionChecks": [{"name": pods.namespace}]}
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=raw)
    active = {"status": {"conditions": [condition("Active")]}}
    cluster.kubectl(
        "patch",
        "admissioncheck",
        pods.namespace,
        "--subresource=status",
        "--type=merge",
        f"-p={json.dumps(active)}",
    )
    try:
        patch = json.dumps({"spec": {"admissionChecksStrategy": strategy}})
        cluster.kubectl("patch", "clusterqueue", pods.namespace, "--type=merge", f"-p={patch}")
        submit("checked", 1)
        found = held_at_job(gpuyard, pods, "checked", "admission check")
        assert f"Kueue says: admission check {pods.namespace} is Pending" in found["evidence"]
    finally:
        patch = json.dumps({"spec": {"admissionChecksStrategy": None}})
        cluster.kubectl("patch", "clusterqueue", pods.namespace, "--type=merge", f"-p={patch}")
        cluster.kubectl("delete", "admissioncheck", pods.namespace, "--wait=false")


def condition(type_: str) -> dict[str, str]:
    moment = "2026-01-31T12:00:00Z"
    return {"type": type_, "status": "True", "reason": type_, "message": "", "lastTransitionTime": moment}


def test_a_run_that_its_queue_can_never_hold(
    gpuyard: Gpuyard, agent: Agent, pods: Pods, submit: Callable[[str, int], None]
) -> None:
    submit("large", GPUS_OF_QUEUE + 1)
    found = held_at_job(gpuyard, pods, "large")
    assert (found["step"], found["cause"]) == ("job", "queued")
    assert f"insufficient quota for {GPU} in flavor {pods.namespace}" in found["evidence"][0]
    assert "request (3) > maximum capacity (2)" in found["evidence"][0]
