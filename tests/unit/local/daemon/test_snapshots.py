from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gpuyard.client.api import Propagation
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import JOBS
from gpuyard.local.daemon.snapshots import Snapshots
from gpuyard.local.objects.verbs import ObjectApi
from tests.waiting import until_async

OURS = "train-0123456789ab"


async def _make_job(api: ObjectApi, name: str, snapshot: str) -> None:
    metadata = {"name": name, "namespace": "default", "annotations": {"gpuyard.io/snapshot": snapshot}}
    pod = {
        "restartPolicy": "Never",
        "runtimeClassName": "gpuyard-process",
        "containers": [{"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}],
    }
    await api.create(JOBS, {"metadata": metadata, "spec": {"template": {"spec": pod}}})


@pytest.mark.parametrize("name", ["..", "../keep", ".", "", "keep"])
async def test_only_snapshots_go_with_their_jobs(api: ObjectApi, tmp_path: Path, name: str) -> None:
    """Whoever may create a Job may write any name into it."""
    folder = tmp_path / "snapshots"
    for path in (folder / OURS, folder / "keep", tmp_path / "keep"):
        path.mkdir(parents=True)
    left = folder / "left-0123456789ab"
    left.mkdir()
    os.utime(left, (0, 0))
    jobs = Informer(api, JOBS)
    snapshots = Snapshots(folder, jobs)
    await _make_job(api, "odd", name)
    await _make_job(api, "ours", OURS)
    await _make_job(api, "copy", OURS)
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        tasks = [group.create_task(jobs.run()), group.create_task(snapshots.run())]
        await until_async(lambda: not left.exists(), "what nobody owns is removed")
        for job in ("odd", "ours"):
            await api.delete(JOBS, job, "default", propagation=Propagation.BACKGROUND)
        await until_async(lambda: len(jobs.objects), "one Job is left", lambda count: count <= 1)
        assert (folder / OURS).exists()
        await api.delete(JOBS, "copy", "default", propagation=Propagation.BACKGROUND)
        await until_async(lambda: not (folder / OURS).exists(), "the snapshot goes with its last Job")
        for task in tasks:
            task.cancel()
    assert (folder / "keep").exists() and (tmp_path / "keep").exists()
