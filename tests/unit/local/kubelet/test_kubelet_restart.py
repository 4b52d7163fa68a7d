"""The kubelet goes away, by cancellation or kill -9, and another one takes over."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.kube.objects import PODS, Manifest
from gpuyard.kube.wellknown import IMAGE_PROCESS
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.pod_logs import PodLogOptions
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.store import Store
from tests.waiting import until_async

from .conftest import Host

_WAIT = "echo before; while [ ! -e go ]; do sleep 0.01; done; echo after; exit 7"


def _is_running(pod: Manifest) -> bool:
    return bool(pod["status"].get("phase") == "Running")


def _code(pod: Manifest) -> int:
    code: int = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
    return code


def _states(pod: Manifest) -> dict[str, Any]:
    return {one["name"]: one["state"] for one in pod["status"].get("containerStatuses", [])}


def _restarts(pod: Manifest) -> int:
    count: int = pod["status"].get("containerStatuses", [{}])[0].get("restartCount", 0)
    return count


async def test_a_pod_that_runs_across_a_restart(host: Host, folder: Path) -> None:
    async with host.running():
        await host.create("a", "sh", "-c", _WAIT, main={"workingDir": str(folder)})
        before = await host.until("a", _is_running)
    async with host.running():
        (folder / "go").touch()
        after = await host.finished("a")
        assert await host.log("a") == "before\nafter\n"
    assert (after["status"]["phase"], _code(after)) == ("Failed", 7)
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    started = before["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert after["status"]["containerStatuses"][0]["state"]["terminated"]["startedAt"] == started


async def _exit_code_of(host: Host, pod: Manifest) -> None:
    """Returns once the journal of the pod's first process has its exit code."""
    journal = host.folder(pod) / "main/0/journal"
    await until_async(journal.read_bytes, "the process ends", lambda journal: b"exit-code" in journal)


async def test_a_pod_that_ended_meanwhile(host: Host, folder: Path) -> None:
    async with host.running():
        pod = await host.create("a", "sh", "-c", _WAIT, main={"workingDir": str(folder)})
        await host.until("a", _is_running)
    (folder / "go").touch()
    await until_async(
        lambda: b"exit-code" in (host.folder(pod) / "main/0/journal").read_bytes(), "the process ends"
    )
    async with host.running():
        after = await host.finished("a")
        assert await host.log("a") == "before\nafter\n"
    assert (after["status"]["phase"], _code(after)) == ("Failed", 7)


async def test_a_pod_that_was_ended_for_its_deletion_and_told_no_more(host: Host, folder: Path) -> None:
    async with host.running():
        pod = await host.create("a", "sh", "-c", _WAIT, main={"workingDir": str(folder)})
        await host.until("a", _is_running)
    await host.api.delete(PODS, "a", "default")
    (folder / "go").touch()
    await until_async(
        lambda: b"exit-code" in (host.folder(pod) / "main/0/journal").read_bytes(), "the process ends"
    )
    # As far as the earlier kubelet came.
    await host.api.patch(PODS, "a", {"status": {"phase": "Failed"}}, "default", subresource="status")
    async with host.running():
        await host.until_gone("a")
        await host.until_removed(pod)


async def test_a_pod_whose_deletion_is_seen_after_its_end(host: Host) -> None:
    async with host.running():
        pod = await host.create("a", "true")
        await host.finished("a")
        # The API gives a pod its grace that it takes for a running one.
        await host.api.patch(PODS, "a", {"status": {"phase": "Running"}}, "default", subresource="status")
        await host.api.delete(PODS, "a", "default")
        await host.until_gone("a")
        await host.until_removed(pod)


async def test_a_finished_pod_keeps_its_log(host: Host) -> None:
    async with host.running():
        await host.create("a", "sh", "-c", "echo kept")
        before = await host.finished("a")
    async with host.running():
        await host.create("b", "true")
        await host.finished("b")
        assert await host.get("a") == before
        assert await host.log("a") == "kept\n"


async def test_a_pod_deleted_meanwhile_is_ended(host: Host) -> None:
    async with host.running():
        pod = await host.create("a", "sh", "-c", "echo up; sleep 60")
        await host.until("a", _is_running)
    await host.api.delete(PODS, "a", "default", grace_period_s=0)
    async with host.running():
        await host.until_removed(pod)
    mark = f"GPUYARD_CONTAINER={pod['metadata']['uid']}_main_0"
    assert procfs.with_environment(mark, procfs.all_processes()) == set()


async def test_a_pod_marked_for_deletion_meanwhile_gets_its_grace(host: Host, folder: Path) -> None:
    script = "trap 'echo bye >bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    async with host.running():
        pod = await host.create("a", "sh", "-c", script, main={"workingDir": str(folder)})
        await host.says("a", "up")
    await host.api.delete(PODS, "a", "default")
    async with host.running():
        await host.until_gone("a")
        await host.until_removed(pod)
    assert (folder / "bye").read_text() == "bye\n"


@pytest.mark.parametrize("code", [7, 0])
async def test_a_stop_that_was_under_way_is_still_one(host: Host, folder: Path, code: int) -> None:
    """Also one that the process took as the wish to end, and ended well."""
    script = f"({_WAIT}); exit {code}"
    async with host.running():
        pod = await host.create("a", "sh", "-c", script, main={"workingDir": str(folder)})
        await host.until("a", _is_running)
    await host.api.patch(PODS, "a", {"spec": {"activeDeadlineSeconds": 1}}, "default")
    await asyncio.sleep(1.1)  # the deadline is in whole seconds
    (folder / "go").touch()
    await until_async(
        lambda: b"exit-code" in (host.folder(pod) / "main/0/journal").read_bytes(), "the process ends"
    )
    async with host.running():
        pod = await host.finished("a")
    assert (pod["status"]["phase"], pod["status"]["reason"], _code(pod)) == (
        "Failed",
        "DeadlineExceeded",
        code,
    )


async def test_ports_stay_with_their_pods(host: Host) -> None:
    async with host.running():
        pod = await host.create("a", "sh", "-c", "echo $PET_MASTER_PORT; exec sleep 60")
        await host.says("a", "\n")
        port = int(await host.log("a"))
    async with host.running() as kubelet:
        await host.create("b", "true")
        await host.finished("b")
        assert kubelet._context.ports.take(pod["metadata"]["uid"]) == port


async def test_a_reboot(host: Host, folder: Path) -> None:
    once = "[ -e second ] || { touch second; exec sleep 60; }"
    async with host.running():
        pod = await host.create("a", "sh", "-c", "exec sleep 60")
        main = {"workingDir": str(folder)}
        await host.create("b", "sh", "-c", once, restartPolicy="OnFailure", main=main)
        await host.until("a", _is_running)
        await host.until("b", lambda _: (folder / "second").exists())
    journals = [host.folder(pod) / "main/0/journal", host.folder(await host.get("b")) / "main/0/journal"]
    for journal in journals:
        first, stat, *later = filter(None, journal.read_text().splitlines())
        os.killpg(int(json.loads(stat)["stat"].split()[0]), signal.SIGKILL)
        for line in later:
            os.kill(json.loads(line).get("child-pid"), signal.SIGKILL)
        journal.write_text(json.dumps({**json.loads(first), "boot-id": "an earlier boot"}) + f"\n{stat}\n")
    async with host.running():
        pod = await host.finished("a")
        again = await host.finished("b")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "NodeRebooted"
    assert _code(pod) == 255
    assert again["status"]["phase"] == "Succeeded"
    assert again["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "NodeRebooted"


@pytest.mark.parametrize("is_left", ["nothing", "an empty journal"])
async def test_a_container_that_was_started_once_and_is_lost(host: Host, folder: Path, is_left: str) -> None:
    """Its status says that it ran, its folder is gone: whoever asked for one start gets no second."""
    main = {"workingDir": str(folder)}
    async with host.running():
        pod = await host.create("a", "sh", "-c", "echo ran >>ran; exec sleep 60", main=main)
        before = await host.until("a", _is_running)
        await until_async((folder / "ran").exists, "the process starts")
    if is_left == "nothing":
        shutil.rmtree(host.folder(pod))
    else:
        (host.folder(pod) / "main/0/journal").write_bytes(b"")
    async with host.running():
        pod = await host.finished("a")
    assert (folder / "ran").read_text() == "ran\n"
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (pod["status"]["phase"], ended["exitCode"]) == ("Failed", 137)
    assert ended["reason"] == "ContainerStatusUnknown"
    started = before["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert ended["startedAt"] == started
    mark = f"GPUYARD_CONTAINER={pod['metadata']['uid']}_main_0"
    assert procfs.with_environment(mark, procfs.all_processes()) == set()


async def test_a_container_that_had_ended_and_is_lost(host: Host) -> None:
    second = {"name": "second", "image": IMAGE_PROCESS, "command": ["sleep", "60"]}
    async with host.running():
        first = {"name": "main", "image": IMAGE_PROCESS, "command": ["sh", "-c", "exit 3"]}
        pod = await host.create("b", containers=[first, second])
        before = await host.until("b", lambda p: "terminated" in _states(p).get("main", {}))
    shutil.rmtree(host.folder(pod))
    async with host.running():
        pod = await host.finished("b")
    assert _states(pod)["main"] == _states(before)["main"]
    assert _states(pod)["second"]["terminated"]["reason"] == "ContainerStatusUnknown"


async def test_a_lost_container_that_may_be_restarted_is(host: Host, folder: Path) -> None:
    once = "[ -e ran ] || { touch ran; exec sleep 60; }"
    main = {"workingDir": str(folder)}
    async with host.running():
        pod = await host.create("a", "sh", "-c", once, restartPolicy="OnFailure", main=main)
        await host.until("a", lambda p: _is_running(p) and (folder / "ran").exists())
    shutil.rmtree(host.folder(pod))
    async with host.running():
        pod = await host.finished("a")
    status = pod["status"]["containerStatuses"][0]
    assert (pod["status"]["phase"], status["restartCount"]) == ("Succeeded", 1)
    assert status["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


async def test_restart_counts_go_on(host: Host, folder: Path) -> None:
    async with host.running():
        await host.create(
            "a", "sh", "-c", "[ -e ok ]", restartPolicy="OnFailure", main={"workingDir": str(folder)}
        )
        await host.until(
            "a", lambda p: p["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 2
        )
    (folder / "ok").touch()
    async with host.running():
        pod = await host.finished("a")
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 2  # it may have ended well at once
    assert pod["status"]["phase"] == "Succeeded"


async def test_folders_of_pods_that_are_gone_are_removed(host: Host) -> None:
    stale = host.paths.pods_dir / "00000000-0000-0000-0000-000000000000"
    (stale / "main/0").mkdir(parents=True)
    (stale / "main/0/log").write_text("old")
    (stale / "volumes.d/data").mkdir(parents=True)
    async with host.running():
        await host.create("a", "true")
        await host.finished("a")
        await host.until_removed({"metadata": {"uid": stale.name}})


async def test_a_follower_ends_with_the_container(host: Host, folder: Path) -> None:
    async with host.running():
        assert host.machine is not None
        await host.create("a", "sh", "-c", _WAIT, main={"workingDir": str(folder)})
        pod = await host.until("a", _is_running)
        pieces = (await host.machine.logs.open_log(pod, "main", PodLogOptions(follow=True))).pieces
        assert await anext(pieces) == b"before\n"
        (folder / "go").touch()
        assert [piece async for piece in pieces] == [b"after\n"]


async def test_a_follower_that_leaves_early(host: Host) -> None:
    async with host.running():
        assert host.machine is not None
        await host.create("a", "sh", "-c", "echo up; exec sleep 60")
        await host.says("a", "up")
        pieces = (
            await host.machine.logs.open_log(await host.get("a"), "main", PodLogOptions(follow=True))
        ).pieces
        assert await anext(pieces) == b"up\n"
        descriptors = len(os.listdir("/proc/self/fd"))
        await pieces.aclose()
        assert len(os.listdir("/proc/self/fd")) == descriptors - 1


async def test_no_previous_run(host: Host) -> None:
    async with host.running():
        await host.create("a", "true")
        await host.finished("a")
        with pytest.raises(errors.BadRequest, match="previous terminated container"):
            await host.log("a", previous=True)


async def test_logs_are_bounded(host: Host, folder: Path) -> None:
    """1 MiB in lines of 64 bytes, of which 128 KiB stay; what stays is whole lines without a gap."""
    script = "i=0; while [ $i -lt 16384 ]; do printf '%063d\\n' $i; i=$((i+1)); done; echo done >&2"
    old = host.runtime
    host.runtime = Runtimes(old.process.isolation, old.cgroups, host.api.clock, log_keep_bytes=128 << 10)
    async with host.running():
        pod = await host.create("a", "sh", "-c", script, main={"workingDir": str(folder)})
        await host.finished("a")
        log = host.folder(pod) / "main/0/log"
        assert log.stat().st_blocks * 512 <= 200 << 10
        lines = (await host.log("a")).splitlines()
        assert (await host.log("a", tail_lines=2)).splitlines() == lines[-2:]
    assert lines.pop() == "done"
    numbers = [int(line) for line in lines]
    assert numbers == list(range(numbers[0], 16384))
    assert 1024 <= len(numbers) < 8192
    assert log.stat().st_size == 16384 * 64 + 5


#: A yard in small: an API and a kubelet that runs pods until it is killed.
_YARD = """
import asyncio, json, sys
from datetime import UTC, datetime
from pathlib import Path
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import PODS
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.kubelet import Kubelet
from gpuyard.local.kubelet.machine import Machine
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.process.sandbox import Isolation
from gpuyard.local.store import Store

def now():
    return datetime.now(UTC)

async def main():
    folder, isolation, names = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    paths = YardPaths(folder / "data", folder / "run")
    store = await Store.open(paths.database)
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    devices = DeviceManager(paths.device_plugins_dir, paths.device_checkpoint, now)
    await devices.start()
    informer = Informer(api, PODS)
    runtime = Runtimes(Isolation(**isolation), Cgroups(), now)
    kubelet = Kubelet(api, Machine(paths, runtime, now, ["here"]), "here", devices, pods=informer)
    async with asyncio.TaskGroup() as group:
        group.create_task(informer.run())
        group.create_task(kubelet.run())
        for name in names:
            container = {"name": "main", "image": "gpuyard.io/host-process", "workingDir": str(folder),
                         "command": ["sh", "-c", f"echo ran >>{name}.ran; sleep 0.05"]}
            spec = {"runtimeClassName": "gpuyard-process", "nodeName": "here", "restartPolicy": "Never",
                    "containers": [container]}
            await api.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
            print(name, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", range(4))
async def test_kill_9_of_the_daemon_runs_nothing_twice(folder: Path, runtime: Runtimes, seed: int) -> None:
    names = [f"p{number}" for number in range(12)]
    rng = random.Random(seed)
    paths = YardPaths(folder / "data", folder / "run")
    paths.make_folders()
    argv = [sys.executable, "-c", _YARD, str(folder), json.dumps(vars(runtime.process.isolation)), *names]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as yard:
        assert yard.stdout is not None
        for _ in range(rng.randrange(1, len(names))):
            assert yard.stdout.readline()
        await asyncio.sleep(rng.random() * 0.05)
        yard.kill()
    store = await Store.open(paths.database)
    try:
        api = ObjectApi(store, yard_kinds())
        created = [pod["metadata"]["name"] for pod in (await api.list(PODS)).items]
        host = Host(api, paths, runtime)
        async with host.running():
            pods = [await host.finished(name) for name in created]
    finally:
        await store.close()
    assert created
    assert [pod["status"]["phase"] for pod in pods] == ["Succeeded"] * len(created)
    assert [(folder / f"{name}.ran").read_text() for name in created] == ["ran\n"] * len(created)
