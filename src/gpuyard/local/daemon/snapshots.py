"""Snapshots of runs' code: each goes with its run's Job."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

from gpuyard.client.informer import Informer
from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_SNAPSHOT
from gpuyard.local.runtime.removal import remove_tree

#: A Job may name any folder: only one of ours, right below the folder of snapshots, is removed.
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*-[0-9a-f]{12}")
#: A submit takes the snapshot before it creates the Job.
_SUBMIT_TIMEOUT_S = 3600.0


class Snapshots:
    """Removes a snapshot once its Job is gone. Made before `jobs` is run.

    Args:
        folder: that they lie in.
        jobs: of all namespaces; run by the caller.
    """

    def __init__(self, folder: Path, jobs: Informer) -> None:
        self._folder = folder
        self._jobs = jobs
        self._doomed: asyncio.Queue[str] = asyncio.Queue()
        jobs.add_handler(self._on_job)

    async def run(self) -> None:
        """Removes what submits and Jobs have left behind, then works until cancelled."""
        await self._jobs.synced()
        used = {_snapshot(job) for job in self._jobs.objects.values()}
        for path in await asyncio.to_thread(lambda: sorted(self._folder.glob("*"))):
            if path.name not in used and time.time() - path.lstat().st_mtime > _SUBMIT_TIMEOUT_S:
                self._doomed.put_nowait(path.name)
        while True:
            name = await self._doomed.get()
            # Somebody may have made a second Job of the first one's manifest.
            if _NAME.fullmatch(name) and name not in map(_snapshot, self._jobs.objects.values()):
                await asyncio.to_thread(remove_tree, self._folder / name)

    def _on_job(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is None and old is not None and (name := _snapshot(old)):
            self._doomed.put_nowait(name)


def _snapshot(job: Manifest) -> str:
    return annotations_of(job).get(ANNOTATION_SNAPSHOT, "")
