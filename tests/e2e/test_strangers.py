"""Programs of other users, without the token, beside a real daemon: they can't exhaust it."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.waiting import until

from .conftest import Yard, make_yard
from .shell import TIMEOUT_S

#: What a daemon may grow by under any of this; a flood of headers took 1.9 GB, idle TLS 840 MB.
MAX_GROWTH_BYTES = 80 << 20


def memory_bytes(pid: int) -> int:
    """The resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def address(yard: Yard) -> tuple[str, int]:
    parts = urlsplit(str(yard.status()["api"]))
    return str(parts.hostname), int(parts.port or 0)


def trusting(yard: Yard) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(yard.paths.pki_dir / "ca.crt"))


def version_with_token(yard: Yard, host: str, port: int) -> str:
    """What the owner of the token gets over HTTPS, on a new connection."""
    token = yard.paths.token.read_text().strip()
    asked = urllib.request.Request(
        f"https://{host}:{port}/version", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S, context=trusting(yard)) as answer:
        return str(json.load(answer)["gitVersion"])


def heartbeat(connection: http.client.HTTPConnection) -> str:
    """When the node last reported itself, asked on a connection that stays open."""
    connection.request("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
    (lease,) = json.load(connection.getresponse())["items"]
    return str(lease["spec"]["renewTime"])


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_tls(context: ssl.SSLContext, place: tuple[str, int]) -> ssl.SSLSocket | None:
    """A connection whose TLS handshake is done; None where the yard ended it before."""
    plain = socket.create_connection(place, timeout=TIMEOUT_S)
    try:
        return context.wrap_socket(plain, server_hostname=place[0])
    except OSError:
        plain.close()
        return None


@pytest.fixture(scope="module")
def besieged() -> Iterator[Yard]:
    """A yard of these tests: none of them may leave it worse than it was."""
    with make_yard() as yard:
        yard.ok("up", "--simulate", "H100:8")
        yield yard


def test_headers_without_end(besieged: Yard) -> None:
    pid, place = besieged.status()["daemon_pid"], address(besieged)
    before = memory_bytes(pid)
    for _ in range(5):
        connection = open_tls(trusting(besieged), place)
        assert connection is not None
        sent = 0
        with connection, pytest.raises(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\n")
            while sent < 200 << 20:
                connection.sendall(b"x: " + b"a" * 65_000 + b"\r\n")
                sent += 65_000
        assert memory_bytes(pid) - before < MAX_GROWTH_BYTES
    assert version_with_token(besieged, *place)


def test_thousands_of_idle_connections(besieged: Yard) -> None:
    pid, place, context = besieged.status()["daemon_pid"], address(besieged), trusting(besieged)
    before, files = memory_bytes(pid), descriptors(pid)
    opened: list[socket.socket] = []
    with many_files(), contextlib.ExitStack() as stack:
        for number in range(2_000):
            connection = open_tls(context, place)
            if connection is not None:
                opened.append(stack.enter_context(connection))
                if number % 4 == 0:  # half of a request
                    with contextlib.suppress(OSError):
                        connection.sendall(b"POST /api/v1/namespaces/default/pods HTTP/1.1\r\nhost: a\r\n")
        assert len(opened) > 1_000
        assert memory_bytes(pid) - before < MAX_GROWTH_BYTES
        assert descriptors(pid) - files < 100
        assert version_with_token(besieged, *place)
        assert besieged.get("/version")["gitVersion"]
        # Nobody needs to come for the last ones to be ended.
        until(lambda: descriptors(pid) <= files + 4, "the yard has ended what showed no token")
        assert version_with_token(besieged, *place)


def test_a_daemon_without_descriptors_lives(besieged: Yard) -> None:
    pid, place = besieged.status()["daemon_pid"], address(besieged)
    log = besieged.paths.daemon_log
    lines = len(log.read_text().splitlines())
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    connected = http.client.HTTPConnection("localhost", timeout=TIMEOUT_S)
    connected.sock = socket.socket(socket.AF_UNIX)
    connected.sock.connect(str(besieged.paths.api_socket))
    beaten = heartbeat(connected)
    # None is left: nothing can be accepted or opened.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(connected.close)
        for _ in range(200):
            stack.enter_context(socket.create_connection(place, timeout=TIMEOUT_S))
        waiting = socket.socket(socket.AF_UNIX)
        stack.enter_context(waiting).settimeout(TIMEOUT_S)
        waiting.connect(str(besieged.paths.api_socket))
        waiting.sendall(b"GET /apis/coordination.k8s.io/v1/leases HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: heartbeat(connected) != beaten, "the heartbeat goes on")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert waiting.recv(15) == b"HTTP/1.1 200 OK"
        assert version_with_token(besieged, *place)
    assert besieged.status()["daemon_pid"] == pid
    (node,) = besieged.json("nodes")
    assert node["ready"] is True
    besieged.ok("run", "-n", "after", "--", "true")
    assert len(log.read_text().splitlines()) - lines < 100
