from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import CONFIG_MAPS, PODS, SECRETS, Manifest, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_DEVICES, ANNOTATION_ISOLATION, IMAGE_PROCESS
from gpuyard.local.kubelet.back_off import BackOff
from gpuyard.local.kubelet.pods import plan as plans
from gpuyard.local.kubelet.pods import worker
from gpuyard.local.kubelet.pods.writer import PodWriter
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import ContainerSpec

from .conftest import Host
from .devices.conftest import OtherPlugin

_SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
_FOREVER = ("sh", "-c", "echo up; exec sleep 60")


def _state(pod: Manifest, index: int = 0, field: str = "containerStatuses") -> dict[str, Any]:
    status: dict[str, Any] = pod["status"][field][index]
    return status


def _is_running(pod: Manifest) -> bool:
    return bool(pod["status"].get("phase") == "Running")


async def test_a_pod_that_succeeds(host: Host) -> None:
    async with host.running():
        await host.create("a", "sh", "-c", "echo hello")
        pod = await host.finished("a")
        assert await host.log("a") == "hello\n"
    status, main = pod["status"], _state(pod)
    assert (status["phase"], status["podIP"], status.get("reason")) == ("Succeeded", "127.0.0.1", None)
    assert main["restartCount"] == 0
    assert not main["ready"]
    terminated = main["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (0, "Completed")
    assert status["startTime"] <= terminated["startedAt"] <= terminated["finishedAt"]
    ready, initialized = find_condition(pod, "Ready"), find_condition(pod, "Initialized")
    assert ready is not None
    assert initialized is not None
    assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
    assert (initialized["status"], initialized["reason"]) == ("True", "PodCompleted")
    assert annotations_of(pod)["gpuyard.io/isolation"] == host.runtime.process.isolation.level


async def test_a_pod_while_it_runs(host: Host) -> None:
    async with host.running():
        await host.create("a", *_FOREVER)
        pod = await host.until("a", _is_running)
        main = _state(pod)
        assert main["ready"]
        assert main["started"]
        assert "startedAt" in main["state"]["running"]
        for condition in (
            "Ready",
            "ContainersReady",
            "Initialized",
            "PodScheduled",
            "PodReadyToStartContainers",
        ):
            found = find_condition(pod, condition)
            assert found is not None
            assert found["status"] == "True", condition
        assert await host.messages("Started") == ["Started container main"]


@pytest.mark.parametrize(
    ("command", "code", "reason", "text"),
    [
        (["sh", "-c", "exit 3"], 3, "Error", ""),
        (["sh", "-c", "kill -9 $$$$"], 137, "Error", ""),
        (["no-such-program"], 127, "StartError", "no-such-program: no such program"),
        ([], 127, "StartError", "container main has no command"),
    ],
)
async def test_a_pod_that_fails(host: Host, command: list[str], code: int, reason: str, text: str) -> None:
    async with host.running():
        await host.create("a", *command)
        pod = await host.finished("a")
        terminated = _state(pod)["state"]["terminated"]
        assert (pod["status"]["phase"], terminated["exitCode"], terminated["reason"]) == (
            "Failed",
            code,
            reason,
        )
        assert text in terminated.get("message", "")
        if command == []:
            with pytest.raises(errors.BadRequest, match="couldn't be started: container main has no command"):
                await host.log("a")
        elif text:
            assert await host.log("a") == ""
        if text:
            assert any(text in message for message in await host.messages("Failed"))


async def test_a_sandbox_that_met_a_vanishing_mount_is_made_again(host: Host, tmp_path: Path) -> None:
    isolation = host.runtime.process.isolation
    if isolation.level == "none":
        pytest.skip(isolation.warning)
    said = "Can't bind mount /oldroot/ on /newroot/: Unable to apply mount flags: remount"
    clumsy = tmp_path / "bwrap"
    clumsy.write_text(
        f"""#!/bin/sh
        if mkdir {tmp_path}/once 2>/dev/null; then
            echo "bwrap: {said} \\"/newroot/gone\\": No such file or directory" >&2
            exit 1
        fi
        exec {isolation.program} "$@"
        """
    )
    clumsy.chmod(0o755)
    host.runtime.process.isolation = replace(isolation, program=str(clumsy))
    async with host.running():
        await host.create("a", "echo", "here")
        pod = await host.finished("a")
        assert (tmp_path / "once").is_dir()
        assert pod["status"]["phase"] == "Succeeded"
        assert await host.log("a") == "here\n"


async def test_a_missing_workdir_names_it(host: Host) -> None:
    async with host.running():
        await host.create("a", "true", main={"workingDir": "/no/such/folder"})
        terminated = _state(await host.finished("a"))["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (128, "StartError")
    assert "/no/such/folder isn't there" in terminated["message"]


async def test_environment(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "1")
    await host.api.create(
        CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "default"}, "data": {"LR": "0.1", "SEED": "1"}}
    )
    await host.api.create(
        SECRETS, {"metadata": {"name": "s", "namespace": "default"}, "data": {"token": "czNjcmV0"}}
    )
    env = [
        {"name": "SEED", "value": "2"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "TEXT", "value": "$(POD)-$(LR)-$$(POD)-$(NOBODY)"},
        {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
        {"name": "CUDA_VISIBLE_DEVICES", "value": "0,1"},
    ]
    main = {"env": env, "envFrom": [{"configMapRef": {"name": "c"}}], "resources": {"limits": {"cpu": "1"}}}
    async with host.running():
        await host.create("a", "/usr/bin/python3", "-c", _SHOW_ENVIRONMENT, main=main)
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        found = json.loads(await host.log("a"))
    assert int(found["PET_MASTER_PORT"]) > 1024
    assert {name: found[name] for name in ("LR", "SEED", "TOKEN", "POD", "CPUS", "TEXT")} == {
        "LR": "0.1",
        "SEED": "2",
        "TOKEN": "s3cret",
        "POD": "a",
        "CPUS": "1",
        "TEXT": "a-0.1-$(POD)-$(NOBODY)",
    }
    assert (found["NVIDIA_VISIBLE_DEVICES"], found["CUDA_VISIBLE_DEVICES"]) == ("void", "")
    assert "SECRET_OF_THE_DAEMON" not in found
    assert {"PATH", "HOME"} <= found.keys()


async def test_a_config_map_that_comes_later(host: Host) -> None:
    async with host.running():
        await host.create("a", "sh", "-c", "echo $X", main={"envFrom": [{"configMapRef": {"name": "late"}}]})
        pod = await host.until("a", lambda p: "containerStatuses" in p["status"])
        waiting = _state(pod)["state"]["waiting"]
        assert waiting["reason"] == "CreateContainerConfigError"
        assert 'configmap "late" not found' in waiting["message"]
        assert pod["status"]["phase"] == "Pending"
        late = {"metadata": {"name": "late", "namespace": "default"}, "data": {"X": "here"}}
        await host.api.create(CONFIG_MAPS, late)
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        assert await host.log("a") == "here\n"
        assert len(await host.messages("Failed")) == 1


async def test_a_folder_that_cannot_be_written_for_now(host: Host) -> None:
    pod = await host.create("a", "sh", "-c", "echo fine")
    in_the_way = host.folder(pod) / "main"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("")
    async with host.running():
        pod = await host.until("a", lambda p: "containerStatuses" in p["status"])
        waiting = _state(pod)["state"]["waiting"]
        assert waiting["reason"] == "CreateContainerError"
        assert f"can't make the folder {in_the_way}/0" in waiting["message"]
        in_the_way.unlink()
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        assert await host.log("a") == "fine\n"


async def test_devices_that_cannot_be_written_down_for_now(host: Host) -> None:
    """As on a full disk: the pod waits and says so, and goes on by itself."""
    plugin = OtherPlugin(host.paths.device_plugins_dir, "test.com/dev", {"d": True}, "other.sock")
    in_the_way = host.paths.device_checkpoint
    async with host.running():
        in_the_way.mkdir()
        await plugin.serve()
        try:
            await plugin.register()
            await host.until_devices("test.com/dev", 1)
            await host.create("a", "true", main={"resources": {"limits": {"test.com/dev": "1"}}})
            pod = await host.until("a", lambda p: "containerStatuses" in p["status"])
            waiting = _state(pod)["state"]["waiting"]
            assert waiting["reason"] == "CreateContainerError"
            assert f"can't write the device checkpoint {host.paths.device_checkpoint}" in waiting["message"]
            in_the_way.rmdir()
            pod = await host.finished("a")
        finally:
            await plugin.stop()
    # What the plugin asks for isn't there: it got as far as its start.
    assert "terminated" in _state(pod)["state"]
    assert annotations_of(pod)[ANNOTATION_DEVICES] == "d"


async def test_ports_of_pods_that_run_differ(host: Host) -> None:
    async with host.running():
        for number in range(5):
            await host.create(f"p{number}", "sh", "-c", "echo $PET_MASTER_PORT; exec sleep 60")
        ports = set()
        for number in range(5):
            await host.until(f"p{number}", _is_running)
            ports.add((host.folder(await host.get(f"p{number}")) / "pod.json").read_text())
        assert len({json.loads(text)["master_port"] for text in ports}) == 5
        await host.create(
            "own",
            "sh",
            "-c",
            "echo $PET_MASTER_PORT",
            main={"env": [{"name": "PET_MASTER_PORT", "value": "7"}]},
        )
        await host.finished("own")
        assert await host.log("own") == "7\n"


async def test_init_containers_run_first_and_in_order(host: Host, folder: Path) -> None:
    init = [
        {
            "name": name,
            "image": "gpuyard.io/host-process",
            "command": ["sh", "-c", f"echo {name} >>order"],
            "workingDir": str(folder),
        }
        for name in ("first", "second")
    ]
    async with host.running():
        await host.create("a", "sh", "-c", "cat order", initContainers=init, main={"workingDir": str(folder)})
        pod = await host.finished("a")
        assert await host.log("a") == "first\nsecond\n"
    assert [_state(pod, i, "initContainerStatuses")["state"]["terminated"]["exitCode"] for i in (0, 1)] == [
        0,
        0,
    ]


async def test_a_failed_init_container_fails_the_pod(host: Host) -> None:
    init = [{"name": "init", "image": "gpuyard.io/host-process", "command": ["false"]}]
    async with host.running():
        await host.create("a", "true", initContainers=init)
        pod = await host.finished("a")
    assert pod["status"]["phase"] == "Failed"
    assert _state(pod)["state"]["waiting"]["reason"] == "PodInitializing"
    initialized = find_condition(pod, "Initialized")
    assert initialized is not None
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")


async def test_several_containers(host: Host) -> None:
    other = {"name": "other", "image": "gpuyard.io/host-process", "command": ["sh", "-c", "echo two; exit 4"]}
    main = {"name": "main", "image": "gpuyard.io/host-process", "command": ["sh", "-c", "echo one"]}
    async with host.running():
        await host.create("a", containers=[main, other])
        pod = await host.finished("a")
        assert (await host.log("a"), await host.log("a", "other")) == ("one\n", "two\n")
    assert pod["status"]["phase"] == "Failed"
    assert [_state(pod, i)["state"]["terminated"]["exitCode"] for i in (0, 1)] == [0, 4]


async def test_restart_on_failure(host: Host, folder: Path) -> None:
    script = "echo try >>tries; n=$(wc -l <tries); echo try $n; [ $n = 4 ]"
    async with host.running():
        created = await host.create(
            "a", "sh", "-c", script, restartPolicy="OnFailure", main={"workingDir": str(folder)}
        )
        pod = await host.passes(
            created, lambda p: "waiting" in p["status"].get("containerStatuses", [{"state": {}}])[0]["state"]
        )
        waiting = _state(pod)["state"]["waiting"]
        assert waiting["reason"] == "CrashLoopBackOff"
        assert "restarting failed container=main" in waiting["message"]
        assert _state(pod)["lastState"]["terminated"]["exitCode"] == 1
        pod = await host.finished("a")
        assert await host.log("a") == "try 4\n"
        assert await host.log("a", previous=True) == "try 3\n"
        assert await host.messages("BackOff") == ["Back-off restarting failed container main"]
    main = _state(pod)
    assert (pod["status"]["phase"], main["restartCount"]) == ("Succeeded", 3)
    assert main["lastState"]["terminated"]["exitCode"] == 1
    assert sorted(p.name for p in (host.folder(pod) / "main").iterdir()) == ["2", "3"]


@pytest.mark.parametrize("days", [1, -1])
async def test_a_clock_that_is_set_neither_holds_nor_hurries_restarts(host: Host, days: int) -> None:
    """The files have the times of another day than the kubelet's clock."""
    host.clock = lambda: datetime.now(UTC) + timedelta(days=days)

    def waits(pod: Manifest, restarts: int) -> bool:
        main = pod["status"].get("containerStatuses", [{"state": {}}])[0]
        return "waiting" in main["state"] and main["restartCount"] >= restarts

    async with host.running():
        created = await host.create("a", "false", restartPolicy="OnFailure")
        pod = await host.passes(created, lambda pod: waits(pod, 1))
        assert _state(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        await host.passes(created, lambda pod: waits(pod, 3))
        await host.api.delete(PODS, "a", "default")
        await host.until_gone("a")


async def test_restart_always_also_after_success(host: Host) -> None:
    async with host.running():
        await host.create("a", "true", restartPolicy="Always")
        pod = await host.until(
            "a", lambda p: p["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 2
        )
        assert pod["status"]["phase"] == "Running"
        await host.api.delete(PODS, "a", "default")
        await host.until_gone("a")


async def test_deadline(host: Host) -> None:
    """As `gpuyard stop` ends a run: what is left of the deadline is nothing, the grace is the pod's."""
    async with host.running():
        await host.create(
            "a", "sh", "-c", "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.01; done"
        )
        await host.says("a", "up")
        await host.api.patch(PODS, "a", {"spec": {"activeDeadlineSeconds": 1}}, "default")
        pod = await host.finished("a")
        assert await host.log("a") == "up\nsaved\n"
        assert await host.messages("Killing") == ["Stopping container main"]
    status = pod["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert "longer than the specified deadline" in status["message"]
    assert _state(pod)["state"]["terminated"]["exitCode"] == 0


async def test_a_clock_that_is_set_is_no_deadline(host: Host, folder: Path) -> None:
    ahead = timedelta()
    host.clock = lambda: datetime.now(UTC) + ahead
    containers = [
        {
            "name": name,
            "image": IMAGE_PROCESS,
            "command": ["sh", "-c", f"while [ ! -e {name} ]; do sleep 0.01; done"],
            "workingDir": str(folder),
        }
        for name in ("main", "other")
    ]
    async with host.running():
        await host.create("a", containers=containers, activeDeadlineSeconds=3600)
        await host.until("a", _is_running)
        ahead = timedelta(days=1)
        (folder / "other").touch()
        # The kubelet has looked at the pod since.
        await host.until("a", lambda pod: "terminated" in _state(pod, 1)["state"])
        (folder / "main").touch()
        pod = await host.finished("a")
    assert pod["status"]["phase"] == "Succeeded"


async def test_deletion_gives_the_grace_and_removes_everything(host: Host, folder: Path) -> None:
    script = "trap 'echo bye >bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    async with host.running():
        pod = await host.create("a", "sh", "-c", script, main={"workingDir": str(folder)})
        await host.says("a", "up")
        assert host.folder(pod).exists()
        await host.api.delete(PODS, "a", "default")
        await host.until_gone("a")
        assert (folder / "bye").read_text() == "bye\n"
        await host.until_removed(pod)


async def test_deletion_with_a_finalizer_shows_the_end(host: Host) -> None:
    async with host.running():
        await host.create("a", *_FOREVER, metadata={"finalizers": ["example.com/hold"]})
        await host.until("a", _is_running)
        await host.api.delete(PODS, "a", "default")
        pod = await host.finished("a")
        assert _state(pod)["state"]["terminated"]["exitCode"] == 143
        assert pod["status"]["phase"] == "Failed"
        await host.api.patch(PODS, "a", {"metadata": {"finalizers": None}}, "default")
        await host.until_gone("a")
        await host.until_removed(pod)


async def test_forced_deletion(host: Host, folder: Path) -> None:
    script = "trap 'echo bye >bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    async with host.running():
        pod = await host.create("a", "sh", "-c", script, main={"workingDir": str(folder)})
        await host.says("a", "up")
        await host.api.delete(PODS, "a", "default", grace_period_s=0)
        await host.until_gone("a")
        await host.until_removed(pod)
        assert (folder / "bye").exists()


async def test_the_same_name_again(host: Host) -> None:
    async with host.running():
        first = await host.create("a", *_FOREVER)
        await host.until("a", _is_running)
        await host.api.delete(PODS, "a", "default", grace_period_s=0)
        await host.create("a", "sh", "-c", "echo second")
        await host.finished("a")
        assert await host.log("a") == "second\n"
        await host.until_removed(first)


async def test_more_than_the_node_has(host: Host) -> None:
    async with host.running():
        await host.create("a", "true", main={"resources": {"requests": {"cpu": "1000"}}})
        pod = await host.finished("a")
        assert len(await host.messages("OutOfcpu")) == 1
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "OutOfcpu")
    assert pod["status"]["message"].startswith(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: 0, capacity: "
    )


async def test_devices_that_nobody_serves(host: Host) -> None:
    async with host.running():
        limits = {"nvidia.com/gpu": "1"}
        await host.create("a", "true", main={"resources": {"limits": limits, "requests": limits}})
        pod = await host.finished("a")
    assert pod["status"]["reason"] == "UnexpectedAdmissionError"
    assert "Allocate failed due to no device plugin serves nvidia.com/gpu" in pod["status"]["message"]


async def test_pods_of_other_nodes_are_left_alone(host: Host) -> None:
    async with host.running():
        await host.create("theirs", "true", nodeName="elsewhere")
        await host.create("mine", "true")
        await host.finished("mine")
        assert (await host.get("theirs"))["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


async def test_security_context_is_listed(host: Host) -> None:
    main = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    async with host.running():
        await host.create("a", "true", main=main, securityContext={"runAsNonRoot": True})
        pod = await host.finished("a")
    fields = annotations_of(pod)["gpuyard.io/not-applied"].split(",")
    assert {"spec.securityContext.runAsNonRoot", "spec.containers[0].securityContext.capabilities"} <= set(
        fields
    )
    escalation = "spec.containers[0].securityContext.allowPrivilegeEscalation" in fields
    assert escalation is (host.runtime.process.isolation.level == "none")


async def test_volumes(host: Host) -> None:
    volumes = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    shm = {"name": "shm", "mountPath": "/dev/shm"}
    scratch = {"name": "scratch", "mountPath": "/tmp/scratch"}
    script = "df -B1 --output=size /dev/shm | tail -1; echo x >/tmp/scratch/x; ls /tmp/scratch"
    async with host.running():
        await host.create("a", "sh", "-c", "echo fine", volumes=volumes, main={"volumeMounts": [shm]})
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        await host.create("b", "sh", "-c", script, volumes=volumes, main={"volumeMounts": [shm, scratch]})
        pod = await host.finished("b")
        if host.runtime.process.isolation.level == "none":
            message = _state(pod)["state"]["terminated"]["message"]
            assert "volume scratch can't be mounted at /tmp/scratch: this host has no isolation" in message
        else:
            assert (await host.log("b")).split() == [str(16 << 20), "x"]
            assert not (host.folder(pod) / "volumes.d").exists()


async def test_many_pods_at_once(host: Host) -> None:
    async with host.running():
        for number in range(40):
            await host.create(f"p{number}", "true")
        for number in range(40):
            assert (await host.finished(f"p{number}"))["status"]["phase"] == "Succeeded"


class ClumsyRuntime(Runtimes):
    """Has a bug that shows at its first start of a container."""

    starts = 0

    async def start(self, folder: Path, spec: ContainerSpec) -> Container:
        self.starts += 1
        if self.starts == 1:
            raise KeyError("oops")
        return await super().start(folder, spec)


async def test_a_bug_is_logged_and_the_pod_taken_on_anew(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.runtime = ClumsyRuntime(
        host.runtime.process.isolation, host.runtime.cgroups, lambda: datetime.now(UTC)
    )
    async with host.running():
        await host.create("a", "sh", "-c", "echo there")
        assert (await host.finished("a"))["status"]["phase"] == "Succeeded"
        assert await host.log("a") == "there\n"
    (bug,) = [record for record in caplog.records if record.exc_info]
    assert bug.getMessage().startswith("kubelet: pods default/a: set aside")


async def test_a_pod_removed_by_force_while_its_worker_is_replaced_loses_its_processes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    tripped = asyncio.Event()
    trip = [ValueError("a bug")]
    plan = plans.plan

    def fails(observed: Any, **facts: Any) -> Any:
        if trip and observed[0].running:
            tripped.set()
            raise trip.pop()
        return plan(observed, **facts)

    monkeypatch.setattr(worker, "plan", fails)
    async with host.running(back_off=BackOff(obstacle_s=0.5)):
        pod = await host.create("a", *_FOREVER)
        await asyncio.wait_for(tripped.wait(), 60)
        await host.api.delete(PODS, "a", "default", grace_period_s=0)
        await host.until_removed(pod)


async def test_what_a_pod_got_is_written_though_the_first_try_fails(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate, refusals = PodWriter.annotate, [errors.StorageFull("the disk is full")]

    async def refuse(self: PodWriter, *arguments: Any) -> None:
        if refusals:
            raise refusals.pop()
        await annotate(self, *arguments)

    monkeypatch.setattr(PodWriter, "annotate", refuse)
    async with host.running():
        await host.create("a", "true")
        pod = await host.finished("a")
    assert not refusals
    assert ANNOTATION_ISOLATION in pod["metadata"]["annotations"]


async def test_time_in_a_suspend_counts_for_a_deadline_before_and_after_a_restart(host: Host) -> None:
    slept_s = 0.0
    host.clock = lambda: datetime.now(UTC) + timedelta(seconds=slept_s)

    def seconds() -> float:
        return seconds_since_boot() + slept_s

    async with host.running(seconds=seconds) as kubelet:
        await host.create("a", *_FOREVER, activeDeadlineSeconds=3600)
        await host.create("b", *_FOREVER, activeDeadlineSeconds=7200)
        await host.until("a", _is_running)
        await host.until("b", _is_running)
        slept_s = 3600.0
        # No timer of the loop is due by then.
        kubelet.wake()
        assert (await host.finished("a"))["status"]["reason"] == "DeadlineExceeded"
        assert _is_running(await host.get("b"))
    async with host.running(seconds=seconds) as kubelet:
        slept_s = 7200.0
        kubelet.wake()
        assert (await host.finished("b"))["status"]["reason"] == "DeadlineExceeded"
