"""ConfigMaps as volumes of pods that run as processes: what is in them, and who waits for what."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gpuyard.kube.objects import CONFIG_MAPS, EVENTS, Manifest
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.process.sandbox import BUBBLEWRAP, find_isolation
from gpuyard.local.runtime.runtimes import Runtimes
from tests.unit.local.kubelet.conftest import utc_now

from .conftest import Host

PLACE = "/tmp/config"
SHOW = f"cd {PLACE}; find . -type f | sort | xargs stat -c '%a %n'; find . -type f | sort | xargs cat"
DATA = {"data": {"a": "of a\n", "b.txt": "of b\n"}, "binaryData": {"raw": "/w8K"}}


@pytest.fixture
async def runtime() -> Runtimes:
    """Mounts need bubblewrap."""
    isolation = await find_isolation(os.environ["PATH"])
    if isolation.level != BUBBLEWRAP:
        pytest.skip(isolation.warning)
    return Runtimes(isolation, Cgroups(), utc_now)


async def _make(host: Host, **fields: Any) -> None:
    config_map = {"metadata": {"name": "c", "namespace": "default"}, **(fields or DATA)}
    await host.api.create(CONFIG_MAPS, config_map)


async def _create(host: Host, name: str, script: str = SHOW, **source: Any) -> Manifest:
    volumes = [{"name": "v", "configMap": {"name": "c", **source}}]
    mounts = [{"name": "v", "mountPath": PLACE}]
    pod: Manifest = await host.create(
        name, "sh", "-ec", script, volumes=volumes, main={"volumeMounts": mounts}
    )
    return pod


def _containers(pod: Manifest) -> list[Manifest]:
    return list(pod["status"].get("containerStatuses") or ())


async def _told(host: Host) -> list[str]:
    """What events of failed mounts say, once there is one."""
    events = await host.events("FailedMount")
    assert {event["type"] for event in events} == {"Warning"}
    return [event["message"] for event in events]


async def test_files_by_key(host: Host) -> None:
    await _make(host)
    async with host.running():
        await _create(host, "a", SHOW.replace("xargs cat", "xargs od -An -c"))
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        said = (await host.log("a")).split("\n")
        assert said[:3] == ["644 ./a", "644 ./b.txt", "644 ./raw"]
        assert "377 017" in said[-2]


async def test_chosen_keys_modes_and_folders(host: Host) -> None:
    await _make(host)
    items = [{"key": "a", "path": "x/y/z", "mode": 0o500}, {"key": "b.txt", "path": "b"}]
    async with host.running():
        await _create(host, "a", f"{SHOW}; stat -c %a x x/y", items=items, defaultMode=0o444)
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        assert (await host.log("a")).split("\n") == [
            "444 ./b",
            "500 ./x/y/z",
            "of b",
            "of a",
            "755",
            "755",
            "",
        ]


async def test_nobody_writes_there(host: Host) -> None:
    await _make(host)
    async with host.running():
        pod = await _create(host, "a", f"echo x > {PLACE}/a")
        assert (await host.finished("a"))["status"]["phase"] == "Failed"
        assert "Read-only file system" in await host.log("a")
        assert not (host.folder(pod) / "volumes.d").exists()


async def test_what_keeps_a_volume_from_being_written_is_in_the_status(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk there may be no room for an event."""
    await _make(host)

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    async with host.running():
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            await _create(host, "a")
            await host.until("a", lambda p: any("No space left" in str(c["state"]) for c in _containers(p)))
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"


async def test_a_pod_waits_for_its_config_map_and_says_so(host: Host) -> None:
    async with host.running():
        await _create(host, "a")
        assert await _told(host) == ['MountVolume.SetUp failed for volume "v" : configmap "c" not found']
        state = {"waiting": {"reason": "ContainerCreating"}}
        pod = await host.until("a", lambda p: any(c["state"] == state for c in _containers(p)))
        assert pod["status"]["phase"] == "Pending"
        await _make(host)
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"


async def test_a_key_that_is_not_there(host: Host) -> None:
    await _make(host)
    async with host.running():
        await _create(host, "a", items=[{"key": "no", "path": "no"}])
        message = 'MountVolume.SetUp failed for volume "v" : configmap references non-existent config key: no'
        assert await _told(host) == [message]
        await host.api.delete(CONFIG_MAPS, "c", "default")
        await _make(host, data={"no": "now\n"})
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        assert (await host.log("a")).endswith("now\n")


async def test_paths_that_exclude_one_another(host: Host) -> None:
    await _make(host)
    async with host.running():
        await _create(host, "a", items=[{"key": "a", "path": "x"}, {"key": "a", "path": "x/y"}])
        [message] = await _told(host)
        assert message.startswith("can't write volume v (")


@pytest.mark.parametrize("there", [False, True])
async def test_what_is_optional_may_be_missing(host: Host, there: bool) -> None:
    if there:
        await _make(host)
    async with host.running():
        items = [{"key": "a", "path": "a"}, {"key": "no", "path": "no"}]
        await _create(host, "a", f"ls {PLACE}", items=items, optional=True)
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        assert await host.log("a") == ("a\n" if there else "")


async def test_it_stays_as_it_was_at_the_start(host: Host) -> None:
    await _make(host)
    script = f"cat {PLACE}/a; test -e /tmp/kept/again && exit 0; touch /tmp/kept/again; exit 1"
    mounts = [{"name": "v", "mountPath": PLACE}, {"name": "kept", "mountPath": "/tmp/kept"}]
    volumes = [{"name": "v", "configMap": {"name": "c"}}, {"name": "kept", "emptyDir": {}}]
    async with host.running():
        await host.create(
            "a", "sh", "-c", script, main={"volumeMounts": mounts}, volumes=volumes, restartPolicy="OnFailure"
        )
        await host.says("a", "of a")
        await host.api.delete(CONFIG_MAPS, "c", "default")
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        assert await host.log("a", previous=True) == await host.log("a") == "of a\n"


async def test_a_group_of_the_pod_s_can_read_it(host: Host) -> None:
    await _make(host)
    async with host.running():
        volumes = [{"name": "v", "configMap": {"name": "c", "defaultMode": 0o400}}]
        mounts = [{"name": "v", "mountPath": PLACE}]
        for name, context in (("a", {}), ("b", {"fsGroup": 1000})):
            await host.create(
                name, "sh", "-c", f"stat -c %a {PLACE}/a",
                volumes=volumes, main={"volumeMounts": mounts}, securityContext=context,
            )  # fmt: skip
            await host.finished(name)
        assert (await host.log("a"), await host.log("b")) == ("400\n", "444\n")


async def test_an_earlier_kubelet_s_volumes_stay(host: Host) -> None:
    await _make(host)
    async with host.running():
        await _create(host, "a", f"echo up; until cat {PLACE}/a >/tmp/seen; do :; done; cat; cat {PLACE}/a")
        await host.says("a", "up")
    await host.api.delete(CONFIG_MAPS, "c", "default")
    async with host.running():
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        assert await host.log("a") == "up\nof a\n"
        assert json.dumps((await host.api.list(EVENTS)).items).count("FailedMount") == 0
