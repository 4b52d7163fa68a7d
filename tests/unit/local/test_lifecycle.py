"""Starting and stopping the daemon: real ones, each in a data folder of its own."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local import lifecycle
from gpuyard.local.daemon.__main__ import StartReport
from gpuyard.local.daemon.log import MAX_LOG_BYTES
from gpuyard.local.daemon.yard import Yard
from gpuyard.local.paths import YardPaths, find_paths
from gpuyard.local.settings import Choices, RunningYard, load_running, save_running
from tests.waiting import until


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
    yard = Yard(paths, choices=Choices(), on_ready=StartReport(writer).ready)
    running = asyncio.create_task(yard.run(), name="yard")
    try:
        async with asyncio.timeout(60):
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


def test_what_nobody_foresaw_is_one_line_for_the_command_and_a_traceback_in_the_log(paths: YardPaths) -> None:
    paths.make_folders()
    (paths.pod_resources_socket / "a folder where a socket is due").mkdir(parents=True)
    with pytest.raises(errors.YardError) as caught:
        lifecycle.start(paths)
    assert caught.value.message.startswith("the yard failed: IsADirectoryError: ")
    assert caught.value.remedy == f"see {paths.daemon_log}"
    log = paths.daemon_log.read_text()
    assert f"CRITICAL gpuyard.daemon: {caught.value.message}\nTraceback (most recent call last):" in log
    assert lifecycle.daemon_pid(paths) == 0


@pytest.mark.parametrize(
    ("script", "end"),
    [("exit 3", "it ended with code 3 as it started"), ("kill -9 $$", "signal 9 ended it as it started")],
)
def test_a_daemon_that_can_not_say_why_it_ended(
    paths: YardPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, end: str
) -> None:
    python = tmp_path / "broken-python"
    python.write_text(f"#!/bin/sh\necho noise >&2\n{script}\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(errors.YardError) as caught:
        lifecycle.start(paths)
    assert (caught.value.message, caught.value.remedy) == (
        f"the yard failed: {end}",
        f"see {paths.daemon_log}",
    )


def test_the_wait_for_another_command_is_told_and_has_an_end(
    paths: YardPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.make_folders()
    monkeypatch.setattr(lifecycle, "_TURN_TIMEOUT_S", 0.0)
    other = os.open(paths.starting, os.O_RDWR | os.O_CREAT)
    said: list[str] = []
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(errors.YardBusy, match="another command has been starting the yard for"):
            lifecycle.start(paths, on_wait=said.append)
    finally:
        os.close(other)
    assert said[0] == "another command is starting the yard"


@pytest.fixture
def hung_daemon(paths: YardPaths) -> Iterator[int]:
    """The pid of a daemon that has all of a daemon's files, takes connections, and heeds nothing."""
    paths.make_folders()
    script = (
        "import fcntl, os, signal, socket, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "lock = open(sys.argv[1], 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print(os.getpid(), file=lock, flush=True)\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "listener.bind(sys.argv[2])\n"
        "listener.listen()\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    words = [sys.executable, "-c", script, str(paths.lock), str(paths.api_socket)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        stat = Path(f"/proc/{process.pid}/stat")
        until(stat.read_text, "it sleeps", lambda text: text.rpartition(")")[2].split()[0] == "S")
        save_running(paths.running, RunningYard(process.pid, 0, "https://127.0.0.1:1", "n", "1", ""))
        yield process.pid
        process.kill()


def test_a_daemon_that_does_not_answer_is_not_up(
    paths: YardPaths, hung_daemon: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "PATIENCE_S", 0.05)
    monkeypatch.setattr(lifecycle, "_ANSWER_TIMEOUT_S", 0.1)
    said: list[str] = []
    with pytest.raises(errors.YardError) as caught:
        lifecycle.start(paths, on_wait=said.append)
    silent = f'the yard (pid {hung_daemon}, state "sleeping") doesn\'t answer'
    assert caught.value.message == silent and "down --keep" in caught.value.remedy
    assert said[0] == f"{silent} yet"


def test_a_daemon_that_does_not_end_is_killed(
    paths: YardPaths, hung_daemon: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "PATIENCE_S", 0.0)
    monkeypatch.setattr(lifecycle, "_STOP_TIMEOUT_S", 0.0)
    said: list[str] = []
    assert lifecycle.stop(paths, said.append)
    assert lifecycle.daemon_pid(paths) == 0
    assert said[0] == f"the yard (pid {hung_daemon}) is ending" and "is killed" in said[1]


def test_somebody_elses_lock_on_the_folder_is_in_nobodys_way(
    paths: YardPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may read a folder may lock it."""
    paths.make_folders()
    monkeypatch.setattr(lifecycle, "_TURN_TIMEOUT_S", 0.0)
    other = os.open(paths.data_dir, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert lifecycle.start(paths, Choices(simulate="H100:1")).fresh
    finally:
        os.close(other)
        lifecycle.stop(paths)


def test_the_log_has_no_chatter_of_libraries(paths: YardPaths) -> None:
    lifecycle.start(paths, Choices(simulate="H100:1"))
    lifecycle.stop(paths)
    lines = paths.daemon_log.read_text().splitlines()
    assert lines
    assert [line for line in lines if re.match(r"[IWE]\d{4} ", line)] == []


def test_a_long_log_is_cut_at_the_next_start(paths: YardPaths) -> None:
    paths.make_folders()
    paths.daemon_log.write_text("old\n" * 3_000_000)
    lifecycle.start(paths)
    assert paths.daemon_log.stat().st_size < MAX_LOG_BYTES
    assert paths.daemon_log.read_text().startswith("... older lines were dropped here\nold\n")
