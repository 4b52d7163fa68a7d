"""The scheduler's own gangs, on a cluster whose administrator has switched them on."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from gpuyard.tenancy.names import TENANTS_PRIORITIES
from gpuyard.tenancy.policies.tenants import tenant_policies
from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.cluster import Cluster
from tests.cluster.installed.users import account
from tests.waiting import until

from .conftest import GPUS

#: Off by default; the controller manager lets go of groups that are deleted.
_GATE = "--feature-gates=GenericWorkload=true"
_SWITCHED_ON = {
    "kube-apiserver": (_GATE, "--runtime-config=scheduling.k8s.io/v1beta1=true"),
    "kube-controller-manager": (_GATE,),
    "kube-scheduler": (_GATE,),
}
_WAIT = ("--", "sh", "-c", "until [ -e /tmp/go ]; do sleep 0.1; done")


@pytest.fixture
def pod_groups(gpuyard: Gpuyard) -> Iterator[None]:
    """The cluster serves PodGroups, and afterwards none."""
    if gpuyard.cluster.minor == "1.35":
        pytest.skip("PodGroups of v1beta1 are there from Kubernetes 1.37 on")
    try:
        restart(gpuyard.cluster, _SWITCHED_ON)
        yield
    finally:
        restart(gpuyard.cluster, dict.fromkeys(_SWITCHED_ON, ()))


def restart(cluster: Cluster, parts: dict[str, tuple[str, ...]]) -> None:
    for part, flags in parts.items():
        # Told to end, the API server waits for its clients; without one the others give up.
        cluster.stop(part, signal.SIGKILL)
        cluster.start(part, *flags)
        until(lambda: is_ready(cluster), "the API server is there", timeout_s=120)


def is_ready(cluster: Cluster) -> bool:
    command = ["kubectl", "get", "--raw=/readyz", "--request-timeout=2s"]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def submitter(pod_groups: None, gpuyard: Gpuyard, team: str, tmp_path: Path) -> Gpuyard:
    """Someone who has no more than the role in the team's namespace."""
    bob = account(gpuyard, tmp_path, team)
    gpuyard.cluster.kubectl(
        "create", "rolebinding", "bob", f"-n={team}",
        "--clusterrole=gpuyard-submitter", f"--serviceaccount={team}:bob",
    )  # fmt: skip
    return bob


def test_all_pods_of_a_run_start_or_none(gpuyard: Gpuyard, submitter: Gpuyard, team: str, image: str) -> None:
    cluster = gpuyard.cluster

    def got(kind: str) -> list[dict[str, Any]]:
        items = json.loads(cluster.kubectl("get", kind, f"-n={team}", "-o=json"))["items"]
        return cast("list[dict[str, Any]]", items)

    def nodes_of(run: str) -> list[str]:
        pods = [pod for pod in got("pods") if pod["metadata"]["labels"].get("gpuyard.io/run") == run]
        return [str(pod["spec"].get("nodeName", "")) for pod in pods]

    there = (f"--namespace={team}", f"--image={image}")
    gpuyard.ok("run", "-d", "-n", "before", *there, "--gpus", str(GPUS - 2), *_WAIT)
    until(lambda: nodes_of("before"), "it has its node", lambda nodes: nodes and all(nodes))
    done = submitter("run", "-d", "-n", "all", *there, "--nodes", "2", "--gpus", str(GPUS - 3), *_WAIT)
    assert done.code == 0 and "the scheduler starts all 2 pods or none" in done.err, done

    # One of them would fit, and has no place without the other.
    says = "the scheduler starts 2 pods of PodGroup all or none, and says: minCount (2) cannot be satisfied"
    until(lambda: submitter.ok("explain", "all", f"--namespace={team}"), says, lambda text: says in text)
    assert nodes_of("all") == ["", ""]
    refuses_high_groups(cluster, team)

    gpuyard.ok("rm", "before", "--force", f"--namespace={team}")
    until(lambda: nodes_of("all"), "both have their nodes", all)
    assert len(set(nodes_of("all"))) == 2
    submitter.ok("rm", "all", "--force", f"--namespace={team}")
    until(lambda: not got("podgroups"), "the group goes with its run")


def refuses_high_groups(cluster: Cluster, team: str) -> None:
    """A tenant's group can't be of a priority that its pods can't have."""
    policy, binding = (one for one in tenant_policies() if one["metadata"]["name"] == TENANTS_PRIORITIES)
    manifests = {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}
    group = {
        "apiVersion": "scheduling.k8s.io/v1beta1",
        "kind": "PodGroup",
        "metadata": {"name": "high"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": 2}}, "priorityClassName": "gpuyard-high"},
    }
    command = ["kubectl", "create", f"-n={team}", "--dry-run=server", "-f", "-"]

    def said() -> str:
        done = subprocess.run(
            command,
            input=json.dumps(group),
            env=cluster.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr

    assert said() == ""
    cluster.kubectl("label", "namespace", team, "gpuyard.io/tenant=a")
    cluster.kubectl("create", "-f", "-", stdin=manifests)
    try:
        until(said, "it is refused", lambda text: "gpuyard.io/max-priority=1000" in text)
    finally:
        cluster.kubectl("delete", "-f", "-", stdin=manifests)
        cluster.kubectl("label", "namespace", team, "gpuyard.io/tenant-")
