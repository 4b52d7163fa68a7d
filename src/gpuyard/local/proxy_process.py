"""The process of one Service's proxy, as who starts, finds and ends it sees it.

A proxy holds a lock on its file for as long as it lives, and its pid is the file's text: whoever finds the
file locked has found the process, whoever started it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuyard.local.paths import YardPaths
from gpuyard.regular_files import open_regular

_POLL_S = 0.05
#: More than a proxy gives to what is under way.
_END_TIMEOUT_S = 35.0


@dataclass(frozen=True)
class ProxyFiles:
    """Where the proxy of a Service is found.

    Attributes:
        lock: held by it.
        socket: where it tells its figures; its path has to be short.
    """

    lock: Path
    socket: Path

    @classmethod
    def of(cls, paths: YardPaths, uid: str) -> ProxyFiles:
        """Those of the Service with this uid."""
        name = hashlib.sha256(uid.encode()).hexdigest()[:16]
        return cls(paths.services_dir / name, paths.runtime_dir / f"service-{name}.sock")


def hold(lock: Path) -> int | None:
    """Makes this process the proxy that the file names; the descriptor is kept for as long as it lives.

    None where another one is that.

    Raises:
        OSError: the file can't be written.
    """
    descriptor = open_regular(lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


class ProxyProcess:
    """A proxy that lives, or has just ended. Owns a handle of it, since its pid may become another's."""

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle

    @classmethod
    def start(cls, paths: YardPaths, namespace: str, name: str, files: ProxyFiles) -> ProxyProcess:
        """Starts it, in a session of its own: it outlives this process.

        Raises:
            OSError: it can't be started.
        """
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gpuyard.local.service_proxy"),
                *("--api-socket", str(paths.api_socket), "--namespace", namespace, "--service", name),
                *("--socket", str(files.socket), "--lock", str(files.lock)),
            ],
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        # Popen would complain that it lives on; `_reap` waits for it where it is our child.
        process.returncode = 0
        return cls(process.pid, os.pidfd_open(process.pid))

    @classmethod
    def find(cls, lock: Path) -> ProxyProcess | None:
        """The one that holds the file; None without one."""
        pid = _holder(lock)
        if not pid:
            return None
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return None
        # It was alive after the handle was opened: the pid is still its own.
        if _holder(lock) == pid:
            return cls(pid, handle)
        os.close(handle)
        return None

    async def ended(self) -> None:
        """Waits until it has ended."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._handle, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._handle)
        self._reap()

    def end(self) -> None:
        """Has it finish what is under way, and end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """Gives the handle back; the process stays."""
        os.close(self._handle)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self._handle, number)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)


def end_proxies(paths: YardPaths, *, timeout_s: float = _END_TIMEOUT_S) -> int:
    """Ends every proxy of a yard whose daemon is down; how many there were. Kills those that don't end."""
    locks = sorted(paths.services_dir.glob("*")) if paths.services_dir.is_dir() else []
    found = [(lock, process) for lock in locks if (process := ProxyProcess.find(lock)) is not None]
    for _, process in found:
        process.end()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and any(_holder(lock) for lock, _ in found):
        time.sleep(_POLL_S)
    for lock, process in found:
        if _holder(lock):
            process.kill()
        process.close()
    for lock in locks:
        lock.unlink(missing_ok=True)
    return len(found)


def _holder(lock: Path) -> int:
    """The pid of the process that holds the file; 0 where none does, or it isn't told yet."""
    try:
        with os.fdopen(open_regular(lock)) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or "0")
    except (OSError, ValueError):
        return 0
    return 0
