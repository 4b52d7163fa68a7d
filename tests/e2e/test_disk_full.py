"""A full disk under GPUYARD_HOME: runs end, can be stopped and removed, and all comes back with space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small_disk import mounted
from tests.waiting import until

from .conftest import Yard, make_yard
from .shell import NOWHERE


@pytest.fixture(params=["tmpfs", "ext4"])
def small_yard(request: pytest.FixtureRequest) -> Iterator[Yard]:
    """A running yard of the test's own, whose data folder is a disk of 160 MiB."""
    with make_yard() as yard, mounted(request.param, 160, yard.home):
        yard.ok("up", "--simulate", "H100:8")
        try:
            yield yard
        finally:
            (yard.home / "ballast").unlink(missing_ok=True)
            yard.call("down", "--stop")
            yard.kill_rest()


def _fill(yard: Yard) -> Path:
    """Takes every last byte."""
    ballast = yard.home / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for chunk in (b"x" * (1 << 20), b"x" * 4096, b"x"):
            try:
                while True:
                    file.write(chunk)
            except OSError:
                continue
    assert shutil.disk_usage(yard.home).free == 0
    return ballast


def test_runs_end_and_are_removed_on_a_full_disk(small_yard: Yard) -> None:
    yard = small_yard
    line = f"echo begun; {yard.waiting}; exit 3"
    for name in ("ends", "stopped", "removed"):
        yard.ok("run", "-d", "--name", name, "--", "sh", "-c", line if name == "ends" else "sleep 1000")
    followed = yard.start("logs", "-f", "ends")
    followed.wait_for("begun")
    ballast = _fill(yard)

    yard.ok("stop", "stopped")
    new = yard.start("run", "--name", "new", "--", "true")
    new.wait_for(str(yard.home))
    said = yard.call("ps", "-a")
    assert "full" in said.err and str(yard.home) in said.err, said
    yard.open_gate("ends")
    followed.finish()
    ended = yard.call("wait", "ends")
    assert ended.code == 3, ended
    yard.ok("rm", "--force", "removed")
    until(lambda: "removed" not in yard.ok("ps", "-a"), "the run is removed")
    until(lambda: _condition(yard, "DiskPressure")["status"] == "True", "the node says so")
    assert str(yard.home) in _condition(yard, "DiskPressure")["message"]
    assert _condition(yard, "Ready")["status"] == "True"
    assert "8 MiB are needed: until then new runs may be refused, or wait" in yard.call("doctor").out

    ballast.unlink()
    # It was refused at once, or it waited for space.
    submitted = new.finish()
    assert submitted.code == 0 or "no space left" in submitted.err, submitted
    assert "seen" in yard.ok("run", "--gpus", "8", "--", "echo", "seen")
    until(lambda: _condition(yard, "DiskPressure")["status"] == "False", "the node says so")


def test_runs_start_on_a_disk_that_is_nearly_full(small_yard: Yard) -> None:
    yard = small_yard
    with (yard.home / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, shutil.disk_usage(yard.home).free - (32 << 20))
    ran = yard.call("run", "--gpus", "8", "--", "echo", "seen")
    assert (ran.code, ran.out) == (0, "seen\n")
    assert f"the disk that holds {yard.home} is nearly full: " in ran.err
    yard.ok("run", "-d", "--wait", "-n", "waits", *NOWHERE[1:], "--", "true")
    assert "full" not in yard.ok("explain", "waits")
    assert "MiB are needed" not in yard.call("doctor").out
    assert _condition(yard, "DiskPressure")["status"] == "False"


def test_a_run_that_gets_its_gpus_on_a_full_disk_waits_for_space(small_yard: Yard) -> None:
    yard = small_yard
    yard.ok("run", "-d", "--name", "first", "--gpus", "8", "--", "sleep", "1000")
    until(lambda: "running" in yard.ok("ps"), "it runs")
    yard.ok("run", "-d", "--name", "next", "--gpus", "8", "--", "sh", "-c", "exit 5")
    until(lambda: "8 GPUs" in yard.ok("explain", "next"), "it waits for the GPUs")
    ballast = _fill(yard)
    yard.ok("stop", "first")
    said = until(
        lambda: yard.ok("explain", "next"), "it waits for space", lambda said: "free some space" in said
    )
    assert "held at start: the disk that holds" in said and str(yard.home) in said, said
    assert "node_disk" in yard.ok("explain", "next", "-o", "json")
    assert said.startswith("next: starting"), said

    ballast.unlink()
    assert yard.call("wait", "next").code == 5


def test_a_yard_goes_down_and_up_on_a_full_disk(small_yard: Yard) -> None:
    yard = small_yard
    yard.ok("run", "-d", "--name", "goes-on", "--gpus", "2", "--", "sh", "-c", f"{yard.waiting}; exit 4")
    until(lambda: "running" in yard.ok("ps"), "it runs")
    _fill(yard)
    for _ in range(2):
        yard.kill_daemon()
        yard.ok("up")
        assert "goes-on" in yard.ok("ps")
    yard.ok("down", "--keep")
    yard.ok("up")
    yard.open_gate("goes-on")
    assert yard.call("wait", "goes-on").code == 4
    yard.ok("rm", "goes-on")
    yard.ok("down")


def _condition(yard: Yard, kind: str) -> dict[str, str]:
    (node,) = yard.get("/api/v1/nodes")["items"]
    return next(c for c in node["status"]["conditions"] if c["type"] == kind)
