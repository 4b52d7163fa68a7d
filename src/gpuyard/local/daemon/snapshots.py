"""Snapshots of runs' and services' code: each goes with the last object that names it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

from gpuyard.client.informer import Informer
from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_SNAPSHOT
from gpuyard.local.runtime.removal import remove_tree

#: An object may name any folder: only one of ours, right below the folder of snapshots, is removed.
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*-[0-9a-f]{12}")
#: A submit takes the snapshot before it creates what names it.
SUBMIT_TIMEOUT_S = 3600.0


class Snapshots:
    """Removes a snapshot once nothing names it any more: no Job, and of a service neither its Deployment nor
    the ReplicaSet of an earlier revision. Made before the informers are run.

    Args:
        folder: that they lie in.
        informers: of all kinds that name one, in all namespaces; run by the caller.
        submit_timeout_s: a snapshot that was there at the start and that nothing names after so long has been
            left behind. Counted from the start: its own times tell nothing after the clock was set.
    """

    def __init__(
        self, folder: Path, *informers: Informer, submit_timeout_s: float = SUBMIT_TIMEOUT_S
    ) -> None:
        self._folder = folder
        self._informers = informers
        self._submit_timeout_s = submit_timeout_s
        self._doomed: asyncio.Queue[str] = asyncio.Queue()
        for informer in informers:
            informer.add_handler(self._on_change)

    async def run(self) -> None:
        """Works until cancelled; in time it removes what was left behind before the start, too."""
        there = await asyncio.to_thread(lambda: sorted(path.name for path in self._folder.glob("*")))
        sweep = asyncio.get_running_loop().call_later(self._submit_timeout_s, self._doom, there)
        try:
            for informer in self._informers:
                await informer.synced()
            while True:
                name = await self._doomed.get()
                # Somebody may have made a second Job of the first one's manifest.
                if _NAME.fullmatch(name) and not self._is_named(name):
                    await asyncio.to_thread(remove_tree, self._folder / name)
        finally:
            sweep.cancel()

    def _doom(self, names: Iterable[str]) -> None:
        for name in names:
            self._doomed.put_nowait(name)

    def _is_named(self, name: str) -> bool:
        return any(name in map(_snapshot, informer.objects.values()) for informer in self._informers)

    def _on_change(self, old: Manifest | None, new: Manifest | None) -> None:
        before = _snapshot(old) if old is not None else ""
        if before and (new is None or _snapshot(new) != before):
            self._doom([before])


def _snapshot(manifest: Manifest) -> str:
    return annotations_of(manifest).get(ANNOTATION_SNAPSHOT, "")
