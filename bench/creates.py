"""Durable creates of ConfigMaps of 1 kB over HTTPS, by a client that isn't the bottleneck."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bench.row import Row, Unavailable
from bench.yard import BenchYard, running_yard

_SOURCE = Path(__file__).with_name("load")
_REQUESTS = 8000
_CONNECTIONS = 8


def measure() -> list[Row]:
    """The rate and the slowest hundredth, of requests that all succeeded."""
    program = build_load()
    with running_yard() as yard:
        found = _load(program, yard)
    if found["errors"]:
        raise AssertionError(f"{found['errors']} of {_REQUESTS} creates failed")
    return [
        Row("durable creates", found["per_s"], "/s", 600, "kube-apiserver", 194, higher_is_better=True),
        Row("durable creates, p99", found["p99_ms"], "ms", 40, "kube-apiserver", 186),
    ]


def build_load() -> Path:
    """The client."""
    if shutil.which("go") is None:
        raise Unavailable("needs go, to build the client")
    program = _SOURCE.parents[1] / "build" / "bench-load"
    # No module is fetched: the client has the standard library only.
    environ = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOPROXY": "off"}
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=_SOURCE, env=environ, check=True)
    return program


def load(program: Path, server: str, ca: Path, token: Path, requests: int) -> list[str]:
    """The command that creates so many; it prints JSON."""
    return [
        str(program),
        *("-server", server),
        *("-ca", str(ca)),
        *("-token", str(token)),
        *("-requests", str(requests)),
        *("-connections", str(_CONNECTIONS)),
    ]


def _load(program: Path, yard: BenchYard) -> dict[str, Any]:
    data_dir = Path(yard.status()["data_dir"])
    command = load(program, yard.status()["api"], data_dir / "pki" / "ca.crt", data_dir / "token", _REQUESTS)
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found
