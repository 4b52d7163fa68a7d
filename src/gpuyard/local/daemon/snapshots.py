"""Snapshots of runs' code: each goes with its run's Job."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

from gpuyard.client.informer import Informer
from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_SNAPSHOT
from gpuyard.local.runtime.removal import remove_tree

#: A Job may name any folder: only one of ours, right below the folder of snapshots, is removed.
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*-[0-9a-f]{12}")
#: A submit takes the snapshot before it creates the Job.
SUBMIT_TIMEOUT_S = 3600.0


class Snapshots:
    """Removes a snapshot once its Job is gone. Made before `jobs` is run.

    Args:
        folder: that they lie in.
        jobs: of all namespaces; run by the caller.
        submit_timeout_s: a snapshot that was there at the start and still has no Job after so long has been
            left behind. Counted from the start: its own times tell nothing after the clock was set.
    """

    def __init__(self, folder: Path, jobs: Informer, *, submit_timeout_s: float = SUBMIT_TIMEOUT_S) -> None:
        self._folder = folder
        self._jobs = jobs
        self._submit_timeout_s = submit_timeout_s
        self._doomed: asyncio.Queue[str] = asyncio.Queue()
        jobs.add_handler(self._on_job)

    async def run(self) -> None:
        """Works until cancelled; in time it removes what was left behind before the start, too."""
        there = await asyncio.to_thread(lambda: sorted(path.name for path in self._folder.glob("*")))
        sweep = asyncio.get_running_loop().call_later(self._submit_timeout_s, self._doom, there)
        try:
            await self._jobs.synced()
            while True:
                name = await self._doomed.get()
                # Somebody may have made a second Job of the first one's manifest.
                if _NAME.fullmatch(name) and name not in map(_snapshot, self._jobs.objects.values()):
                    await asyncio.to_thread(remove_tree, self._folder / name)
        finally:
            sweep.cancel()

    def _doom(self, names: Iterable[str]) -> None:
        for name in names:
            self._doomed.put_nowait(name)

    def _on_job(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is None and old is not None and (name := _snapshot(old)):
            self._doom([name])


def _snapshot(job: Manifest) -> str:
    return annotations_of(job).get(ANNOTATION_SNAPSHOT, "")
