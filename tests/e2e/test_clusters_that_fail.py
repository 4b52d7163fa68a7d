"""Commands against clusters that are too old, no clusters, or refuse: servers on real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .conftest import Yard

ALL = ("ps", "nodes", "explain x", "logs x", "show x", "stop x", "rm x", "status", "doctor")


class Api:
    """An API server that knows a few paths; the rest isn't found."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.any: tuple[int, dict[str, str], bytes] | None = None
        self.asked: list[str] = []
        self.port = 0

    def says(self, path: str, body: object, status: int = 200, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        answer = (
            status,
            {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}},
            content,
        )
        if path == "*":
            self.any = answer
        else:
            self.answers[path] = answer

    def kubeconfig(self, folder: Path, **user: Any) -> Path:
        file = folder / "kubeconfig"
        raw = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "ann", "user": user}],
            "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "ann", "namespace": "team"}}],
        }
        file.write_text(json.dumps(raw))
        return file


@pytest.fixture
def api() -> Iterator[Api]:
    found = Api()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            found.asked.append(f"{self.command} {path}")
            missing = (404, {"Content-Type": "application/json"}, b'{"reason": "NotFound", "message": "no"}')
            status, headers, content = found.answers.get(path) or found.any or missing
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "command",
    ["run --image a.example.com/b:1 -- true", "install --image a.example.com/b:1"],
)
def test_an_old_cluster_is_refused(yard: Yard, api: Api, tmp_path: Path, command: str) -> None:
    api.says("/version", {"major": "1", "minor": "27+", "gitVersion": "v1.27.16"})
    name, *words = command.split()
    shell = {"KUBECONFIG": str(api.kubeconfig(tmp_path))}
    said = yard.refused(2, name, "--context", "lab", *words, env=shell)
    assert "this cluster is Kubernetes 1.27, and gpuyard needs 1.28 or later" in said
    assert "upgrade the cluster" in said
    assert not any(asked.startswith("POST") for asked in api.asked)


def test_an_old_cluster_is_refused_whatever_the_registry_does(yard: Yard, api: Api, tmp_path: Path) -> None:
    """Both are asked at once: one that never answers holds up no refusal."""
    api.says("/version", {"major": "1", "minor": "27"})
    shell = {"KUBECONFIG": str(api.kubeconfig(tmp_path))}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/x:1"
        said = yard.refused(
            2, "run", "--context", "lab", "--gpus=1", "--image", image, "--", "true", env=shell
        )
    assert "this cluster is Kubernetes 1.27" in said and "registry" not in said


def test_doctor_says_that_a_cluster_is_old(yard: Yard, api: Api, tmp_path: Path) -> None:
    api.says("/version", {"major": "1", "minor": "27"})
    shell = {"KUBECONFIG": str(api.kubeconfig(tmp_path))}
    done = yard.call("doctor", "--context", "lab", "-o", "json", env=shell)
    report = json.loads(done.out)
    assert (done.code, report["first_broken"]) == (1, "api")
    assert "1.27" in next(c["message"] for c in report["checks"] if c["name"] == "api")


@pytest.mark.parametrize("command", ALL)
def test_a_web_page_is_no_cluster(yard: Yard, api: Api, tmp_path: Path, command: str) -> None:
    api.says("*", "<html><body><h1>Log in</h1></body></html>")
    name, *words = command.split()
    shell = {"KUBECONFIG": str(api.kubeconfig(tmp_path))}
    done = yard.call(name, "--context", "lab", *words, env=shell)
    said = done.out + done.err
    assert done.code == 1, done
    assert f"what answers at http://127.0.0.1:{api.port} is no Kubernetes API" in said
    assert "Log in" in said


@pytest.mark.parametrize("command", ALL)
def test_refused_credentials(yard: Yard, api: Api, tmp_path: Path, command: str) -> None:
    api.says("*", {"reason": "Unauthorized", "message": "Unauthorized"}, 401)
    name, *words = command.split()
    file = api.kubeconfig(tmp_path, token="secret")
    done = yard.call(name, "--context", "lab", *words, env={"KUBECONFIG": str(file)})
    said = done.out + done.err
    assert done.code == 1, done
    assert f"it doesn't take the token of user 'ann' of {file}" in said and "secret" not in said


def test_a_forbidden_verb_comes_with_its_role(yard: Yard, api: Api, tmp_path: Path) -> None:
    refusal = (
        'jobs.batch is forbidden: User "ann" cannot list resource "jobs" in API group "batch" in the '
        'namespace "team"'
    )
    api.says("*", {"reason": "Forbidden", "message": refusal}, 403)
    shell = {"KUBECONFIG": str(api.kubeconfig(tmp_path))}
    said = yard.refused(1, "ps", "--context", "lab", env=shell)
    assert refusal in said
    assert "kubectl create rolebinding gpuyard-viewer-ann --clusterrole=gpuyard-viewer --user=ann" in said


def test_a_busy_cluster(yard: Yard, api: Api, tmp_path: Path) -> None:
    api.says("*", {"reason": "TooManyRequests", "message": "too many requests"}, 429, Retry_After="0")
    shell = {"KUBECONFIG": str(api.kubeconfig(tmp_path))}
    said = yard.refused(1, "nodes", "--context", "lab", env=shell)
    assert "too many requests" in said and "too busy" in said
    # Both are asked for at once, and the first that gives up ends the other.
    assert max(api.asked.count(f"GET /api/v1/{kind}") for kind in ("nodes", "pods")) == 11
