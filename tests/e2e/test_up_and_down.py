"""`up` and `down`: one yard per data folder, choices kept, runs never ended unasked."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import until

from .conftest import Yard, alive
from .shell import CANARY


def test_up_twice(yard: Yard) -> None:
    pid = yard.status()["daemon_pid"]
    assert "The yard is up already" in yard.ok("up")
    assert yard.status()["daemon_pid"] == pid
    assert yard.json("up")["started"] is False
    said = yard.refused(1, "up", "--simulate", "B200:4")
    assert "it simulates H100:8, not B200:4" in said and "gpuyard down --keep" in said


def test_the_choice_of_gpus_is_kept(own_yard: Yard) -> None:
    api = own_yard.status()["api"]
    assert own_yard.ok("down") == "The yard is down.\n"
    assert own_yard.ok("down") == "The yard was down already.\n"
    own_yard.ok("up")
    assert own_yard.status()["gpus"] == {
        "model": "H100",
        "simulated": True,
        "capacity": 8,
        "allocatable": 8,
        "none_because": None,
    }
    # kubectl's kubeconfig stays true, too.
    assert own_yard.status()["api"] == api
    own_yard.ok("down")
    own_yard.ok("up", "--simulate", "B200:4")
    assert (own_yard.status()["gpus"]["model"], own_yard.status()["gpus"]["allocatable"]) == ("B200", 4)
    assert own_yard.json("nodes")[0]["gpu_model"] == "B200"
    own_yard.ok("down")
    own_yard.ok("up", "--no-simulate")
    assert own_yard.status()["gpus"]["simulated"] is False


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has GPUs")
def test_a_machine_without_gpus_says_why_and_may_simulate_some(stopped_yard: Yard) -> None:
    assert "No GPUs: the NVIDIA driver isn't installed" in stopped_yard.ok("up")
    assert "No GPUs: the NVIDIA driver isn't installed" in stopped_yard.ok("up")
    assert "none: the NVIDIA driver isn't installed" in stopped_yard.ok("status")
    stopped_yard.background("alive", "--", "sleep", "600")
    assert "it simulates no GPUs, not H100:8" in stopped_yard.refused(1, "up", "--simulate", "H100:8")
    stopped_yard.ok("stop", "alive")
    # Idle, it is started again without more ado.
    assert "The yard is up in" in stopped_yard.ok("up", "--simulate", "H100:8")
    assert stopped_yard.status()["gpus"]["capacity"] == 8
    assert stopped_yard.status()["gpus"]["none_because"] is None


def test_up_says_which_gpus_cannot_be_had(stopped_yard: Yard) -> None:
    told = stopped_yard.paths.simulated_health
    told.write_text(json.dumps({"unhealthy": {"0": "XID 79"}}))
    assert "1 of 2 GPUs can't be had: `gpuyard nodes`" in stopped_yard.ok("up", "--simulate", "H100:2")
    stopped_yard.ok("down")
    told.write_text(json.dumps({"mig": {"0": ["7g.80gb@0"]}}))
    reason = "GPU 1 is whole, and with the MIG strategy single all GPUs must be split"
    assert f"No GPUs: {reason}" in stopped_yard.ok("up", "--mig-strategy", "single")
    assert f"has no GPUs to give: {reason}" in stopped_yard.ok("nodes")


def test_down_refuses_while_runs_are_alive(own_yard: Yard) -> None:
    own_yard.background("alive", "--", "sh", "-c", "until [ -e end ]; do sleep 0.02; done; exit 6")
    own_yard.ok("run", "--", "true")
    said = own_yard.refused(1, "down")
    assert "1 run is not over: alive" in said and "--keep" in said and "--stop" in said
    assert own_yard.state("alive")["state"] == "running"
    pid = own_yard.status()["daemon_pid"]
    own_yard.ok("down", "--keep")
    until(lambda: not alive(pid), "the daemon is gone")
    own_yard.ok("up")
    assert own_yard.state("alive")["state"] == "running"
    own_yard.script("end", "")
    assert own_yard.wait_for("alive", "failed")["exit_code"] == 6


def test_down_stop_ends_everything(own_yard: Yard) -> None:
    own_yard.background("alive", "--gpus", "8", "--", "sleep", "600")
    own_yard.ok("run", "-d", "-n", "waiter", "--gpus", "1", "--", "true")
    status = own_yard.status()
    said = own_yard.ok("down", "--stop")
    assert "Stopped alive." in said and "The yard is down." in said
    assert not alive(status["daemon_pid"]) and not alive(status["agent_pid"])
    own_yard.ok("up")
    assert {run["name"]: run["state"] for run in own_yard.json("ps")} == {
        "alive": "stopped",
        "waiter": "stopped",
    }
    assert "contradict" in own_yard.refused(2, "down", "--stop", "--keep")


def test_a_second_daemon_on_the_same_data_is_refused(yard: Yard) -> None:
    daemon = [sys.executable, "-m", "gpuyard.local.daemon"]
    done = subprocess.run(daemon, env=yard.environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert str(yard.home) in done.stderr and str(yard.status()["daemon_pid"]) in done.stderr
    assert "Traceback" not in done.stderr
    assert yard.ok("run", "--gpus", "1", "--", "echo", "still here") == "still here\n"


def test_many_commands_start_one_yard(stopped_yard: Yard) -> None:
    commands = [stopped_yard.start("run", "--", "echo", "hi") for _ in range(4)]
    results = [command.finish() for command in commands]
    assert {(result.code, result.out) for result in results} == {(0, "hi\n")}, results
    assert len(stopped_yard.json("ps")) == 4


def test_two_yards_side_by_side(own_yard: Yard, yard: Yard) -> None:
    own_yard.ok("run", "-n", "mine", "--gpus", "8", "--", "true")
    assert yard.json("ps") == []
    assert own_yard.status()["api"] != yard.status()["api"]


def test_a_port_in_use(stopped_yard: Yard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = stopped_yard.refused(1, "up", "--port", port)
        assert port in said and "in use" in said
        assert "stopped" in stopped_yard.refused(1, "ps")
        assert stopped_yard.call("up").code == 0
    stopped_yard.ok("down")
    stopped_yard.ok("up", "--port", port)
    assert stopped_yard.status()["api"] == f"https://127.0.0.1:{port}"


def test_the_daemon_has_nothing_of_the_shell(yard: Yard) -> None:
    for pid in (yard.status()["daemon_pid"], yard.status()["agent_pid"]):
        with open(f"/proc/{pid}/environ") as file:
            assert next(iter(CANARY)) not in file.read()


def test_a_daemon_of_another_release(stopped_yard: Yard) -> None:
    """A copy of the package with another version starts the yard; this one's commands find it."""
    other = stopped_yard.work / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import gpuyard\ngpuyard.__version__ = '9.9.9'\n")
    shell = {**stopped_yard.environ, "PYTHONPATH": str(other)}
    # Not through `up`: its daemon gets no PYTHONPATH.
    daemon = subprocess.Popen(
        [sys.executable, "-m", "gpuyard.local.daemon"],
        env=shell,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(stopped_yard.paths.running.exists, "the other yard is up")
        for arguments in (("ps",), ("run", "--", "true"), ("logs", "x")):
            said = stopped_yard.refused(1, *arguments)
            assert "9.9.9" in said and "0.1.0" in said and "gpuyard down --keep" in said
        assert stopped_yard.status()["versions"]["daemon"] == "9.9.9"
        # The remedy works.
        stopped_yard.ok("down", "--keep")
        daemon.wait(60)
        stopped_yard.ok("up")
        assert stopped_yard.json("ps") == []
    finally:
        daemon.kill()
        daemon.wait()


def test_up_for_machines(stopped_yard: Yard) -> None:
    made = json.loads(stopped_yard.ok("up", "-o", "json"))
    assert made.keys() == {"api", "node", "nodes", "started"} and made["started"] is True
