"""Claims and folders of a run before its submit."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, key_of
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store
from gpuyard.runs.notices import ignore
from gpuyard.runs.submitting.resolve import check_for_cluster
from gpuyard.runs.submitting.volumes import claims_ready, with_folders
from gpuyard.runs.target import Target
from gpuyard.workloads.resolved_run import HostContext, ResolvedRun
from gpuyard.workloads.spec.run_spec import RunSpec
from gpuyard.workloads.spec.volumes import Volume
from gpuyard.workloads.volumes import claims

HOST = HostContext(python="/usr/bin/python3", workdir="/", path="/usr/bin", home="/", user="me")


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    store = await Store.open(tmp_path / "store.sqlite", synchronous="OFF")
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    yield Target(cast("RestApi", api), "default", is_yard=False)
    await store.close()


async def make_claim(target: Target, *, status: dict[str, Any] | None = None, **spec: Any) -> None:
    whole = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    manifest = {"metadata": {"name": "c", "namespace": "default"}, "spec": whole}
    await target.api.create(PERSISTENT_VOLUME_CLAIMS, manifest)
    if status:
        patch = {"status": status}
        await target.api.patch(PERSISTENT_VOLUME_CLAIMS, "c", patch, "default", subresource="status")


def spec_of(*volumes: Volume, nodes: int = 1) -> RunSpec:
    return RunSpec(("true",), nodes=nodes, volumes=volumes)


async def ready(target: Target, spec: RunSpec) -> None:
    wanted = claims(ResolvedRun(spec, "r", "default", host=HOST))
    async with claims_ready(target, spec, wanted, ignore):
        pass


async def refused(target: Target, spec: RunSpec) -> str:
    with pytest.raises(errors.UsageError) as raised:
        await ready(target, spec)
    assert raised.value.remedy
    return raised.value.message


async def names(target: Target) -> list[str]:
    return [key_of(one).name for one in (await target.api.list(PERSISTENT_VOLUME_CLAIMS, "default")).items]


async def test_a_missing_claim_is_made_where_its_size_is_given(target: Target) -> None:
    assert "there is no claim 'c'" in await refused(target, spec_of(Volume("/a", claim="c")))
    await ready(target, spec_of(Volume("/a", claim="c", size="1Gi")))
    await ready(target, spec_of(Volume("/a", claim="c", size="1Gi"), Volume("/b", claim="c")))
    assert await names(target) == ["c"]


async def test_a_submit_that_fails_takes_its_claims_back(target: Target) -> None:
    spec = spec_of(Volume("/a", claim="c", size="1Gi"))
    wanted = claims(ResolvedRun(spec, "r", "default", host=HOST))
    with pytest.raises(errors.UsageError):
        async with claims_ready(target, spec, wanted, ignore):
            raise errors.UsageError("the name is taken", remedy="choose another")
    found = (await target.api.list(PERSISTENT_VOLUME_CLAIMS, "default")).items
    assert all("deletionTimestamp" in one["metadata"] for one in found)


@pytest.mark.parametrize(
    ("claim", "volume", "nodes", "said"),
    [
        ({}, Volume("/a", claim="c", size="2Gi"), 1, "has 1Gi, and the run asks for 2Gi"),
        (
            {},
            Volume("/a", claim="c", size="1Gi", storage_class="fast"),
            1,
            "is of class gpuyard-folder, not fast",
        ),
        ({}, Volume("/a", claim="c"), 2, "can be mounted by one node (RWO), and the run has 2 pods"),
        ({}, Volume("/a", claim="c", read_only=True), 2, "can be mounted by one node (RWO)"),
        ({"accessModes": ["ReadOnlyMany"]}, Volume("/a", claim="c"), 1, "can only be read (ROX)"),
        ({"status": {"phase": "Lost"}, "volumeName": "v"}, Volume("/a", claim="c"), 1, "lost its volume v"),
    ],
)
async def test_a_claim_that_does_not_suit_is_refused(
    target: Target, claim: dict[str, Any], volume: Volume, nodes: int, said: str
) -> None:
    await make_claim(target, **claim)
    assert said in await refused(target, spec_of(volume, nodes=nodes))


async def test_a_claim_that_suits_several_nodes_is_taken(target: Target) -> None:
    await make_claim(target, accessModes=["ReadOnlyMany", "ReadWriteMany"])
    await ready(target, spec_of(Volume("/a", claim="c"), nodes=2))
    yard = dataclasses.replace(target, is_yard=True)
    await target.api.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    assert "is being deleted" in await refused(yard, spec_of(Volume("/a", claim="c")))


async def test_a_claim_whose_volume_is_another_s_is_refused(target: Target) -> None:
    volume = {
        "metadata": {"name": "v"},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/srv"},
            "claimRef": {"namespace": "other", "name": "theirs", "uid": "1"},
        },
    }  # fmt: skip
    await target.api.create(PERSISTENT_VOLUMES, volume)
    await make_claim(target, volumeName="v")
    said = await refused(target, spec_of(Volume("/a", claim="c")))
    assert "wants volume v, which is bound to claim other/theirs" in said


def folder_problem(tmp_path: Path, volume: Volume, *, is_process: bool = False) -> str:
    with pytest.raises(errors.UsageError) as raised:
        with_folders(spec_of(volume), tmp_path, is_process=is_process)
    assert raised.value.remedy
    return raised.value.message


def test_a_folder_gets_its_full_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    spec = with_folders(spec_of(Volume("/a", folder="./link")), tmp_path, is_process=False)
    assert spec.volumes[0].folder == str(tmp_path / "real")


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "a:b").mkdir()
    assert "isn't there" in folder_problem(tmp_path, Volume("/a", folder="./no"))
    assert "is a file" in folder_problem(tmp_path, Volume("/a", folder="./file"))
    assert "has a colon" in folder_problem(tmp_path, Volume("/a", folder="./a:b"))
    place = folder_problem(
        tmp_path, Volume(f"{tmp_path}/x".replace("/tmp/", "/usr/"), folder="."), is_process=True
    )
    assert "there is no such folder" in place


@pytest.mark.parametrize(
    ("closed", "read_only", "said"),
    [(os.W_OK, False, "isn't yours to write to"), (os.R_OK | os.X_OK, True, "is closed to you")],
)
def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: int, read_only: bool, said: str
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != closed)
    assert said in folder_problem(tmp_path, Volume("/a", folder=".", read_only=read_only))


def test_a_cluster_has_no_folder_of_this_machine() -> None:
    spec = dataclasses.replace(spec_of(Volume("/a", folder="./b")), image="busybox")
    with pytest.raises(errors.UsageError, match=r"\./b is a folder of this machine"):
        check_for_cluster(spec)
