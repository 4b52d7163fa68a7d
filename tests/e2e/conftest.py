"""Yards of the tests' own, driven as a user drives them: through the command line, from another process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.paths import YardPaths, find_paths
from gpuyard.workloads.run_state import run_state

#: A command that hangs fails its test rather than the whole suite.
TIMEOUT_S = 60
GPUYARD = str(Path(sys.executable).with_name("gpuyard"))
#: In the environment of every command, and in no run's and no daemon's.
CANARY = {"SECRET_OF_THE_SHELL": "leaked"}
#: What Python and asyncio print when something went wrong that nobody handled.
NOISE = re.compile(r"Traceback|Exception ignored|Exception in callback|never (?:awaited|retrieved)|Warning:")


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


class Command:
    """A command that was started. Its output goes to files, so that a test can look at it meanwhile."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
        self._arguments = arguments
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed in _close
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            env=environ,
            cwd=folder,
        )

    @property
    def out(self) -> str:
        """Standard output up to now."""
        return self._text(0)

    @property
    def err(self) -> str:
        """Standard error up to now."""
        return self._text(1)

    def _text(self, number: int) -> str:
        file = self._files[number].fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def wait_for(self, text: str) -> None:
        """Returns when it has printed this, wherever."""

        def printed() -> bool:
            assert self.process.poll() is None or text in self.out + self.err, self.out + self.err
            return text in self.out + self.err

        until(printed, f"{self._arguments} prints {text!r}")

    def finish(self) -> Result:
        """Waits for its end."""
        try:
            code = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            said = self.out, self.err
            self.kill()
            raise AssertionError(f"{self._arguments} went on for {TIMEOUT_S} s: {said}") from None
        result = Result(code, self.out, self.err)
        self._close()
        assert not NOISE.search(result.err), result.err
        return result

    def kill(self) -> None:
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._close()

    def _close(self) -> None:
        for file in self._files:
            file.close()


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
    """Asks again until the answer is true, and gives it."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what} didn't come true in {timeout_s} s"
        time.sleep(0.03)
    return answer


class Refused(Exception):
    """An answer of the API other than success: its status code, and the Status object."""


@dataclass
class Yard:
    """One yard in a folder of its own, and a shell beside it.

    Attributes:
        home: GPUYARD_HOME.
        work: where commands are called.
        environ: of the shell.
    """

    home: Path
    work: Path
    environ: dict[str, str]
    started: list[Command] = field(default_factory=list)
    #: What a command is called with, such as setpriv, to be another user.
    prefix: tuple[str, ...] = ()

    @property
    def paths(self) -> YardPaths:
        return find_paths(self.environ)

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Command:
        """Starts a command and leaves it running."""
        command = Command([*self.prefix, GPUYARD, *arguments], {**self.environ, **(env or {})}, self.work)
        self.started.append(command)
        return command

    def call(self, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
        """Runs a command to its end."""
        return self.start(*arguments, env=env).finish()

    def ok(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Standard output of a command that has to work."""
        result = self.call(*arguments, env=env)
        assert result.code == 0, result
        return result.out

    def refused(self, code: int, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Standard error of a command that has to fail with this code."""
        result = self.call(*arguments, env=env)
        assert result.code == code, result
        assert result.err
        return result.err

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(arguments[0], "-o", "json", *arguments[1:]))

    def script(self, name: str, text: str) -> Path:
        file = self.work / name
        file.write_text(text)
        return file

    def background(self, name: str, *arguments: str) -> None:
        """Submits a run and waits until its process is there."""
        self.ok("run", "-d", "-n", name, *arguments)
        self.wait_for(name, "running")

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.json("show", name)
        return found

    def wait_for(self, name: str, *states: str) -> dict[str, Any]:
        """The run once it is in one of the states."""
        until(lambda: self._peek(name) in states, f"{name} is {states}")
        return self.state(name)

    def _peek(self, name: str) -> str:
        """The run's state without the cost of a command."""
        jobs, pods = (
            self.api("GET", f"{path}?labelSelector=gpuyard.io/run={name}")["items"]
            for path in ("/apis/batch/v1/namespaces/default/jobs", "/api/v1/namespaces/default/pods")
        )
        return str(run_state(jobs[0], pods).state)

    def wait_for_line(self, name: str, line: str) -> None:
        """Returns when the run's first attempt has printed this line."""

        def printed() -> bool:
            pods = self.api("GET", f"/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run={name}")
            log = self.paths.pods_dir / pods["items"][0]["metadata"]["uid"] / "main/0/log"
            return log.exists() and line in log.read_text().splitlines()

        until(printed, f"{name} has printed {line!r}")

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
        for command in self.started:
            command.kill()
        self.started.clear()
        for folder in self.work.iterdir():
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        jobs, pods = "/apis/batch/v1/jobs", "/api/v1/pods"
        for job in self.api("GET", jobs)["items"]:
            metadata = job["metadata"]
            path = f"/apis/batch/v1/namespaces/{metadata['namespace']}/jobs/{metadata['name']}"
            self.api("DELETE", path, {"propagationPolicy": "Background"})
        for pod in self.api("GET", pods)["items"]:
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
            with contextlib.suppress(Refused):
                self.api("DELETE", path, {"gracePeriodSeconds": 1})
        until(lambda: not self.api("GET", jobs)["items"] + self.api("GET", pods)["items"], "all is removed")

    def end(self) -> None:
        """Ends everything that lives in this yard, however it was left."""
        for command in self.started:
            command.kill()
        self.started.clear()
        try:
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
    yard = Yard(home, work, environ)
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
def stopped_yard() -> Iterator[Yard]:
    """A yard of the test's own that was never started."""
    with make_yard() as yard:
        yield yard


@pytest.fixture
def own_yard(stopped_yard: Yard) -> Yard:
    """A running yard of the test's own, with eight simulated H100, that it may break."""
    stopped_yard.ok("up", "--simulate", "H100:8")
    return stopped_yard
