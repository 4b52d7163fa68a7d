"""With the kernel's own cgroups, of version 1: with version 2 it kills a container as a whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuyard.kube.objects import Manifest
from gpuyard.local.kubelet.pods import worker
from gpuyard.local.kubelet.pods.worker import PodWorker
from gpuyard.local.runtime.cgroups import Cgroups, find_cgroups
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.workloads.memory_kills import OomCause, oom_cause, oom_kills
from tests.waiting import until_async

from ..conftest import Host, utc_now

_SCRIPT = """if True:
    import os, pathlib, time
    def wait(name):
        while not os.path.exists(name):
            time.sleep(0.01)
    def lose():
        child = os.fork()
        if not child:
            b"x" * (400 << 20)
        os.waitpid(child, 0)
"""


@pytest.fixture
async def cgroups(host: Host, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cgroups]:
    """Of the host's runtime."""
    found = await asyncio.to_thread(find_cgroups, f"gpuyard-test-{os.getpid()}")
    if found.memory is None or found.cpu == found.memory:
        found.remove_all()
        pytest.skip("no cgroups of version 1 can be made here")
    monkeypatch.setattr(worker, "_OOM_LOOK_S", 0.02)
    host.runtime = Runtimes(host.runtime.process.isolation, found, utc_now)
    yield found
    found.remove_all()


async def _create(host: Host, folder: Path, script: str, policy: str = "Never") -> None:
    main = {"workingDir": str(folder), "resources": {"limits": {"memory": "64Mi"}}}
    await host.create("a", "/usr/bin/python3", "-c", _SCRIPT + script, main=main, restartPolicy=policy)


def _restarts(pod: Manifest) -> int:
    return sum(one["restartCount"] for one in pod["status"].get("containerStatuses", ()))


async def test_a_pod_goes_on_without_a_process(host: Host, folder: Path, cgroups: Cgroups) -> None:
    async with host.running():
        await _create(host, folder, "    lose(); wait('end')")
        pod = await host.until("a", lambda pod: oom_kills(pod) == 1)
        assert (pod["status"]["phase"], oom_cause(pod)) == ("Running", OomCause.LIMIT)
        assert await host.messages("OOMKilling") == [
            "the kernel killed 1 of its processes for lack of memory: it reached its memory limit of 64Mi"
        ]
        (folder / "end").touch()
        pod = await host.finished("a")
    assert (pod["status"]["phase"], oom_kills(pod)) == ("Succeeded", 1)


async def test_the_memory_outside_of_its_limit(host: Host, folder: Path, cgroups: Cgroups) -> None:
    assert cgroups.memory is not None
    (cgroups.memory / "memory.limit_in_bytes").write_text(str(48 << 20))
    async with host.running():
        await _create(host, folder, "    lose()")
        pod = await host.finished("a")
        assert (oom_kills(pod), oom_cause(pod)) == (1, OomCause.NODE)
        assert "; its own limit is 64Mi" in (await host.messages("OOMKilling"))[0]


async def test_kills_are_counted_across_starts_and_kubelets(
    host: Host, folder: Path, cgroups: Cgroups
) -> None:
    script = """
    if not os.path.exists("first"):
        pathlib.Path("first").touch()
        lose(); lose()
        raise SystemExit(1)
    for number in range(3):
        wait(f"lose{number}")
        lose()
        pathlib.Path(f"lost{number}").touch()
    wait("end")
    """
    async with host.running():
        await _create(host, folder, script, "OnFailure")
        await host.until("a", lambda pod: oom_kills(pod) == 2 and _restarts(pod) == 1)
    async with host.running():
        (folder / "lose0").touch()
        await host.until("a", lambda pod: oom_kills(pod) == 3)
    (folder / "lose1").touch()
    await until_async((folder / "lost1").exists, "another is lost while no kubelet looks")
    async with host.running():
        await host.until("a", lambda pod: oom_kills(pod) == 4)
        (folder / "lose2").touch()
        await until_async((folder / "lost2").exists, "the last is lost")
        (folder / "end").touch()
        assert oom_kills(await host.finished("a")) == 5


async def test_a_look_does_not_step(
    host: Host, folder: Path, cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    count = Cgroups.oom_kills

    def counted(self: Cgroups, name: str) -> int:
        nonlocal looks
        looks += 1
        return count(self, name)

    async with host.running():
        await _create(host, folder, "    wait('end')")
        await host.until("a", lambda pod: pod["status"].get("phase") == "Running")
        steps = 0
        step = PodWorker._step

        async def counted_step(self: PodWorker) -> float | None:
            nonlocal steps
            steps += 1
            return await step(self)

        monkeypatch.setattr(PodWorker, "_step", counted_step)
        monkeypatch.setattr(Cgroups, "oom_kills", counted)
        await until_async(lambda: looks > 20, "it looks and looks")
        assert steps < 5
        (folder / "end").touch()
        await host.finished("a")
