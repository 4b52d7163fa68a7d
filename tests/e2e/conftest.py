"""Yards of the tests' own, driven as a user drives them: through the command line, from another process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.paths import YardPaths, find_paths
from tests.waiting import until

from .shell import CANARY, TIMEOUT_S, Shell, eviction


class Refused(Exception):
    """An answer of the API other than success: its status code, and the Status object."""


@dataclass
class Yard(Shell):
    """One yard in a folder of its own, which GPUYARD_HOME names, and a shell beside it."""

    home: Path

    @property
    def paths(self) -> YardPaths:
        return find_paths(self.environ)

    def get(self, path: str) -> Any:
        return self.api("GET", path)

    def evict(self, pod: str) -> None:
        self.api("POST", f"/api/v1/namespaces/default/pods/{pod}/eviction", eviction(pod, "default"))

    def printed(self, name: str) -> str:
        pods = self.get(f"/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run={name}")["items"]
        log = self.paths.pods_dir / pods[0]["metadata"]["uid"] / "main/0/log" if pods else None
        return log.read_text() if log and log.exists() else ""

    def answer(self, service: str, port: int) -> str:
        address = self.get(f"/api/v1/namespaces/default/services/{service}")["spec"]["clusterIP"]
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=TIMEOUT_S) as answer:
            body: bytes = answer.read()
        return body.decode()

    def open_gate(self, name: str) -> None:
        self.script(self.gate, "")

    def api(self, method: str, path: str, body: object = None) -> Any:
        """One request over the yard's own socket.

        Raises:
            Refused: with the status code and the Status object.
        """
        connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(TIMEOUT_S)
            connection.sock.connect(str(self.paths.api_socket))
            content = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, content)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(response.status, answer)
        return answer

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("status")
        return found

    def kubectl(self, *arguments: str) -> str:
        """Standard output of kubectl, with the kubeconfig that `gpuyard kubeconfig` names."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.paths.kubeconfig), *arguments],
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kill_daemon(self) -> int:
        """kill -9; returns when it is gone."""
        pid = int(self.status()["daemon_pid"])
        kill(pid)
        return pid

    def remove_runs(self) -> None:
        """Leaves the yard as it was found."""
        self.end_commands()
        for folder in self.work.iterdir():
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        kinds = {"jobs": "/apis/batch/v1", "deployments": "/apis/apps/v1", "replicasets": "/apis/apps/v1"}
        kinds["pods"] = "/api/v1"

        def left() -> list[tuple[str, str]]:
            return [
                (
                    plural,
                    f"{api}/namespaces/{one['metadata']['namespace']}/{plural}/{one['metadata']['name']}",
                )
                for plural, api in kinds.items()
                for one in self.api("GET", f"{api}/{plural}")["items"]
            ]

        for plural, path in left():
            how = {"gracePeriodSeconds": 1} if plural == "pods" else {"propagationPolicy": "Background"}
            with contextlib.suppress(Refused):
                self.api("DELETE", path, how)
        until(lambda: not left(), "all is removed")

    def end(self) -> None:
        """Ends everything that lives in this yard, however it was left."""
        self.end_commands()
        try:
            if self.paths.lock.exists():  # A yard that was never started has nothing to end.
                self.call("down", "--stop")
        finally:
            self.kill_rest()
            for folder in (self.home, self.paths.runtime_dir, self.work):
                shutil.rmtree(folder, ignore_errors=True)

    def kill_rest(self) -> None:
        """Kills the daemon, the agent and runs that are still there."""
        marks = [f"GPUYARD_HOME={self.home}".encode()]
        with contextlib.suppress(OSError):
            marks += [f"GPUYARD_CONTAINER={pod.name}_".encode() for pod in self.paths.pods_dir.iterdir()]
        for pid in processes(marks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def processes(marks: list[bytes]) -> list[int]:
    """Other processes with a variable in their environment that begins like one of these."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(folder.name) != os.getpid() and any(v.startswith(m) for v in variables for m in marks):
            found.append(int(folder.name))
    return found


def kill(pid: int) -> None:
    """kill -9; returns when the process is gone (a zombie counts as gone)."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), f"{pid} is gone")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def make_yard() -> Iterator[Yard]:
    """A yard that isn't started yet; it is ended and removed whatever happens."""
    home = Path(tempfile.mkdtemp(prefix="gy-", dir="/tmp"))
    work = Path(tempfile.mkdtemp(prefix="gy-work-", dir="/tmp"))
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(work),
        "USER": "tester",
        "LANG": "C.UTF-8",
        "GPUYARD_HOME": str(home),
        **CANARY,
    }
    yard = Yard(work, environ, home)
    try:
        yield yard
    finally:
        yard.end()


@pytest.fixture(scope="session")
def shared_yard() -> Iterator[Yard]:
    with make_yard() as yard:
        yard.ok("up", "--simulate", "H100:8")
        yield yard


@pytest.fixture
def yard(shared_yard: Yard) -> Iterator[Yard]:
    """A running yard with eight simulated H100, without runs; other tests use it, too."""
    yield shared_yard
    shared_yard.remove_runs()


@pytest.fixture
def target(yard: Yard) -> Shell:
    """Where commands go in the tests that hold of a cluster as well."""
    return yard


@pytest.fixture
def storage(yard: Yard) -> None:
    """Claims of a yard get their volumes by themselves."""


@pytest.fixture
def torch_options() -> tuple[str, ...]:
    """What `run` is called with besides, so that there is a PyTorch: the machine has one."""
    return ()


@pytest.fixture
def stopped_yard() -> Iterator[Yard]:
    """A yard of the test's own that was never started."""
    with make_yard() as yard:
        yield yard


@pytest.fixture
def own_yard(stopped_yard: Yard) -> Yard:
    """A running yard of the test's own, with eight simulated H100, that it may break."""
    stopped_yard.ok("up", "--simulate", "H100:8")
    return stopped_yard
