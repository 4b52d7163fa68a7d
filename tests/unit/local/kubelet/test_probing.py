"""Probes of real programs: what the pod's status says, and what becomes of its containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import PODS, Manifest, annotations_of
from gpuyard.kube.pods import listening_port
from gpuyard.kube.wellknown import ANNOTATION_PORTS

from .conftest import Host

#: Answers with the status that the file `status` has, and says where it listens.
_SERVER = """
import http.server, os, pathlib

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = int(pathlib.Path("status").read_text())
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"here")

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("listens", flush=True)
server.serve_forever()
"""
_SOON = {"periodSeconds": 1, "failureThreshold": 1}
#: A machine that is busy may start a program slowly.
_PATIENTLY = {"periodSeconds": 1, "failureThreshold": 600}


def _main(pod: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = (pod["status"].get("containerStatuses") or [{}])[0]
    return found


def _is_ready(pod: Manifest) -> bool:
    return condition_is_true(pod, "Ready")


def _get(**fields: Any) -> dict[str, Any]:
    return {"httpGet": {"path": "/healthz", "port": "http"}, **_SOON, **fields}


async def _serve(host: Host, folder: Path, *, name: str = "a", status: int = 200, **main: Any) -> Manifest:
    (folder / "status").write_text(str(status))
    container = {
        "workingDir": str(folder),
        "ports": [{"name": "http", "containerPort": 8000}],
        "env": [{"name": "PORT", "value": "8000"}],
        **main,
    }
    return await host.create(name, "/usr/bin/python3", "-c", _SERVER, main=container, restartPolicy="Always")


async def test_a_pod_is_ready_while_its_page_answers(host: Host, folder: Path) -> None:
    async with host.running():
        await _serve(host, folder, status=500, readinessProbe=_get())
        pod = await host.until("a", lambda pod: _main(pod).get("started"))
        assert not _main(pod)["ready"]
        for type_ in ("Ready", "ContainersReady"):
            condition = find_condition(pod, type_)
            assert condition is not None
            assert (condition["status"], condition["reason"]) == ("False", "ContainersNotReady")
            assert condition["message"] == "containers with unready status: [main]"
        (folder / "status").write_text("204")
        pod = await host.until("a", _is_ready)
        assert _main(pod)["ready"]
        (folder / "status").write_text("500")
        await host.until("a", lambda pod: not _is_ready(pod))
        assert "Readiness probe failed: HTTP probe failed with statuscode: 500" in await host.messages(
            "Unhealthy"
        )
        assert _main(pod)["restartCount"] == 0


async def test_ports_of_two_pods_with_the_same_port_differ(host: Host, folder: Path) -> None:
    async with host.running():
        await _serve(host, folder, name="a", readinessProbe=_get())
        await _serve(host, folder, name="b", readinessProbe=_get())
        pods = [await host.until(name, _is_ready) for name in ("a", "b")]
        ports = {listening_port(pod, 8000) for pod in pods}
        assert len(ports) == 2
        assert 8000 not in ports
        assert all(json.loads(annotations_of(pod)[ANNOTATION_PORTS]).keys() == {"8000"} for pod in pods)


async def test_a_failed_liveness_probe_starts_the_container_again(host: Host, folder: Path) -> None:
    async with host.running():
        await _serve(
            host,
            folder,
            readinessProbe=_get(),
            livenessProbe=_get(),
            startupProbe=_get(**_PATIENTLY),
        )
        before = await host.until("a", _is_ready)
        (folder / "status").write_text("500")
        await host.until("a", lambda pod: _main(pod)["restartCount"] > 0)
        (folder / "status").write_text("200")
        pod = await host.until("a", _is_ready)
        assert listening_port(pod, 8000) == listening_port(before, 8000)
        assert "Container main failed liveness probe, will be restarted" in await host.messages("Killing")
        await host.api.delete(PODS, "a", "default")
        await host.until_gone("a")


async def test_a_ready_container_stays_ready_over_a_new_kubelet(host: Host, folder: Path) -> None:
    async with host.running():
        await _serve(host, folder, readinessProbe=_get(), startupProbe=_get(**_PATIENTLY))
        before = await host.until("a", _is_ready)
    async with host.running():
        await host.create("b", "true")
        await host.finished("b")
        after = await host.get("a")
        assert find_condition(after, "Ready") == find_condition(before, "Ready")
        assert listening_port(after, 8000) == listening_port(before, 8000)
        (folder / "status").write_text("500")
        await host.until("a", lambda pod: not _is_ready(pod))
