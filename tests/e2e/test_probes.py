"""Probes, hooks and ports of a Deployment's pods, and kill -9 of the daemon under them."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.pods import listening_port
from tests.waiting import until

from .conftest import Yard

_DEPLOYMENTS, _PODS = "/apis/apps/v1/namespaces/default/deployments", "/api/v1/namespaces/default/pods"
_SERVER = "import os, http.server as h; h.test(h.SimpleHTTPRequestHandler, port=int(os.environ['PORT']))"


def _deploy(yard: Yard, folder: Path, **main: Any) -> None:
    container = {
        "name": "main",
        "image": "gpuyard.io/host-process",
        "command": ["/usr/bin/python3", "-c", _SERVER],
        "workingDir": str(folder),
        "ports": [{"name": "http", "containerPort": 8000}],
        "env": [{"name": "PORT", "value": "8000"}],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": "http"},
            "periodSeconds": 1,
            "timeoutSeconds": 30,
        },
        **main,
    }
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"runtimeClassName": "gpuyard-process", "containers": [container]},
    }
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    yard.api("POST", _DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec})


def _pods(yard: Yard) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yard.api("GET", f"{_PODS}?labelSelector=app=web")["items"]
    return found


def _until_available(yard: Yard, count: int) -> None:
    until(
        lambda: yard.api("GET", f"{_DEPLOYMENTS}/web")["status"].get("availableReplicas", 0),
        f"{count} replicas are available",
        lambda available: available == count,
    )


def _remove(yard: Yard) -> None:
    yard.api("DELETE", f"{_DEPLOYMENTS}/web")
    until(lambda: not _pods(yard), "all pods are gone")


def test_replicas_serve_on_ports_of_their_own_and_stay_ready_over_a_kill(
    own_yard: Yard, tmp_path: Path
) -> None:
    _deploy(own_yard, tmp_path)
    until(lambda: len(_pods(own_yard)) == 3, "there are three pods")
    assert not any(condition_is_true(pod, "Ready") for pod in _pods(own_yard))
    (tmp_path / "ready").touch()
    _until_available(own_yard, 3)
    before = {pod["metadata"]["name"]: pod for pod in _pods(own_yard)}
    own_yard.kill_daemon()
    own_yard.ok("up")
    for pod in _pods(own_yard):
        old = before[pod["metadata"]["name"]]
        assert find_condition(pod, "Ready") == find_condition(old, "Ready")
        assert listening_port(pod, 8000) == listening_port(old, 8000)
    ports = {listening_port(pod, 8000) for pod in _pods(own_yard)}
    assert len(ports) == 3
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=30) as answer:
            assert answer.status == 200
    # The new daemon goes on asking.
    (tmp_path / "ready").unlink()
    _until_available(own_yard, 0)
    _remove(own_yard)


def test_a_hook_under_which_the_daemon_is_killed_runs_again(own_yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    hook = f"echo begun >>{tmp_path}/said; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    _deploy(own_yard, tmp_path, lifecycle={"preStop": {"exec": {"command": ["sh", "-c", hook]}}})
    _until_available(own_yard, 3)
    scale = own_yard.api("GET", f"{_DEPLOYMENTS}/web/scale")
    own_yard.api("PUT", f"{_DEPLOYMENTS}/web/scale", {**scale, "spec": {"replicas": 1}})
    said = tmp_path / "said"
    until(lambda: said.exists() and said.read_text().count("begun") == 2, "two hooks run")
    own_yard.kill_daemon()
    own_yard.ok("up")
    until(lambda: said.read_text().count("begun") == 4, "they run again")
    # A pod that is to end serves until its hook is through.
    assert sum(condition_is_true(pod, "Ready") for pod in _pods(own_yard)) == 3
    (tmp_path / "go").touch()
    until(lambda: len(_pods(own_yard)) == 1, "two pods are gone")
    _remove(own_yard)
