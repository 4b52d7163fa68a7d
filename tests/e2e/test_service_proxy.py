"""A yard's Services answer at their addresses, whatever becomes of replicas and of the daemon."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from gpuyard.kube.objects import DEPLOYMENTS, PODS, SERVICES
from tests.waiting import until

from .conftest import Yard, alive, processes

#: Says which pod it is and its pid; `/slow` says the first half, and the second once the gate is open.
PROGRAM = """
import http.server, os, signal, sys, threading, time
NAME = "VERSION " + str(os.getpid())
class Says(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(b"half")
            while not os.path.exists("GATE"):
                time.sleep(0.02)
            self.wfile.write(b"half")
            return
        time.sleep(0.005)
        self.send_response(200)
        self.send_header("Content-Length", str(len(NAME)))
        self.end_headers()
        self.wfile.write(NAME.encode())
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Says)
server.serve_forever()
"""
_PORT = 8000


def _deployment(yard: Yard, version: str, replicas: int) -> dict[str, Any]:
    yard.script(
        f"{version}.py", PROGRAM.replace("VERSION", version).replace("GATE", str(yard.work / yard.gate))
    )
    container = {
        "name": "main",
        "image": "gpuyard.io/host-process",
        "command": ["/usr/bin/python3", f"{version}.py"],
        "workingDir": str(yard.work),
        "env": [{"name": "PORT", "value": str(_PORT)}],
        "ports": [{"name": "http", "containerPort": _PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    }
    return {
        "metadata": {"name": "digits", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "digits"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "digits"}},
                "spec": {
                    "runtimeClassName": "gpuyard-process",
                    "terminationGracePeriodSeconds": 10,
                    "containers": [container],
                },
            },
        },
    }


@contextlib.contextmanager
def served(yard: Yard, replicas: int) -> Iterator[str]:
    """The address of a Service with so many replicas, without waiting for them."""
    yard.api("POST", DEPLOYMENTS.path("default"), _deployment(yard, "v1", replicas))
    spec = {"selector": {"app": "digits"}, "ports": [{"port": _PORT, "targetPort": "http"}]}
    service = yard.api("POST", SERVICES.path("default"), {"metadata": {"name": "digits"}, "spec": spec})
    try:
        yield str(service["spec"]["clusterIP"])
    finally:
        yard.api("DELETE", SERVICES.path("default", "digits"))
        yard.api("DELETE", DEPLOYMENTS.path("default", "digits"))
        until(lambda: not yard.get(PODS.path("default"))["items"], "its pods are gone")


def ask(address: str, method: str = "GET", path: str = "/") -> str:
    connection = http.client.HTTPConnection(address, _PORT, timeout=60)
    try:
        connection.request(method, path, body=b"xx" if method == "POST" else None)
        answer = connection.getresponse()
        return f"{answer.status} {answer.read().decode()}"
    finally:
        connection.close()


def until_answered(address: str) -> str:
    return until(lambda: ask(address), "the service answers", not_yet=OSError)


@contextlib.contextmanager
def asked_all_the_time(address: str, method: str = "GET") -> Iterator[Counter[str]]:
    """Who answered how often until the block ends; what failed is there by its words."""
    answers: Counter[str] = Counter()
    ends = threading.Event()

    def work() -> None:
        while not ends.is_set():
            try:
                answers[ask(address, method)] += 1
            except (OSError, http.client.HTTPException) as error:
                answers[f"failed: {error!r}"] += 1

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    try:
        yield answers
    finally:
        ends.set()
        for worker in workers:
            worker.join()


def proxies(yard: Yard) -> list[int]:
    """Pids of the yard's proxies."""
    found = processes([f"GPUYARD_HOME={yard.home}".encode()])
    return [pid for pid in found if b"gpuyard.local.service_proxy" in _command(pid)]


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
    return b""


def ready(yard: Yard) -> int:
    found = yard.get(DEPLOYMENTS.path("default", "digits"))
    return int(found.get("status", {}).get("readyReplicas", 0))


@pytest.mark.slow
def test_a_rolling_update_loses_no_request(yard: Yard) -> None:
    with served(yard, 2) as address:
        until_answered(address)
        until(lambda: ready(yard) == 2, "both are ready")
        with asked_all_the_time(address, "POST") as answers:
            yard.api("PUT", DEPLOYMENTS.path("default", "digits"), _deployment(yard, "v2", 2))
            until(lambda: ask(address).startswith("200 v2"), "the new ones answer")
            until(lambda: len(yard.get(PODS.path("default"))["items"]) == 2, "the old ones are gone")
        assert {answer.split()[0] for answer in answers} == {"200"}
        assert {answer.split()[1] for answer in answers} == {"v1", "v2"}


@pytest.mark.slow
def test_a_replica_that_is_killed_loses_no_request_that_can_be_repeated(yard: Yard) -> None:
    with served(yard, 2) as address:
        until_answered(address)
        until(lambda: ready(yard) == 2, "both are ready")
        with asked_all_the_time(address) as answers:
            for _ in range(3):
                os.kill(int(ask(address).split()[2]), signal.SIGKILL)
                seen = answers.total()
                until(lambda seen=seen: answers.total() > seen + 20, "others answer")  # type: ignore[misc]
                until(lambda: ready(yard) == 2, "it is back")
        assert {answer.split()[0] for answer in answers} == {"200"}


def test_requests_wait_for_a_service_that_starts_from_zero(yard: Yard) -> None:
    with served(yard, 0) as address:
        until(lambda: _connects(address), "the proxy listens")
        with asked_all_the_time(address) as answers:
            yard.api("PUT", DEPLOYMENTS.path("default", "digits"), _deployment(yard, "v1", 1))
            until(lambda: answers.total() > 20, "it answers")
        assert {answer.split()[0] for answer in answers} == {"200"}


def _connects(address: str) -> bool:
    try:
        socket.create_connection((address, _PORT)).close()
    except OSError:
        return False
    return True


def test_a_restart_of_the_daemon_cuts_no_connection(own_yard: Yard) -> None:
    with served(own_yard, 1) as address:
        until_answered(address)
        (proxy,) = proxies(own_yard)
        for end in (own_yard.kill_daemon, lambda: own_yard.ok("down", "--keep")):
            (own_yard.work / own_yard.gate).unlink(missing_ok=True)
            slow = http.client.HTTPConnection(address, _PORT, timeout=60)
            slow.request("GET", "/slow")
            answer = slow.getresponse()
            assert answer.read(4) == b"half"
            end()
            assert ask(address).startswith("200 ")
            own_yard.ok("up")
            own_yard.open_gate("digits")
            assert answer.read() == b"half"
            slow.close()
            assert proxies(own_yard) == [proxy]
        text = until(
            lambda: _metrics(own_yard), "figures are told", lambda text: "service_requests_total" in text
        )
        assert 'gpuyard_service_requests_in_flight{namespace="default",service="digits"} 0' in text
        os.kill(proxy, signal.SIGKILL)
        until(lambda: alive(proxy) is False and proxies(own_yard) not in ([], [proxy]), "another is started")
        assert until_answered(address).startswith("200 ")
    until(lambda: not proxies(own_yard), "it ends with its Service")


def test_down_ends_the_proxies(own_yard: Yard) -> None:
    spec = {"ports": [{"port": _PORT}]}
    own_yard.api("POST", SERVICES.path("default"), {"metadata": {"name": "alone"}, "spec": spec})
    until(lambda: proxies(own_yard), "there is a proxy")
    own_yard.ok("down")
    assert not proxies(own_yard)


def _metrics(yard: Yard) -> str:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(yard.paths.api_socket))
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()
