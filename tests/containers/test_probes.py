"""Probes and hooks of containers of podman."""

from __future__ import annotations

from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import PODS, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_PORTS
from tests.containers.conftest import ImageHost, Tiny


async def test_a_command_in_the_image_says_whether_it_is_ready(host: ImageHost, tiny: Tiny) -> None:
    probe = {"exec": {"command": ["sh", "-c", "echo no $FROM_IMAGE; test -e /there"]}}
    soon = {"periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 1}
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo hello >/hook"]}}}
    script = "until [ -e /hook ]; do sleep 0.02; done; sleep 1; echo up; touch /there; sleep 600"
    async with host.running():
        main = {"args": [script], "readinessProbe": {**probe, **soon}, "lifecycle": hook}
        await host.create_in(tiny.reference, "a", main=main)
        await host.until("a", lambda pod: condition_is_true(pod, "Ready"))
        await host.says("a", "up")
        assert (await host.get("a"))["status"]["containerStatuses"][0]["restartCount"] == 0


async def test_a_container_listens_on_the_port_that_stands_in_for_its_own(
    host: ImageHost, tiny: Tiny
) -> None:
    main = {
        "args": ["exec busybox httpd -f -p 127.0.0.1:$PORT -h /bin"],
        "ports": [{"name": "http", "containerPort": 8000}],
        "env": [{"name": "PORT", "value": "8000"}],
        "readinessProbe": {"httpGet": {"path": "/busybox", "port": "http"}, "periodSeconds": 1},
    }
    async with host.running():
        await host.create_in(tiny.reference, "a", main=main)
        pod = await host.until("a", lambda pod: condition_is_true(pod, "Ready"))
        assert ANNOTATION_PORTS in annotations_of(pod)


async def test_a_hook_in_the_image_runs_before_the_signal(host: ImageHost, tiny: Tiny) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "touch /hook"]}}}
    script = "trap 'ls /hook; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    async with host.running():
        metadata = {"finalizers": ["example.com/hold"]}
        main = {"args": [script], "lifecycle": hook}
        await host.create_in(tiny.reference, "a", main=main)
        await host.api.patch(PODS, "a", {"metadata": metadata}, "default")
        await host.says("a", "up")
        await host.api.delete(PODS, "a", "default")
        await host.finished("a")
        assert await host.log("a") == "up\n/hook\n"
        await host.api.patch(PODS, "a", {"metadata": {"finalizers": None}}, "default")
        await host.until_gone("a")
