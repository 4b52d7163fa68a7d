"""A user's shell whose commands go to a cluster: the twin of the yard of tests/e2e."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.gpuyard_on import CONTEXT
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.e2e.shell import CANARY, Shell, eviction
from tests.waiting import until

#: The nodes are tainted, and runs without GPUs don't tolerate it by themselves.
_TOLERATION = "nvidia.com/gpu:NoSchedule"


@dataclass
class ClusterShell(Shell):
    """Commands are called as on a yard: `gpuyard use` chose the cluster, its context the namespace."""

    cluster: Cluster

    def get(self, path: str) -> Any:
        return self.cluster.get(path)

    def evict(self, pod: str) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        self.cluster.request("POST", path, eviction(pod, self.namespace))

    def printed(self, name: str) -> str:
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        pods = self.get(f"{path}?labelSelector=gpuyard.io/run={name}")["items"]
        # Those of one Job are made in the order of their indices.
        first = min(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)
        try:
            return self.cluster.request("GET", f"{path}/{first['metadata']['name']}/log") if first else ""
        except ClusterError:  # there is nothing yet
            return ""

    def answer(self, service: str, port: int) -> str:
        path = f"/api/v1/namespaces/{self.namespace}/services/{service}:{port}/proxy/"
        return self.cluster.request("GET", path)

    def open_gate(self, name: str) -> None:
        self.cluster.kubectl("exec", f"-n={self.namespace}", f"job/{name}", "--", "touch", self.gate)

    def remove_runs(self) -> None:
        """Leaves the namespace as it was found."""
        self.end_commands()
        for path in self.work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        kinds = ("/apis/batch/v1", "jobs"), ("/apis/apps/v1", "deployments"), ("/api/v1", "pods")
        paths = [f"{prefix}/namespaces/{self.namespace}/{kind}" for prefix, kind in kinds]
        for owners in paths[:-1]:
            self.cluster.request("DELETE", f"{owners}?propagationPolicy=Background")
        self.cluster.request("DELETE", f"{paths[-1]}?gracePeriodSeconds=0")
        until(lambda: not any(self.get(path)["items"] for path in paths), "all is removed")


@contextmanager
def cluster_shell(cluster: Cluster, image: str) -> Iterator[ClusterShell]:
    """A shell with a namespace of its own, that enforces Pod Security's "restricted"."""
    namespace = f"e2e-{secrets.token_hex(4)}"
    home = Path(tempfile.mkdtemp(prefix="gy-", dir="/tmp"))
    work = Path(tempfile.mkdtemp(prefix="gy-work-", dir="/tmp"))
    raw = json.loads(cluster.kubeconfig.read_text())
    raw["contexts"][0]["context"]["namespace"] = namespace
    (home / "kubeconfig").write_text(json.dumps(raw))
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(work),
        "USER": "tester",
        "LANG": "C.UTF-8",
        "GPUYARD_HOME": str(home),
        "KUBECONFIG": str(home / "kubeconfig"),
        **CANARY,
    }
    shell = ClusterShell(
        work,
        environ,
        cluster,
        is_yard=False,
        namespace=namespace,
        run_options=("--image", image, "--toleration", _TOLERATION),
        gate="/tmp/go",
    )
    cluster.kubectl("create", "namespace", namespace)
    try:
        cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        cluster.kubectl("wait", f"-n={namespace}", "--for=create", "serviceaccount/default", "--timeout=30s")
        shell.ok("use", CONTEXT)
        yield shell
    finally:
        shell.end_commands()
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        for folder in (home, work):
            shutil.rmtree(folder, ignore_errors=True)
