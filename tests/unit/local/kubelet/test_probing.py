"""Probes of real programs: what the pod's status says, and what becomes of its containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import PODS, Manifest, annotations_of
from gpuyard.kube.pods import listening_port
from gpuyard.kube.wellknown import ANNOTATION_PORTS
from tests.waiting import until_async

from .conftest import Host

#: Answers with the status that the file `status` has, and says where it listens.
_SERVER = """
import http.server, os, pathlib

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = int(pathlib.Path("status").read_text())
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"here")

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
print("listens", flush=True)
server.serve_forever()
"""
#: A machine that is busy may answer late, and start a program slowly.
_SOON = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 30}
_PATIENTLY = {**_SOON, "failureThreshold": 600}


def _main(pod: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = (pod["status"].get("containerStatuses") or [{}])[0]
    return found


def _is_ready(pod: Manifest) -> bool:
    return condition_is_true(pod, "Ready")


def _get(**fields: Any) -> dict[str, Any]:
    return {"httpGet": {"path": "/healthz", "port": "http"}, **_SOON, **fields}


async def _serve(host: Host, folder: Path, *, name: str = "a", status: int = 200, **main: Any) -> Manifest:
    (folder / "status").write_text(str(status))
    container = {
        "workingDir": str(folder),
        "ports": [{"name": "http", "containerPort": 8000}],
        "env": [{"name": "PORT", "value": "8000"}],
        **main,
    }
    return await host.create(name, "/usr/bin/python3", "-c", _SERVER, main=container, restartPolicy="Always")


async def test_a_pod_is_ready_while_its_page_answers(host: Host, folder: Path) -> None:
    async with host.running():
        await _serve(host, folder, status=500, readinessProbe=_get())
        pod = await host.until("a", lambda pod: _main(pod).get("started"))
        assert not _main(pod)["ready"]
        for type_ in ("Ready", "ContainersReady"):
            condition = find_condition(pod, type_)
            assert condition is not None
            assert (condition["status"], condition["reason"]) == ("False", "ContainersNotReady")
            assert condition["message"] == "containers with unready status: [main]"
        (folder / "status").write_text("204")
        pod = await host.until("a", _is_ready)
        assert _main(pod)["ready"]
        (folder / "status").write_text("500")
        await host.until("a", lambda pod: not _is_ready(pod))
        assert "Readiness probe failed: HTTP probe failed with statuscode: 500" in await host.messages(
            "Unhealthy"
        )
        assert _main(pod)["restartCount"] == 0


async def test_ports_of_two_pods_with_the_same_port_differ(host: Host, folder: Path) -> None:
    async with host.running():
        await _serve(host, folder, name="a", readinessProbe=_get())
        await _serve(host, folder, name="b", readinessProbe=_get())
        pods = [await host.until(name, _is_ready) for name in ("a", "b")]
        ports = {listening_port(pod, 8000) for pod in pods}
        assert len(ports) == 2
        assert 8000 not in ports
        assert all(json.loads(annotations_of(pod)[ANNOTATION_PORTS]).keys() == {"8000"} for pod in pods)


async def test_ports_that_a_template_claims_are_no_pod_s(host: Host) -> None:
    async with host.running():
        claimed = {ANNOTATION_PORTS: '{"8000": 22}', "a": "b"}
        await host.create("a", "sleep", "60", metadata={"annotations": claimed})
        pod = await host.until("a", lambda pod: "running" in (_main(pod).get("state") or {}))
        assert ANNOTATION_PORTS not in annotations_of(pod)
        assert annotations_of(pod)["a"] == "b"


async def test_a_probe_of_a_host_that_is_none_fails(host: Host) -> None:
    async with host.running():
        probe = {"tcpSocket": {"host": "a..b", "port": 80}, **_SOON}
        await host.create("a", "sleep", "60", main={"livenessProbe": probe}, restartPolicy="Never")
        await host.until("a", lambda pod: pod["status"]["phase"] == "Failed")
        assert await host.messages("Unhealthy") == [
            "Liveness probe failed: dial tcp: lookup a..b: no such host"
        ]


async def test_a_failed_liveness_probe_starts_the_container_again(host: Host, folder: Path) -> None:
    async with host.running():
        await _serve(
            host,
            folder,
            readinessProbe=_get(),
            livenessProbe=_get(),
            startupProbe=_get(**_PATIENTLY),
        )
        before = await host.until("a", _is_ready)
        (folder / "status").write_text("500")
        await host.until("a", lambda pod: _main(pod)["restartCount"] > 0)
        (folder / "status").write_text("200")
        pod = await host.until("a", _is_ready)
        assert listening_port(pod, 8000) == listening_port(before, 8000)
        assert "Container main failed liveness probe, will be restarted" in await host.messages("Killing")
        await host.api.delete(PODS, "a", "default")
        await host.until_gone("a")


async def test_a_ready_container_stays_ready_over_a_new_kubelet(host: Host, folder: Path) -> None:
    async with host.running():
        await _serve(host, folder, readinessProbe=_get(), startupProbe=_get(**_PATIENTLY))
        before = await host.until("a", _is_ready)
    async with host.running():
        await host.create("b", "true")
        await host.finished("b")
        after = await host.get("a")
        assert find_condition(after, "Ready") == find_condition(before, "Ready")
        assert listening_port(after, 8000) == listening_port(before, 8000)
        (folder / "status").write_text("500")
        await host.until("a", lambda pod: not _is_ready(pod))


async def test_a_command_in_the_container_says_whether_it_is_ready(host: Host, folder: Path) -> None:
    """It has the container's environment and folder."""
    script = "echo looked at $WHAT; test -e $(WHAT)"
    probe = {"exec": {"command": ["sh", "-c", script]}, **_SOON}
    main = {"workingDir": str(folder), "readinessProbe": probe, "env": [{"name": "WHAT", "value": "there"}]}
    async with host.running():
        await host.create("a", "sh", "-c", "exec sleep 600", main=main)
        assert await host.messages("Unhealthy") == ["Readiness probe failed: looked at there\n"]
        (folder / "there").touch()
        await host.until("a", _is_ready)
        (folder / "there").unlink()
        await host.until("a", lambda pod: not _is_ready(pod))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sleep", "600"], 'Readiness probe failed: command timed out: "sleep 600" timed out after 1s'),
        (
            ["no-such-program"],
            "Readiness probe errored and resulted in unknown state: error executing command in container: "
            'exec: "no-such-program": executable file not found in $PATH',
        ),
    ],
)
async def test_a_command_that_says_nothing(host: Host, command: list[str], message: str) -> None:
    async with host.running():
        probe = {"exec": {"command": command}, **_SOON, "timeoutSeconds": 1}
        await host.create("a", "sh", "-c", "exec sleep 600", main={"readinessProbe": probe})
        assert await host.messages("Unhealthy") == [message]
        assert not _is_ready(await host.get("a"))


async def test_a_port_that_is_listened_on_is_enough(host: Host, folder: Path) -> None:
    async with host.running():
        probe = {"tcpSocket": {"port": 8000}, **_SOON}
        await _serve(host, folder, status=500, readinessProbe=probe)
        await host.until("a", _is_ready)


async def test_a_program_that_never_listens(host: Host, folder: Path) -> None:
    async with host.running():
        main = {
            "ports": [{"name": "http", "containerPort": 8000}],
            "env": [{"name": "PORT", "value": "8000"}],
            "startupProbe": _get(terminationGracePeriodSeconds=1),
        }
        await host.create("a", "sleep", "600", main=main)
        pod = await host.finished("a")
        port = listening_port(pod, 8000)
        # With restartPolicy Never nothing starts it again.
        assert await host.messages("Killing") == ["Stopping container main"]
        assert await host.messages("Unhealthy") == [
            f'Startup probe failed: Get "http://127.0.0.1:{port}/healthz": '
            f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        ]
        assert (pod["status"]["phase"], _main(pod)["state"]["terminated"]["exitCode"]) == ("Failed", 143)


async def test_a_container_that_failed_its_probe_starts_again_however_it_ended(
    host: Host, folder: Path
) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.01; done"
    probe = {"exec": {"command": ["false"]}, **_SOON}
    async with host.running():
        await host.create("a", "sh", "-c", script, restartPolicy="OnFailure", main={"livenessProbe": probe})
        pod = await host.until("a", lambda pod: _main(pod).get("restartCount"))
        assert _main(pod)["lastState"]["terminated"]["exitCode"] == 0


async def test_a_pod_that_is_deleted_stays_ready_while_it_serves(host: Host, folder: Path) -> None:
    """A hook gives those time who still send requests."""
    hook = {"exec": {"command": ["sh", "-c", f"while [ ! -e {folder}/go ]; do sleep 0.01; done"]}}
    async with host.running():
        await _serve(
            host,
            folder,
            readinessProbe=_get(),
            livenessProbe=_get(initialDelaySeconds=3600),
            lifecycle={"preStop": hook},
        )
        await host.until("a", _is_ready)
        await host.api.delete(PODS, "a", "default")
        await host.messages("Killing")
        assert _is_ready(await host.get("a"))
        (folder / "status").write_text("500")
        await host.until("a", lambda pod: not _is_ready(pod))
        (folder / "status").write_text("200")
        await host.until("a", _is_ready)
        (folder / "go").touch()
        await host.until_gone("a")


_TELLS_ITS_END = "trap 'echo told >>said; exit 0' TERM; echo up; while :; do sleep 0.01; done"


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ({"exec": {"command": ["sh", "-c", "echo hook >>said"]}}, "hook\ntold\n"),
        ({"sleep": {"seconds": 1}}, "told\n"),
        ({"exec": {"command": ["false"]}}, "told\n"),
    ],
)
async def test_a_hook_runs_before_the_signal(
    host: Host, folder: Path, hook: dict[str, Any], said: str
) -> None:
    main = {"workingDir": str(folder), "lifecycle": {"preStop": hook}}
    async with host.running():
        await host.create("a", "sh", "-c", _TELLS_ITS_END, main=main)
        await host.says("a", "up")
        await host.api.delete(PODS, "a", "default")
        await host.until_gone("a")
        assert (folder / "said").read_text() == said
        if hook.get("exec") == {"command": ["false"]}:
            assert await host.messages("FailedPreStopHook") == ["PreStopHook failed"]


async def test_a_hook_that_hangs_has_the_grace_and_no_more(host: Host, folder: Path) -> None:
    hook = {"exec": {"command": ["sleep", "600"]}}
    main = {"workingDir": str(folder), "lifecycle": {"preStop": hook}}
    async with host.running():
        await host.create("a", "sh", "-c", _TELLS_ITS_END, main=main, terminationGracePeriodSeconds=1)
        await host.says("a", "up")
        await host.api.delete(PODS, "a", "default")
        await host.until_gone("a")
        assert (folder / "said").read_text() == "told\n"


async def test_a_forced_deletion_cuts_a_hook_short(host: Host, folder: Path) -> None:
    main = {"workingDir": str(folder), "lifecycle": {"preStop": {"sleep": {"seconds": 600}}}}
    async with host.running():
        pod = await host.create(
            "a", "sh", "-c", _TELLS_ITS_END, main=main, terminationGracePeriodSeconds=3600
        )
        await host.says("a", "up")
        await host.api.delete(PODS, "a", "default")
        await host.messages("Killing")
        await host.api.delete(PODS, "a", "default", grace_period_s=0)
        await host.until_removed(pod)


async def test_a_hook_after_the_start(host: Host, folder: Path) -> None:
    """It isn't ready before that is through."""
    hook = {"exec": {"command": ["sh", "-c", "while [ ! -e go ]; do sleep 0.01; done"]}}
    main = {"workingDir": str(folder), "lifecycle": {"postStart": hook}}
    async with host.running():
        await host.create("a", "sleep", "600", main=main)
        pod = await host.until("a", lambda pod: "running" in _main(pod).get("state", {}))
        assert (_main(pod)["started"], _main(pod)["ready"]) == (False, False)
        (folder / "go").touch()
        await host.until("a", _is_ready)


async def test_a_hook_after_the_start_that_fails(host: Host) -> None:
    hook = {"exec": {"command": ["false"]}}
    async with host.running():
        await host.create("a", "sleep", "600", main={"lifecycle": {"postStart": hook}})
        pod = await host.finished("a")
        assert _main(pod)["state"]["terminated"]["exitCode"] == 143
        assert await host.messages("FailedPostStartHook") == ["PostStartHook failed"]
        assert await host.messages("Killing") == ["FailedPostStartHook"]


async def test_a_stop_during_a_hook_is_begun_again_by_the_next_kubelet(host: Host, folder: Path) -> None:
    hook = "echo hook >>said; while [ ! -e go ]; do sleep 0.01; done"
    main = {
        "workingDir": str(folder),
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", hook]}}},
    }
    async with host.running():
        await host.create("a", "sh", "-c", _TELLS_ITS_END, main=main)
        await host.says("a", "up")
        await host.api.delete(PODS, "a", "default")
        await until_async(lambda: (folder / "said").exists(), "the hook runs")
    async with host.running():
        (folder / "go").touch()
        await host.until_gone("a")
    assert (folder / "said").read_text() == "hook\nhook\ntold\n"


@pytest.mark.parametrize("is_lost", [False, True])
async def test_no_pod_is_given_a_port_that_one_has_had_since_before(
    host: Host, folder: Path, is_lost: bool
) -> None:
    """Also where only the annotation tells which."""
    async with host.running():
        pod = await _serve(host, folder, readinessProbe=_get())
        before = await host.until("a", _is_ready)
        if is_lost:
            (host.folder(pod) / "pod.json").unlink()
    async with host.running():
        assert host.machine is not None
        await host.create("b", "true")
        await host.finished("b")
        assert host.machine.ports.held(str(pod["metadata"]["uid"]))["8000"] == listening_port(before, 8000)
