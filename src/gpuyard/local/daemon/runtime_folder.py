"""The folder of a yard's sockets below /tmp: locked against cleaners, and made again where one removed it.

Each part that has a socket or a file there says how it is made again; nobody is refused for what a cleaner
did, and no process of a run notices.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from gpuyard import errors
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.removal import remove_tree

log = logging.getLogger(__name__)

CHECK_S = 1.0
_AGAIN_S = 15.0


class RuntimeFolder:
    """Keeps the folder while its block lasts, and removes it at the end.

    It is locked, since systemd-tmpfiles removes what is old there unless it is locked. The yard's own lock is
    still held when it goes: the next daemon's sockets lie in the same folder.

    Attributes:
        nodes: so many nodes have folders in it.
    """

    def __init__(self, paths: YardPaths) -> None:
        self.nodes = 1
        self._paths = paths
        self._descriptor = -1
        self._due: dict[Path, float] = {}
        self._held: dict[Path, tuple[Callable[[], Awaitable[None]], Callable[[], bool]]] = {}

    def __enter__(self) -> Self:
        self._lock()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        remove_tree(self._paths.runtime_dir)

    def hold(
        self, path: Path, make: Callable[[], Awaitable[None]], when: Callable[[], bool] = lambda: True
    ) -> None:
        """Has `make` called whenever this file of the folder is gone, and is to be there."""
        self._held[path] = make, when
        if not path.exists():  # A process that is to make it is still starting.
            self._due[path] = asyncio.get_running_loop().time() + _AGAIN_S

    async def keep(self) -> None:
        """Looks once a second, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self._mend()
            except (errors.GpuyardError, OSError) as error:
                log.warning("the folder %s can't be made again: %s", self._paths.runtime_dir, error)

    async def _mend(self) -> None:
        if not self._is_there():
            log.warning("somebody removed %s: it is made again", self._paths.runtime_dir)
            self._paths.make_folders(self.nodes)
            os.close(self._descriptor)
            self._lock()
        now = asyncio.get_running_loop().time()
        for path, (make, when) in self._held.items():
            if path.exists() or not when():
                self._due.pop(path, None)
            elif now >= self._due.get(path, 0.0):
                # A process may make it, which takes a while to start.
                self._due[path] = now + _AGAIN_S
                log.warning("somebody removed %s: it is made again", path)
                self._paths.make_folders(self.nodes)
                await make()

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._paths.runtime_dir.lstat())
        except OSError:
            return False

    def _lock(self) -> None:
        self._descriptor = os.open(self._paths.runtime_dir, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
