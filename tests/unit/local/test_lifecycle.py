"""Starting and stopping the daemon: real ones, each in a data folder of its own."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpuyard.local import lifecycle
from gpuyard.local.daemon import Report, Yard
from gpuyard.local.paths import YardPaths, find_paths
from gpuyard.local.settings import load_running


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[YardPaths]:
    found = find_paths({"GPUYARD_HOME": str(tmp_path)})
    yield found
    lifecycle.stop(found)
    shutil.rmtree(found.runtime_dir, ignore_errors=True)


def test_commands_that_start_the_yard_at_once_share_one(paths: YardPaths) -> None:
    with ThreadPoolExecutor(3) as pool:
        started = list(pool.map(lambda _: lifecycle.start(paths), range(3)))
    assert {one.yard.daemon_pid for one in started} == {lifecycle.daemon_pid(paths)}
    assert [one.fresh for one in started].count(True) == 1


def test_a_yard_that_ended_leaves_nothing_in_its_runtime_folder(paths: YardPaths) -> None:
    lifecycle.start(paths)
    assert load_running(paths.running) is not None
    assert lifecycle.stop(paths)
    assert not paths.runtime_dir.exists()
    assert not lifecycle.stop(paths)


async def test_a_daemon_makes_the_folders_that_an_ending_one_removed(paths: YardPaths) -> None:
    paths.data_dir.mkdir(exist_ok=True)
    reader, writer = os.pipe()
    yard = Yard(paths, simulate=None, port=None, report=Report(writer))
    running = asyncio.create_task(yard.run(), name="yard")
    try:
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(os.read, reader, 100) == b'{"ready": true}\n'
        assert [folder.stat().st_mode & 0o777 for folder in (paths.runtime_dir, paths.pods_dir)] == [
            0o700
        ] * 2
    finally:
        os.close(reader)
        yard.stop()
        await running
    assert not paths.runtime_dir.exists()


def test_the_daemon_may_open_more_files_than_its_starter(paths: YardPaths) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        started = lifecycle.start(paths)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    assert resource.prlimit(started.yard.daemon_pid, resource.RLIMIT_NOFILE) == (wanted, hard)


def test_a_long_log_is_set_aside_at_the_next_start(paths: YardPaths) -> None:
    paths.make_folders()
    paths.daemon_log.write_text("old\n" * 3_000_000)
    lifecycle.start(paths)
    assert paths.daemon_log.stat().st_size < 1_000_000
    assert paths.daemon_log.with_name("daemon.log.1").read_text(errors="replace").startswith("old\n")
