"""Claims and who uses them, against the yard's API on a real socket; nothing binds them here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.kube.objects import JOBS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
from gpuyard.runs import volumes
from gpuyard.runs.target import Target
from gpuyard.runs.volumes import list_claims, remove_claims

_VOLUMES = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
_POD_SPEC = {
    "runtimeClassName": "gpuyard-process",
    "restartPolicy": "Never",
    "containers": [{"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}],
    "volumes": _VOLUMES,
}


async def _claim(target: Target, name: str = "data", **spec: Any) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    manifest = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    return dict(await target.api.create(PERSISTENT_VOLUME_CLAIMS, manifest, "default"))


async def _pod(target: Target, name: str, **metadata: Any) -> None:
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": _POD_SPEC}
    await target.api.create(PODS, manifest, "default")


async def _job(target: Target, name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    manifest = {"metadata": metadata, "spec": {"template": {"spec": _POD_SPEC}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", **manifest}
    return dict(await target.api.create(JOBS, job, "default"))


async def _used_by(target: Target) -> tuple[str, ...]:
    [claim] = await list_claims(target)
    return claim.used_by


async def test_users_are_runs_jobs_and_pods_each_once(target: Target) -> None:
    await _claim(target)
    assert await _used_by(target) == ()
    job = await _job(target, "by-hand")
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "by-hand", "controller": True}
    await _pod(target, "by-hand-x", ownerReferences=[{**owner, "uid": job["metadata"]["uid"]}])
    await _job(target, "train-1", **{"gpuyard.io/run": "train-1"})
    await _pod(target, "alone")
    assert await _used_by(target) == ("job/by-hand", "pod/alone", "train-1")


async def test_a_pod_counts_when_its_job_is_gone(target: Target) -> None:
    await _claim(target)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "gone", "uid": "u", "controller": True}
    await _pod(target, "gone-x", ownerReferences=[owner])
    assert await _used_by(target) == ("pod/gone-x",)
    with pytest.raises(errors.UsageError, match="claim data is used by pod/gone-x"):
        await anext(remove_claims(target, ["data"]))


async def test_who_has_ended_holds_it_until_it_is_removed(target: Target) -> None:
    await _claim(target)
    for name, node in (("here", "a"), ("nowhere", "")):
        await _pod(target, name, labels={"gpuyard.io/run": name})
        if node:
            await target.api.bind("default", name, node)
        await target.api.patch(PODS, name, {"status": {"phase": "Failed"}}, "default", subresource="status")
    [claim] = await list_claims(target)
    assert (claim.used_by, claim.held_by) == ((), ("here",))
    with pytest.raises(errors.UsageError) as told:
        await anext(remove_claims(target, ["data"]))
    assert str(told.value) == "claim data is held by here, which ended and weren't removed"
    assert told.value.remedy == "remove them first: `gpuyard rm here`"


async def test_who_has_ended_uses_nothing(target: Target) -> None:
    await _claim(target)
    await _job(target, "train-1", **{"gpuyard.io/run": "train-1"})
    conditions = [{"type": type_, "status": "True"} for type_ in ("FailureTarget", "Failed")]
    ended = {"status": {"conditions": conditions, "startTime": "2026-01-31T12:00:00Z"}}
    await target.api.patch(JOBS, "train-1", ended, "default", subresource="status")
    assert await _used_by(target) == ()


async def test_claims_as_they_are_shown(target: Target) -> None:
    await _claim(target, "b", volumeName="pv")
    await _claim(target, "a", storageClassName="fast")
    metadata = {"name": "pv"}
    spec = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/srv/b"},
    }
    manifest = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}
    await target.api.create(PERSISTENT_VOLUMES, manifest)
    a, b = await list_claims(target)
    assert (a.name, a.state, a.size, a.storage_class, a.folder) == ("a", "pending", "1Gi", "fast", None)
    assert (b.name, b.volume, b.folder, b.access_modes) == ("b", "pv", "/srv/b", ("ReadWriteOnce",))


async def test_all_are_removed_or_none(target: Target) -> None:
    await _claim(target, "a")
    # Nobody here protects claims that are used.
    await target.api.patch(PERSISTENT_VOLUME_CLAIMS, "a", {"metadata": {"finalizers": None}}, "default")
    with pytest.raises(errors.UsageError, match="there is no claim b, c in namespace default"):
        await anext(remove_claims(target, ["a", "b", "c"]))
    assert [claim.name for claim in await list_claims(target)] == ["a"]
    assert [name async for name in remove_claims(target, ["a", "a"])] == ["a"]
    assert await list_claims(target) == []


async def test_one_that_is_held_is_told(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    await _claim(target)
    monkeypatch.setattr(volumes, "_GONE_WITHIN_S", 0.2)
    with pytest.raises(errors.Timeout, match="claim data is marked for removal"):
        await asyncio.wait_for(anext(remove_claims(target, ["data"])), 60)
    [claim] = await list_claims(target)
    assert claim.state == "terminating"
