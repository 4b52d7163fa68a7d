"""Pods with images: what a container is given, how it ends, what is left of it."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from gpuyard.kube.objects import CONFIG_MAPS, PODS, Manifest, annotations_of
from gpuyard.local.runtime.podman.host import Podman
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.run_spec import load_spec
from tests.containers.conftest import ImageHost, Tiny
from tests.unit.local.kubelet.conftest import NODE
from tests.unit.workloads.flags import flags_of


def _main(pod: Manifest) -> Any:
    return pod["status"]["containerStatuses"][0]


def _containers(podman: Podman) -> list[str]:
    """Those of this test's yard that podman knows."""
    listed = subprocess.run(
        ["podman", "ps", "--all", "--quiet", "--filter", f"label=io.gpuyard.yard={podman.yard}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def _rendered(tiny: Tiny, **fields: Any) -> list[Manifest]:
    """What `gpuyard run --image` sends: the Job last."""
    overrides = flags_of(run=tuple(fields.pop("run")), image=tiny.reference, **fields)
    spec = load_spec(None, "the test", overrides, {})
    return render(
        ResolvedRun(spec, "run", "default", image=tiny.reference, launcher={"launcher.py": "the launcher"})
    )


async def _run(host: ImageHost, manifests: list[Manifest]) -> Manifest:
    *config_maps, job = manifests
    for config_map in config_maps:
        await host.api.create(CONFIG_MAPS, config_map)
    spec = job["spec"]["template"]["spec"]
    manifest = {"metadata": {"name": "p", "namespace": "default"}, "spec": {**spec, "nodeName": NODE}}
    await host.api.create(PODS, manifest)
    return await host.finished("p")


async def test_what_run_renders_runs_as_it_would_on_a_cluster(host: ImageHost, tiny: Tiny) -> None:
    script = (
        "id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; grep Seccomp: "
        "/proc/self/status; df -k /dev/shm | grep -q ' 16384 ' && echo sized; "
        "touch /tmp/a $HOME/b && echo writable; touch /c || echo the root is not mine; "
        "echo $FROM_IMAGE; exit 3"
    )
    spec = _rendered(tiny, run=["/bin/sh", "-c", script], shm="16Mi", memory="256Mi", cpus="500m")
    async with host.running():
        pod = await _run(host, spec)
        log = await host.log("p")
    assert log.split("\n") == [
        "1000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "sized", "writable",
        "touch: /c: Permission denied", "the root is not mine", "yes", "",
    ]  # fmt: skip
    assert pod["status"]["phase"] == "Failed"
    assert _main(pod)["state"]["terminated"]["exitCode"] == 3
    assert _main(pod)["imageID"].startswith(f"{tiny.name}@sha256:")
    assert _main(pod)["containerID"].startswith("podman://")
    assert annotations_of(pod)["gpuyard.io/isolation"] == "podman"


async def test_nothing_is_left_in_podman(host: ImageHost, tiny: Tiny, podman: Podman) -> None:
    async with host.running():
        pod = await host.create_in(tiny.reference, "p", main={"args": ["sleep 60"]})
        await host.until("p", lambda pod: pod["status"]["phase"] == "Running")
        assert len(_containers(podman)) == 1
        await host.api.delete(PODS, "p", "default", grace_period_s=0)
        await host.until_removed(pod)
    assert _containers(podman) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "the image's own\n"),
        ({"args": ["echo args $A $(A) $$(pwd)"]}, "args 1 1 /\n"),
        ({"command": ["/bin/echo", "a  b", "$(A)"]}, "a  b 1\n"),
        ({"command": ["/bin/echo"], "args": ["x"]}, "x\n"),
        ({"args": ["pwd"], "workingDir": "/bin"}, "/bin\n"),
        ({"args": ['echo "$SECRET"'], "env": [{"name": "SECRET", "value": 'two\n"lines" \' # \\'}]},
         'two\n"lines" \' # \\\n'),
    ],
)  # fmt: skip
async def test_command_args_and_environment(
    host: ImageHost, tiny: Tiny, fields: dict[str, Any], said: str
) -> None:
    main = {"env": [{"name": "A", "value": "1"}], **fields}
    async with host.running():
        await host.create_in(tiny.reference, "p", main=main)
        assert (await host.finished("p"))["status"]["phase"] == "Succeeded"
        assert await host.log("p") == said


async def test_gpus_come_by_their_cdi_names(host: ImageHost, tiny: Tiny) -> None:
    run = ["/bin/sh", "-c", "ls /dev/nvidia*; env"]
    async with host.with_gpus("H100:4"), host.running(devices_due_s=20.0):
        pod = await _run(host, _rendered(tiny, run=run, gpus="2"))
        log = (await host.log("p")).splitlines()
    assert pod["status"]["phase"] == "Succeeded", pod["status"]
    assert sorted(line for line in log if line.startswith("/dev/")) == ["/dev/nvidia0", "/dev/nvidia1"]
    uuids = annotations_of(pod)["gpuyard.io/devices"].split(",")
    (visible,) = [line.partition("=")[2] for line in log if line.startswith("CUDA_VISIBLE_DEVICES=")]
    assert sorted(visible.split(",")) == sorted(uuids)
    assert {"NVIDIA_VISIBLE_DEVICES=void", "GPUYARD_SIMULATED=1"} <= set(log)


async def test_without_gpus_none_are_there(host: ImageHost, tiny: Tiny) -> None:
    main = {"args": ["ls /dev | grep nvidia; env | grep VISIBLE"], "env": [
        {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}
    ]}  # fmt: skip
    async with host.running():
        await host.create_in(tiny.reference, "p", main=main)
        await host.finished("p")
        log = await host.log("p")
    assert sorted(log.splitlines()) == ["CUDA_VISIBLE_DEVICES=", "NVIDIA_VISIBLE_DEVICES=void"]


async def test_containers_of_a_pod_share_network_and_volumes(host: ImageHost, tiny: Tiny) -> None:
    mounts = [{"name": "v", "mountPath": "/data"}]
    listen = "nc -l -p $PET_MASTER_PORT -e /bin/echo hello"
    talk = "until nc 127.0.0.1 $PET_MASTER_PORT </dev/null | grep hello >/data/got; do sleep 0.1; done"
    read = "until grep hello /data/got; do sleep 0.1; done"
    containers = [
        {"name": name, "image": tiny.reference, "args": [script], "volumeMounts": mounts}
        for name, script in (("listen", listen), ("talk", talk), ("read", read))
    ]
    async with host.running():
        await host.create_in(
            tiny.reference, "p", containers=containers, volumes=[{"name": "v", "emptyDir": {}}]
        )
        assert (await host.finished("p"))["status"]["phase"] == "Succeeded"
        assert await host.log("p", "read") == "hello\n"


@pytest.mark.parametrize(
    ("script", "grace_s", "code"),
    [
        ("trap 'echo bye; exit 5' TERM; echo up; while true; do sleep 0.05; done", 30, 5),
        ("echo up; sleep 60; echo never", 0, 137),
    ],
)
async def test_signals_and_grace(host: ImageHost, tiny: Tiny, script: str, grace_s: int, code: int) -> None:
    async with host.running():
        await host.create_in(
            tiny.reference, "p", main={"args": [script]}, terminationGracePeriodSeconds=grace_s
        )
        await host.says("p", "up")
        # As `gpuyard stop` does it.
        await host.api.patch(PODS, "p", {"spec": {"activeDeadlineSeconds": 1}}, "default")
        pod = await host.finished("p")
        log = await host.log("p")
    assert _main(pod)["state"]["terminated"]["exitCode"] == code
    assert log == ("up\nbye\n" if code == 5 else "up\n")


async def test_restarts(host: ImageHost, tiny: Tiny) -> None:
    script = "echo try; test -e /data/second && exit 0; touch /data/second; exit 1"
    mounts = {
        "args": [script.replace("test -e", "ls")],
        "volumeMounts": [{"name": "v", "mountPath": "/data"}],
    }
    async with host.running():
        await host.create_in(
            tiny.reference, "p", main=mounts, restartPolicy="OnFailure",
            volumes=[{"name": "v", "emptyDir": {}}],
        )  # fmt: skip
        pod = await host.finished("p")
        previous = await host.log("p", previous=True)
    assert pod["status"]["phase"] == "Succeeded"
    assert _main(pod)["restartCount"] == 1
    assert previous.startswith("try\n")


async def test_a_program_that_is_not_there(host: ImageHost, tiny: Tiny, podman: Podman) -> None:
    async with host.running():
        await host.create_in(tiny.reference, "p", main={"command": ["/no/such"]})
        pod = await host.finished("p")
    ended = _main(pod)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (127, "StartError")
    assert "/no/such" in ended["message"]
    assert _containers(podman) == []


async def test_root_is_refused_where_the_pod_says_so(host: ImageHost, tiny: Tiny) -> None:
    def refused(pod: Manifest) -> bool:
        waiting = _main(pod)["state"].get("waiting", {}) if "containerStatuses" in pod["status"] else {}
        return bool(waiting.get("reason") == "CreateContainerConfigError")

    async with host.running():
        await host.create_in(tiny.reference, "p", securityContext={"runAsNonRoot": True})
        pod = await host.until("p", refused)
    assert "image will run as root" in _main(pod)["state"]["waiting"]["message"]
