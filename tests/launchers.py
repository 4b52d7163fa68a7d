"""Launchers of several pods, as processes that meet on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from gpuyard import launcher
from gpuyard.local.kubelet.ports import free_port

WAITS = "import time; print('up', flush=True); time.sleep(600)"
Start = Callable[..., "Rank"]


class Rank:
    """A launcher and what it prints."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def wait(self) -> int:
        return self.process.wait(60)


@pytest.fixture
def gang_port() -> int:
    return free_port()


@pytest.fixture
def start(tmp_path: Path, gang_port: int) -> Iterator[Start]:
    ranks: list[Rank] = []

    def start(
        rank: int,
        code: str = WAITS,
        *,
        size: int | str = 3,
        within_s: float = 60,
        uid: str = "u",
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> Rank:
        log = tmp_path / f"{len(ranks)}.log"
        gang = {"GPUYARD_GANG": f"{size} localhost {gang_port} {within_s}", "GPUYARD_GANG_RANK": str(rank)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, launcher.__file__, sys.executable, "-c", code],
                env={**os.environ, **gang, "GPUYARD_GANG_UID": uid, **env},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        ranks.append(Rank(process, log))
        return ranks[-1]

    yield start
    for rank in ranks:
        if rank.process.poll() is None:
            os.killpg(rank.process.pid, signal.SIGKILL)
        rank.process.wait()
