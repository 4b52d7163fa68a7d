"""Debian's Prometheus, configured as the how-to says, in the cluster's network."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ruamel.yaml import YAML

from tests.cluster.harness import namespaces
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.state import Process
from tests.waiting import until

_ROOT = Path(__file__).parents[3]
_HOW_TO = _ROOT / "docs/how-to/watch-gpus-with-prometheus.md"
_RULES = _ROOT / "deploy/prometheus/rules.yaml"
_ADDRESS = "127.0.0.1:9090"
_GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
#: The account of the how-to.
_NAMESPACE, _ACCOUNT = "monitoring", "prometheus"


class Prometheus:
    """One that runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def get(self, path: str) -> Any:
        """`data` of an answer of its API."""
        url = f"http://{_ADDRESS}/api/v1/{path}"
        init = self._cluster.state.init
        assert init is not None
        return json.loads(namespaces.run(init, sys.executable, "-c", _GET, url))["data"]

    def series(self, expression: str) -> list[dict[str, str]]:
        """The labels of what an expression gives now."""
        return [each["metric"] for each in self.get(f"query?query={quote(expression)}")["result"]]


@contextmanager
def running_prometheus(cluster: Cluster, folder: Path) -> Iterator[Prometheus]:
    """One with the rights, the job and the alert rules that the how-to has; gone at the end of the block."""
    cluster.kubectl("create", "namespace", _NAMESPACE)
    process: Process | None = None
    try:
        cluster.kubectl("create", "serviceaccount", _ACCOUNT, f"-n={_NAMESPACE}")
        for manifest in (*documents("Role"), *documents("NetworkPolicy")):
            cluster.kubectl("create", "-f", "-", stdin=manifest)
        (folder / "targets.json").write_text(json.dumps(_targets(cluster)))
        (folder / "prometheus.yml").write_text(json.dumps(_configuration(folder)))
        argv = [
            *("prometheus", f"--config.file={folder}/prometheus.yml", f"--web.listen-address={_ADDRESS}"),
            f"--storage.tsdb.path={folder}/data",
        ]
        init = cluster.state.init
        assert init is not None
        process = namespaces.start(init, argv, folder / "prometheus.log")
        log = folder / "prometheus.log"
        until(lambda: "ready to receive web requests" in log.read_text() or not process.alive, "it is ready")
        assert process.alive, log.read_text()
        yield Prometheus(cluster)
    finally:
        if process:
            process.signal(signal.SIGKILL)
        cluster.kubectl("delete", "namespace", _NAMESPACE, "--wait=false")
        cluster.kubectl("delete", "role,rolebinding,networkpolicy", "--all", "--namespace=gpuyard-system")


def documents(word: str) -> list[Any]:
    """The documents of the how-to's first block of YAML with this word."""
    blocks = [block.partition("```")[0] for block in _HOW_TO.read_text().split("```yaml\n")[1:]]
    return list(YAML(typ="safe").load_all(next(block for block in blocks if word in block)))


def _configuration(folder: Path) -> Any:
    [configuration] = documents("kubernetes_sd_configs")
    [job] = configuration["scrape_configs"]
    # Debian builds it without discovery of Kubernetes.
    del job["kubernetes_sd_configs"]
    job["file_sd_configs"] = [{"files": [f"{folder}/targets.json"]}]
    soon = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    return {**configuration, "global": soon, "rule_files": [str(_RULES)]}


def _targets(cluster: Cluster) -> list[Any]:
    """What discovery makes of the pods that the account may list: a target for each port of a container, and
    one for a container without ports.
    """
    account = f"--as=system:serviceaccount:{_NAMESPACE}:{_ACCOUNT}"
    listed = json.loads(cluster.kubectl("get", "pods", "--namespace=gpuyard-system", account, "-o=json"))
    found = []
    for pod in listed["items"]:
        address = pod["status"]["podIP"]
        annotations = {
            "__meta_kubernetes_pod_annotation_" + re.sub(r"\W", "_", name): value
            for name, value in (pod["metadata"].get("annotations") or {}).items()
        }
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or [{}]:
                target = f"{address}:{port['containerPort']}" if port else address
                name = {"__meta_kubernetes_pod_container_port_name": port["name"]} if port else {}
                found.append({"targets": [target], "labels": annotations | name})
    return found
