"""Requests through a Service's port of a yard, beside nginx's proxy and beside the replicas themselves.

Proxies have one core, the replicas and the load another. By turns, since the machine may be busy.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.row import Row, Unavailable
from bench.yard import BenchYard, running_yard
from gpuyard.kube.objects import DEPLOYMENTS, ENDPOINT_SLICES, SERVICES
from gpuyard.local.kubelet.ports import free_port
from gpuyard.local.paths import find_paths
from gpuyard.local.proxy_process import ProxyFiles, ProxyProcess

_SOURCE = Path(__file__).with_name("serving")
_TIMES = 3
_SECONDS = 3.0
_CONNECTIONS = 16
#: Far from all that a core can do: waiting behind others isn't what the proxy adds.
_EASY_RATE = 500
_PORT = 8000
_PYTHON = "/usr/bin/python3"
_PROGRAM = """
import http.server, os
class Says(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Says).serve_forever()
"""


def measure() -> list[Row]:
    """The rate on one core, what the proxy adds, and the way from no replica to the first answer."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Unavailable("needs two cores: one for the proxy, one for the load and the replicas")
    program = _build()
    ports = [free_port() for _ in range(3)]
    with running_yard() as yard, _replicas(program, ports, cores[1]), _nginx(ports, cores[0]) as nginx:
        ours = f"http://{_service(yard, ports, cores[0])}/predict"
        load = _Load(program, cores[1])
        rates: list[tuple[float, float]] = []
        added: list[tuple[float, float]] = []
        for _ in range(_TIMES):
            rates.append((load.run(ours)["per_s"], load.run(nginx)["per_s"] if nginx else 0.0))
            direct, *through = (
                load.run(address, _EASY_RATE)["p99_ms"] if address else 0.0
                for address in (f"http://127.0.0.1:{ports[0]}/predict", ours, nginx)
            )
            added.append((through[0] - direct, max(0.0, through[1] - direct)))
        here, beside = (statistics.median(column) for column in zip(*rates, strict=True))
        adds, nginx_adds = (statistics.median(column) for column in zip(*added, strict=True))
        from_zero = _from_zero(yard)
    peer = "nginx's proxy" if nginx else "nginx: not installed"
    return [
        Row("requests through a service's port", here, "/s", 4000, peer, beside, higher_is_better=True),
        Row("… p99 that its proxy adds", adds, "ms", 3, peer, nginx_adds),
        Row("from no replica to the first answer", from_zero, "s", 0.5, "", 0),
    ]


def _build() -> Path:
    if shutil.which("go") is None:
        raise Unavailable("needs go, to build the load and the replicas")
    program = _SOURCE.parents[1] / "build" / "bench-serving"
    environ = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOPROXY": "off"}
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=_SOURCE, env=environ, check=True)
    return program


@contextmanager
def _replicas(program: Path, ports: list[int], core: int) -> Iterator[None]:
    addresses = [f"127.0.0.1:{port}" for port in ports]
    command = ["taskset", "-c", str(core), str(program), "replicas", *addresses]
    environ = os.environ | {"GOMAXPROCS": "1"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@contextmanager
def _nginx(ports: list[int], core: int) -> Iterator[str]:
    """The address of nginx before the same replicas; empty where there is none (group `proxies` of
    tools/install-system-packages)."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        yield ""
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_nginx_config(Path(folder), port, ports))
        command = ["taskset", "-c", str(core), nginx, "-c", str(config), "-e", f"{folder}/error.log"]
        with subprocess.Popen(command) as process:
            try:
                _until_listening(port)
                yield f"http://127.0.0.1:{port}/predict"
            finally:
                process.terminate()


def _nginx_config(folder: Path, port: int, ports: list[int]) -> str:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    servers = "".join(f"server 127.0.0.1:{one};" for one in ports)
    return f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; {temporary}
  upstream replicas {{ least_conn; {servers} keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://replicas; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@dataclass(frozen=True)
class _Load:
    program: Path
    core: int

    def run(self, address: str, rate: int = 0) -> dict[str, float]:
        """What the load saw; all its requests succeeded."""
        options = ["-connections", str(_CONNECTIONS), "-seconds", str(_SECONDS), "-rate", str(rate)]
        command = ["taskset", "-c", str(self.core), str(self.program), "load", *options, address]
        environ = os.environ | {"GOMAXPROCS": "1"}
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True)
        found: dict[str, float] = json.loads(done.stdout)
        if found["errors"]:
            raise AssertionError(f"{found['errors']:.0f} requests to {address} failed")
        return found


def _service(yard: BenchYard, ports: list[int], core: int) -> str:
    """Host and port of a Service with these replicas, whose proxy has a core of its own."""
    spec = {"ports": [{"name": "http", "port": _PORT}]}
    service = _call(yard, "POST", SERVICES.path("default"), {"metadata": {"name": "bench"}, "spec": spec})
    for number, port in enumerate(ports):
        endpoint = {
            "addresses": ["127.0.0.1"],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": f"replica-{number}", "namespace": "default"},
        }
        endpoints = {
            "metadata": {"name": f"bench-{number}", "labels": {"kubernetes.io/service-name": "bench"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [endpoint],
        }
        _call(yard, "POST", ENDPOINT_SLICES.path("default"), endpoints)
    address = str(service["spec"]["clusterIP"])
    _until_answered(address)
    lock = ProxyFiles.of(find_paths(yard.environ), service["metadata"]["uid"]).lock
    process = ProxyProcess.find(lock)
    assert process is not None
    os.sched_setaffinity(process.pid, {core})
    process.close()
    return f"{address}:{_PORT}"


def _from_zero(yard: BenchYard) -> float:
    """Seconds from the wish for a first replica to its first answer, without the program's own start."""
    name = "zero"
    (yard.home / "says.py").write_text(_PROGRAM)
    container = {
        "name": "main",
        "image": "gpuyard.io/host-process",
        "command": [_PYTHON, "says.py"],
        "workingDir": str(yard.home),
        "env": [{"name": "PORT", "value": str(_PORT)}],
        "ports": [{"name": "http", "containerPort": _PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    pod = {"runtimeClassName": "gpuyard-process", "containers": [container]}
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    path = DEPLOYMENTS.path("default")
    deployment = _call(yard, "POST", path, {"metadata": {"name": name}, "spec": spec})
    ports = [{"port": _PORT, "targetPort": "http"}]
    service = {"metadata": {"name": name}, "spec": {"selector": labels, "ports": ports}}
    address = str(_call(yard, "POST", SERVICES.path("default"), service)["spec"]["clusterIP"])
    took = []
    for _ in range(_TIMES):
        client = threading.Thread(target=_until_answered, args=(address,))
        client.start()
        began = time.perf_counter()
        _scale(yard, 1)
        client.join()
        took.append(time.perf_counter() - began - _start_by_hand(yard))
        _scale(yard, 0)
        while _call(yard, "GET", f"/api/v1/namespaces/default/pods?labelSelector=app={name}")["items"]:
            time.sleep(0.05)
    _call(yard, "DELETE", DEPLOYMENTS.path("default", deployment["metadata"]["name"]))
    return statistics.median(took)


def _scale(yard: BenchYard, replicas: int) -> None:
    path = DEPLOYMENTS.path("default", "zero")
    deployment = _call(yard, "GET", path)
    deployment["spec"]["replicas"] = replicas
    del deployment["metadata"]["resourceVersion"]  # its controller writes, too
    _call(yard, "PUT", path, deployment)


def _start_by_hand(yard: BenchYard) -> float:
    port = free_port()
    began = time.perf_counter()
    environ = os.environ | {"PORT": str(port)}
    with subprocess.Popen([_PYTHON, "says.py"], cwd=yard.home, env=environ) as process:
        _until_listening(port)
        took = time.perf_counter() - began
        process.kill()
    return took


def _until_answered(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection(address, _PORT, timeout=60)
        try:
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        finally:
            connection.close()


def _call(yard: BenchYard, method: str, path: str, body: object = None) -> Any:
    """One request over the yard's socket."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(find_paths(yard.environ).api_socket))
        content = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, content)
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status >= 400:
        raise AssertionError(f"{method} {path}: {answer.get('message')}")
    return answer
