"""Containers in which a yard tried podman, and which it never got to remove."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard.local.runtime.podman.host import Podman
from gpuyard.local.runtime.podman.probe import LABEL_TRIAL
from gpuyard.local.runtime.trials import mark_of


@pytest.fixture
def name() -> Iterator[str]:
    name = f"gpuyard-trial-test-{secrets.token_hex(4)}"
    yield name
    subprocess.run(["podman", "rm", "--force", "--ignore", name], capture_output=True, check=True)


def _create(name: str, mark: str, folder: Path) -> None:
    command = ["podman", "create", "--name", name, "--label", f"{LABEL_TRIAL}={mark}", "--network=host"]
    subprocess.run([*command, "--rootfs", str(folder), "/bin/sh"], capture_output=True, check=True)


def _exists(name: str) -> bool:
    return subprocess.run(["podman", "container", "exists", name], check=False).returncode == 0


def _mark_of_a_dead_process() -> str:
    with subprocess.Popen(["sleep", "60"]) as process:
        mark = mark_of(process.pid)
        process.kill()
    return mark


async def test_a_killed_yards_trial_is_removed(podman: Podman, name: str, tmp_path: Path) -> None:
    _create(name, _mark_of_a_dead_process(), tmp_path)
    await podman.sweep(lambda folder: True)
    assert not _exists(name)


async def test_a_trial_of_an_earlier_boot_is_removed(podman: Podman, name: str, tmp_path: Path) -> None:
    _, _, rest = mark_of(os.getpid()).partition(".")
    _create(name, f"00000000-0000-0000-0000-000000000000.{rest}", tmp_path)
    await podman.sweep(lambda folder: True)
    assert not _exists(name)


@pytest.mark.parametrize("of", ["a live yard", "another PID namespace", "an unknown form"])
async def test_what_may_be_alive_stays(podman: Podman, name: str, tmp_path: Path, of: str) -> None:
    boot, _, pid, start_ticks = mark_of(os.getpid()).split(".")
    marks = {
        "a live yard": mark_of(os.getpid()),
        "another PID namespace": f"{boot}.1.{pid}.{int(start_ticks) + 1}",
        "an unknown form": "v2",
    }
    _create(name, marks[of], tmp_path)
    await podman.sweep(lambda folder: True)
    assert _exists(name)


async def test_a_probe_leaves_nothing(podman: Podman) -> None:
    again = Podman.find(f"test-{secrets.token_hex(4)}", os.environ["PATH"])
    await again.probe()
    assert again.flags == podman.flags
    assert not _exists(f"gpuyard-trial-{again.yard}")
