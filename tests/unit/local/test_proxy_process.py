from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpuyard.local.paths import YardPaths
from gpuyard.local.proxy_process import ProxyFiles, ProxyProcess, end_proxies, hold

_HOLDER = """
import signal, sys
from pathlib import Path
from gpuyard.local.proxy_process import hold
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else signal.SIG_DFL)
print("held" if hold(Path(sys.argv[1])) is not None else "refused", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(lock: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the file, as a proxy does."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(lock), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


async def test_a_proxy_is_found_by_whoever_looks_and_its_end_is_noticed(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as process:
        found = ProxyProcess.find(tmp_path / "lock")
        assert found is not None
        assert found.pid == process.pid
        ended = asyncio.create_task(found.ended())
        found.end()
        await ended
        found.close()
    assert ProxyProcess.find(tmp_path / "lock") is None


def test_a_file_that_nobody_holds_names_no_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert ProxyProcess.find(lock) is None
    lock.write_text(f"{os.getpid()}\n")  # left behind; the pid is another's by now
    assert ProxyProcess.find(lock) is None


def test_a_holder_that_has_not_said_its_pid_yet_is_not_found(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert ProxyProcess.find(lock) is None


def test_a_service_has_one_proxy(tmp_path: Path) -> None:
    with holder(tmp_path / "lock"):
        assert hold(tmp_path / "lock") is None
    descriptor = hold(tmp_path / "lock")
    assert descriptor is not None
    os.close(descriptor)


def test_all_proxies_of_a_yard_are_ended(tmp_path: Path) -> None:
    paths = YardPaths(tmp_path, tmp_path / "run")
    assert end_proxies(paths) == 0
    paths.services_dir.mkdir()
    locks = [ProxyFiles.of(paths, uid).lock for uid in "ab"]
    with holder(locks[0]) as one, holder(locks[1]) as other:
        assert end_proxies(paths) == 2
        assert one.wait() == other.wait() == -15
    assert not list(paths.services_dir.iterdir())


def test_a_proxy_that_does_not_end_is_killed(tmp_path: Path) -> None:
    paths = YardPaths(tmp_path, tmp_path / "run")
    paths.services_dir.mkdir()
    with holder(ProxyFiles.of(paths, "a").lock, "deaf") as process:
        assert end_proxies(paths, timeout_s=0.0) == 1
        assert process.wait() == -9


def test_the_path_of_a_socket_is_short_enough(tmp_path: Path) -> None:
    paths = YardPaths(tmp_path, Path("/" + "r" * 55))
    socket = ProxyFiles.of(paths, "0" * 36).socket
    assert len(str(socket.with_name(f".{socket.name}.{1 << 22}"))) <= 107
