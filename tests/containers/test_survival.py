"""Containers outlive the daemon: what the next one finds."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path

from gpuyard.kube.objects import PODS, Manifest
from gpuyard.local.runtime.podman.host import Podman
from tests.containers.conftest import ImageHost, Tiny
from tests.waiting import until_async


def _end(pod: Manifest) -> tuple[int, str]:
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return ended["exitCode"], ended["reason"]


def _args(fifo_folder: str, code: int) -> list[str]:
    """Goes on when somebody makes the file `go`."""
    return [
        f"echo before; until ls {fifo_folder}/go; do sleep 0.05; done 2>/dev/null; echo after; exit {code}"
    ]


_MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
_VOLUME = [{"name": "v", "emptyDir": {}}]


async def test_is_adopted(host: ImageHost, tiny: Tiny) -> None:
    async with host.running():
        pod = await host.create_in(
            tiny.reference, "p", main={"args": _args("/v", 6), **_MOUNT}, volumes=_VOLUME
        )
        await host.says("p", "before")
        await host.until("p", lambda pod: pod["status"]["phase"] == "Running")
    async with host.running():
        (host.folder(pod) / "volumes.d/v/go").touch()
        pod = await host.finished("p")
        assert await host.log("p") == "before\n/v/go\nafter\n"
    assert _end(pod) == (6, "Error")


async def test_ended_meanwhile(host: ImageHost, tiny: Tiny, podman: Podman) -> None:
    async with host.running():
        pod = await host.create_in(
            tiny.reference, "p", main={"args": _args("/v", 7), **_MOUNT}, volumes=_VOLUME
        )
        await host.says("p", "before")
    (conmon,) = [int(path.read_text()) for path in host.folder(pod).glob("main/0/conmon.pid")]
    pidfd = os.pidfd_open(conmon)
    (host.folder(pod) / "volumes.d/v/go").touch()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    await asyncio.wait_for(ended.wait(), 60)
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    async with host.running():
        pod = await host.finished("p")
        assert await host.log("p") == "before\n/v/go\nafter\n"
    assert _end(pod) == (7, "Error")
    assert await podman.ended(f"{pod['metadata']['uid']}_main_0") is None


async def test_deleted_meanwhile(host: ImageHost, tiny: Tiny, podman: Podman) -> None:
    async with host.running():
        pod = await host.create_in(tiny.reference, "p", main={"args": ["echo up; sleep 60"]})
        await host.says("p", "up")
    await host.api.delete(PODS, "p", "default", grace_period_s=0)
    async with host.running():
        await host.until_removed(pod)
    assert await podman.ended(f"{pod['metadata']['uid']}_main_0") is None


async def test_containers_whose_folder_is_gone_are_removed(
    host: ImageHost, tiny: Tiny, podman: Podman
) -> None:
    async with host.running():
        pod = await host.create_in(tiny.reference, "p", main={"args": ["echo up; sleep 60"]})
        await host.says("p", "up")
    (init,) = [int(path.read_text()) for path in host.folder(pod).glob("main/0/init.pid")]
    await host.api.delete(PODS, "p", "default", grace_period_s=0)
    shutil.rmtree(host.folder(pod))
    async with host.running():
        await until_async(lambda: not Path(f"/proc/{init}").exists(), "its first process ends")


async def test_a_killed_conmon_is_no_success(host: ImageHost, tiny: Tiny) -> None:
    async with host.running():
        pod = await host.create_in(tiny.reference, "p", main={"args": ["echo up; sleep 60"]})
        await host.says("p", "up")
        (conmon,) = [int(path.read_text()) for path in host.folder(pod).glob("main/0/conmon.pid")]
        os.kill(conmon, signal.SIGKILL)
        pod = await host.finished("p")
    code, reason = _end(pod)
    assert code != 0
    assert reason in ("Error", "ContainerStatusUnknown")
    listed = subprocess.run(
        ["podman", "ps", "--all", "--quiet", "--filter", f"name={pod['metadata']['uid']}"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert listed.stdout == b""
