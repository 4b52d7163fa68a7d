"""A yard of its own for a measurement, and the commands on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard.local.paths import find_paths

GPUYARD = Path(sys.executable).with_name("gpuyard")


@dataclass(frozen=True)
class BenchYard:
    """A yard in a temporary folder; `environ` makes commands go to it."""

    home: Path
    environ: dict[str, str]

    def run(self, *arguments: str) -> str:
        """What the command prints."""
        command = [str(GPUYARD), *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """`gpuyard status`."""
        found: dict[str, Any] = json.loads(self.run("status", "-o", "json"))
        return found


def environ_for(home: Path) -> dict[str, str]:
    """This process's environment without its own settings of gpuyard; data go to the folder.

    Commands keep what Python compiles, as in an install of a user's, where pip did that.
    """
    own = ("GPUYARD_", "PYTHONDONTWRITEBYTECODE")
    others = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return others | {"GPUYARD_HOME": str(home)}


@contextmanager
def empty_yard() -> Iterator[BenchYard]:
    """A yard that isn't started yet; it is stopped and removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="gpuyard-bench-", dir="/tmp"))
    yard = BenchYard(home, environ_for(home))
    try:
        yield yard
    finally:
        yard.run("down", "--stop")
        shutil.rmtree(find_paths(yard.environ).runtime_dir, ignore_errors=True)
        shutil.rmtree(home)


@contextmanager
def running_yard() -> Iterator[BenchYard]:
    """A yard with eight simulated GPUs."""
    with empty_yard() as yard:
        yard.run("up", "--simulate", "H100:8")
        yield yard
