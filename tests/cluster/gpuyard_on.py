"""The command line against a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.harness.cluster import Cluster
from tests.terminal import Terminal

_GPUYARD = Path(sys.executable).with_name("gpuyard")
CONTEXT = "gpuyard-test"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Gpuyard:
    """Runs commands in a folder that has nothing of this machine's user but the cache.

    Attributes:
        kubeconfig: the administrator's unless it is another.
    """

    cluster: Cluster
    folder: Path
    kubeconfig: Path | None = None

    def __call__(self, command: str, *words: str) -> Done:
        """Runs `gpuyard COMMAND --context … WORDS`."""
        return self.run(command, f"--context={CONTEXT}", *words)

    def run(self, *words: str) -> Done:
        """Runs a command without a context."""
        done = subprocess.run(
            [_GPUYARD, *words],
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(self, command: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command with a context that goes on meanwhile, and is gone at the end of the block."""
        with subprocess.Popen(
            [_GPUYARD, command, f"--context={CONTEXT}", *words],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def in_terminal(self, command: str, *words: str) -> Terminal:
        """The same in a terminal of its own."""
        words = (str(_GPUYARD), command, f"--context={CONTEXT}", *words)
        return Terminal(words, self._environ, self.folder)

    @property
    def _environ(self) -> dict[str, str]:
        config = self.kubeconfig or self.cluster.kubeconfig
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        own = {"KUBECONFIG": str(config), "GPUYARD_HOME": str(self.folder), "XDG_CACHE_HOME": cache}
        return {**os.environ, **own}

    def ok(self, command: str, *words: str) -> str:
        """Standard output of a command that has to succeed."""
        done = self(command, *words)
        assert done.code == 0, f"gpuyard {command} {' '.join(words)}: {done}"
        return done.out

    def json(self, command: str, *words: str) -> Any:
        """The same, parsed."""
        return json.loads(self.ok(command, *words, "-o", "json"))
