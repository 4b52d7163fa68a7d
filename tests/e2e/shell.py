"""A user's shell: commands are called in a folder, and what becomes of them can be looked at.

Tests that ask for the fixture `target` get one whose commands go to a yard, and run once more with one whose
commands go to a real Kubernetes: see tests/cluster/installed/test_e2e.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuyard.workloads.run_state import run_state
from tests.waiting import until

#: A command that hangs fails its test rather than the whole suite.
TIMEOUT_S = 60
GPUYARD = str(Path(sys.executable).with_name("gpuyard"))
#: In the environment of every command, and in no run's and no daemon's.
CANARY = {"SECRET_OF_THE_SHELL": "leaked"}
#: What Python and asyncio print when something went wrong that nobody handled.
NOISE = re.compile(r"Traceback|Exception ignored|Exception in callback|never (?:awaited|retrieved)|Warning:")

#: Options of a run that waits, for a node with a label that none has.
NOWHERE = ("--wait", "--node-selector", "disk=fast")


@dataclass(frozen=True)
class Result:
    """What a command did; bytes that are no text are surrogates."""

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
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="surrogateescape")

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


def eviction(pod: str, namespace: str) -> dict[str, Any]:
    """What is created below a pod to evict it."""
    metadata = {"name": pod, "namespace": namespace}
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}


@dataclass
class Shell(ABC):
    """Where a user calls gpuyard.

    Attributes:
        work: the folder where commands are called.
        environ: their environment.
        is_yard: whether they go to a yard, or to a cluster.
        namespace: that they look names up in.
        run_options: what `run` and `serve` are called with besides, so that a run can be there.
        gate: a file that runs of `GATE` wait for, as they name it.
        prefix: what a command is called with, such as setpriv, to be another user.
    """

    work: Path
    environ: dict[str, str]
    is_yard: bool = field(default=True, kw_only=True)
    namespace: str = field(default="default", kw_only=True)
    run_options: tuple[str, ...] = field(default=(), kw_only=True)
    gate: str = field(default="go", kw_only=True)
    prefix: tuple[str, ...] = field(default=(), kw_only=True)
    started: list[Command] = field(default_factory=list, kw_only=True)

    @abstractmethod
    def get(self, path: str) -> Any:
        """What the API has at this path."""

    @abstractmethod
    def evict(self, pod: str) -> None:
        """Asks for the end of a pod of the namespace as `kubectl drain` does."""

    @abstractmethod
    def printed(self, name: str) -> str:
        """What the run's first attempt has printed so far."""

    @abstractmethod
    def answer(self, service: str, port: int) -> str:
        """What a service answers at its root."""

    @abstractmethod
    def open_gate(self, name: str) -> None:
        """Lets a run that waits at its gate go on."""

    @property
    def many(self) -> int:
        """Lines that are more than any buffer on their way holds, and that a busy machine prints in time.

        A cluster's runtime writes each by itself, with the time.
        """
        return 200_000 if self.is_yard else 50_000

    @property
    def waiting(self) -> str:
        """A line of shell that waits at the gate."""
        return f"until [ -e {self.gate} ]; do sleep 0.02; done"

    def words(self, *arguments: str) -> list[str]:
        """A command with all that it is called with."""
        first, *rest = arguments
        return [*self.prefix, GPUYARD, first, *(self.run_options if first in ("run", "serve") else ()), *rest]

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Command:
        """Starts a command and leaves it running."""
        command = Command(self.words(*arguments), {**self.environ, **(env or {})}, self.work)
        self.started.append(command)
        return command

    def bash(self, line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a line of shell, in which `$GPUYARD` is the command with these arguments."""
        command = shlex.join(self.words(*arguments))
        return subprocess.run(
            ["bash", "-c", line.replace("$GPUYARD", command)],
            env=self.environ,
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

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
        until(lambda: self._peek(name), f"{name} is {states}", lambda state: state in states)
        return self.state(name)

    def _peek(self, name: str) -> str:
        """The run's state without the cost of a command."""
        jobs, pods = (
            self.get(f"{path}/namespaces/{self.namespace}/{kind}?labelSelector=gpuyard.io/run={name}")[
                "items"
            ]
            for path, kind in (("/apis/batch/v1", "jobs"), ("/api/v1", "pods"))
        )
        return str(run_state(jobs[0], pods).state)

    def wait_for_line(self, name: str, line: str) -> None:
        """Returns when the run's first attempt has printed this line."""
        until(
            lambda: self.printed(name), f"{name} has printed {line!r}", lambda out: line in out.splitlines()
        )

    def end_commands(self) -> None:
        """Ends commands that go on."""
        for command in self.started:
            command.kill()
        self.started.clear()
