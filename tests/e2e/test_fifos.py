"""A FIFO in the place of a file that `up` reads: nothing waits for its other end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Yard, make_yard, processes

_REFUSED = [
    *("daemon.log", "devices.json", "lock", "settings.json", "starting", "token"),
    *("store.db", "store.db-journal", "store.db-wal", "store.db-wal.kept"),
]
_MADE_ANEW = ["kubeconfig", "pki/ca.crt", "pki/ca.key", "pki/server.crt", "pki/server.key"]
_OF_A_RUN = ["pods/*/main/0/journal", "pods/*/main/0/log", "pods/*/pod.json"]


@pytest.fixture(scope="module")
def kept_home() -> Iterator[Path]:
    """The data folder of a yard that is down and had one run."""
    with make_yard() as yard:
        yard.ok("up", "--simulate", "H100:8")
        yard.ok("run", "--", "true")
        yard.ok("down")
        yield yard.home


@pytest.fixture
def down_yard(stopped_yard: Yard, kept_home: Path) -> Yard:
    """A yard of the test's own with those data."""
    shutil.copytree(kept_home, stopped_yard.home, dirs_exist_ok=True)
    return stopped_yard


def _put_fifo(yard: Yard, pattern: str) -> Path:
    path = next(yard.home.glob(pattern), yard.home / pattern)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def test_each_file_of_a_yard_is_tried_here(kept_home: Path) -> None:
    files = {file for file in kept_home.rglob("*") if file.is_file()}
    assert files == {file for name in (*_REFUSED, *_MADE_ANEW, *_OF_A_RUN) for file in kept_home.glob(name)}


@pytest.mark.parametrize("name", _REFUSED)
def test_up_names_what_it_cannot_read_and_leaves_no_daemon(down_yard: Yard, name: str) -> None:
    path = _put_fifo(down_yard, name)
    said = down_yard.refused(1, "up")
    assert f"{path}" in said and "move" in said
    assert processes([f"GPUYARD_HOME={down_yard.home}".encode()]) == []


@pytest.mark.parametrize("name", _MADE_ANEW)
def test_up_makes_anew_what_it_can(down_yard: Yard, name: str) -> None:
    path = _put_fifo(down_yard, name)
    down_yard.ok("up")
    assert path.is_file()
    assert "default" in down_yard.kubectl("get", "namespaces")


@pytest.mark.parametrize("name", [*_OF_A_RUN, "simulated-health.json", ".gpuyard-new-1"])
def test_up_goes_on_without_what_it_needs_not(down_yard: Yard, name: str) -> None:
    _put_fifo(down_yard, name)
    down_yard.ok("up")
    assert down_yard.status()["gpus"]["allocatable"] == 8
    down_yard.ok("run", "--", "true")


def test_the_file_of_healths_is_named(down_yard: Yard) -> None:
    path = _put_fifo(down_yard, "simulated-health.json")
    down_yard.ok("up")
    said = down_yard.call("doctor").out
    assert f"{path}" in said and "it isn't a regular file" in said
