from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gpuyard.client.api import Propagation
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import DEPLOYMENTS, JOBS, REPLICA_SETS, Manifest, Resource
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
    jobs = Informer(api, JOBS)
    snapshots = Snapshots(folder, jobs)
    await _make_job(api, "odd", name)
    await _make_job(api, "ours", OURS)
    await _make_job(api, "copy", OURS)
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        tasks = [group.create_task(jobs.run()), group.create_task(snapshots.run())]
        await until_async(lambda: len(jobs.objects) == 3, "the Jobs are known")
        for job in ("odd", "ours"):
            await api.delete(JOBS, job, "default", propagation=Propagation.BACKGROUND)
        await until_async(lambda: len(jobs.objects), "one Job is left", lambda count: count <= 1)
        assert (folder / OURS).exists()
        await api.delete(JOBS, "copy", "default", propagation=Propagation.BACKGROUND)
        await until_async(lambda: not (folder / OURS).exists(), "the snapshot goes with its last Job")
        for task in tasks:
            task.cancel()
    assert (folder / "keep").exists() and (tmp_path / "keep").exists()


@pytest.mark.parametrize("moment", [0, 4_000_000_000])
async def test_what_no_submit_claims_is_removed_whatever_the_clock_said(
    api: ObjectApi, tmp_path: Path, moment: int
) -> None:
    kept, left = (tmp_path / f"{name}-0123456789ab" for name in ("kept", "left"))
    for path in (kept, left):
        path.mkdir()
        os.utime(path, (moment, moment))
    jobs = Informer(api, JOBS)
    snapshots = Snapshots(tmp_path, jobs, submit_timeout_s=0.05)
    await _make_job(api, "kept", kept.name)
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        tasks = [group.create_task(jobs.run()), group.create_task(snapshots.run())]
        await until_async(lambda: not left.exists(), "what nobody owns is removed")
        for task in tasks:
            task.cancel()
    assert kept.exists()


async def test_a_submit_under_way_at_the_start_keeps_its_snapshot(api: ObjectApi, tmp_path: Path) -> None:
    (tmp_path / OURS).mkdir()
    os.utime(tmp_path / OURS, (0, 0))
    jobs = Informer(api, JOBS)
    snapshots = Snapshots(tmp_path, jobs)
    await _make_job(api, "other", "other-0123456789ab")
    (tmp_path / "other-0123456789ab").mkdir()
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        tasks = [group.create_task(jobs.run()), group.create_task(snapshots.run())]
        await until_async(lambda: len(jobs.objects) == 1, "the Jobs are known")
        await api.delete(JOBS, "other", "default", propagation=Propagation.BACKGROUND)
        # They are removed one after another, so ours would be gone by then.
        await until_async(lambda: not (tmp_path / "other-0123456789ab").exists(), "the other is removed")
        assert (tmp_path / OURS).exists()
        for task in tasks:
            task.cancel()


async def test_a_service_s_snapshot_stays_while_a_revision_has_it(api: ObjectApi, tmp_path: Path) -> None:
    names = [f"digits-{number * 12}" for number in "01"]
    for name in names:
        (tmp_path / name).mkdir()
    deployments, replica_sets = Informer(api, DEPLOYMENTS), Informer(api, REPLICA_SETS)
    snapshots = Snapshots(tmp_path, deployments, replica_sets)
    deployment = _apps(DEPLOYMENTS, names[0])
    await api.create(DEPLOYMENTS, deployment)
    await api.create(REPLICA_SETS, _apps(REPLICA_SETS, names[0]))
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        runs = (deployments.run(), replica_sets.run(), snapshots.run())
        tasks = [group.create_task(run) for run in runs]
        await until_async(lambda: deployments.objects and replica_sets.objects, "both are known")
        patch = {"metadata": {"annotations": {"gpuyard.io/snapshot": names[1]}}}
        await api.patch(DEPLOYMENTS, "digits", patch, "default")
        await api.delete(DEPLOYMENTS, "digits", "default", propagation=Propagation.BACKGROUND)
        # They are removed one after another, so the first would be gone by then.
        await until_async(lambda: not (tmp_path / names[1]).exists(), "the newer one is removed")
        assert (tmp_path / names[0]).exists()
        await api.delete(REPLICA_SETS, "digits", "default", propagation=Propagation.BACKGROUND)
        await until_async(lambda: not (tmp_path / names[0]).exists(), "the older one goes with its revision")
        for task in tasks:
            task.cancel()


def _apps(resource: Resource, snapshot: str) -> Manifest:
    labels = {"app": "digits"}
    pod = {"containers": [{"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}]}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": "digits",
            "namespace": "default",
            "annotations": {"gpuyard.io/snapshot": snapshot},
        },
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {**pod, "runtimeClassName": "gpuyard-process"},
            },
        },
    }
