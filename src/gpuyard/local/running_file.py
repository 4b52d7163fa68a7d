"""The file that tells commands about the running daemon."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gpuyard import __version__, errors
from gpuyard.kube.timestamps import format_time
from gpuyard.local.objects.verbs import utc_now
from gpuyard.local.settings import RunningYard, save_running

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_RETRY_MAX_S = 30.0


class RunningFile:
    """Written when the yard is ready, and after each change from then on, see `keep`.

    Args:
        path: of the file.
        nodes: the yard's, in order.
    """

    def __init__(self, path: Path, nodes: Sequence[str]) -> None:
        self.api = ""
        self.set_aside: tuple[str, ...] = ()
        self._path = path
        self._agents = dict.fromkeys(nodes, 0)
        self._started_at = format_time(utc_now())
        self._changed = asyncio.Event()

    def note_agent(self, node: str, pid: int) -> None:
        """The pid of a node's agent changed; 0 when it is gone."""
        self._agents[node] = pid
        self._changed.set()

    async def keep(self) -> None:
        """Writes each change until cancelled. A full disk delays that and ends nothing."""
        retry_s = _RETRY_S
        while True:
            await self._changed.wait()
            try:
                self.save()
            except errors.StoreError as error:
                log.warning("%s; again in %.0f s", error.message, retry_s)
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _RETRY_MAX_S)
            else:
                retry_s = _RETRY_S

    async def save_again(self) -> None:
        """Writes it where it is gone."""
        self.save()

    def save(self) -> None:
        """Writes it.

        Raises:
            StoreFull, StoreUnwritable: it can't be written; what it said before is untouched.
        """
        (node, agent), *others = self._agents.items()
        running = RunningYard(
            os.getpid(),
            agent,
            self.api,
            node,
            __version__,
            self._started_at,
            self.set_aside,
            dict(others),
        )
        save_running(self._path, running)
        self._changed.clear()
