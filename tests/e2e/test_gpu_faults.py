"""A GPU goes unhealthy: the whole chain, from the driver's word to what `explain` says, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.waiting import until

from .conftest import Yard


def fail(yard: Yard, **reasons: str) -> None:
    """Makes simulated GPUs unhealthy, by UUID; all others are healthy."""
    file = yard.paths.simulated_health
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps({"unhealthy": reasons}))
    draft.rename(file)


def healthy(yard: Yard) -> int:
    return int(yard.json("nodes")[0]["gpus"])


def device_of(yard: Yard, name: str) -> str:
    """The UUID of a run's one GPU."""
    pods = yard.get(f"/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run={name}")["items"]
    return str(pods[0]["metadata"]["annotations"]["gpuyard.io/devices"])


@pytest.fixture
def gpus(yard: Yard) -> Iterator[Yard]:
    """A yard whose GPUs are all healthy before and after."""
    until(lambda: healthy(yard) == 8, "all GPUs are healthy")
    yield yard
    # Other tests count what a command imports where there is no such file.
    yard.paths.simulated_health.unlink(missing_ok=True)
    until(lambda: healthy(yard) == 8, "all GPUs are healthy again")


def test_the_xid_reaches_explain_and_goes_again(gpus: Yard) -> None:
    yard, node = gpus, gpus.status()["node"]
    yard.background("trainer", "--gpus", "1", "--", "sleep", "600")
    held = device_of(yard, "trainer")
    fail(yard, **{held: "XID 79"})
    until(lambda: healthy(yard) == 7, "one GPU can't be had any more")
    said = "is unhealthy: XID 79 (GPU has fallen off the bus) since "

    # The run that has it goes on, and hears of it.
    explained = until(
        lambda: yard.ok("explain", "trainer"),
        "the labeller has told the reason",
        lambda text: "XID 79" in text,
    )
    assert f"it runs, but GPU 0 of node {node} {said}" in explained
    assert explained.count("XID 79") == 1 and "held" not in explained
    assert "stop it and submit it again" in explained
    assert "take it away with `gpuyard node fault" in explained and "drain" not in explained

    told = yard.json("explain", "trainer")
    assert told["blocked"] is None and told["threatened"]["cause"] == "unhealthy_device"
    assert {step["step"]: step["state"] for step in told["ladder"]}["devices"] == "passed"

    # One that waits for all of them is told the same.
    yard.ok("run", "-d", "-n", "waiter", "--gpus", "8", "--", "true")
    until(lambda: f"GPU 0 {said}" in yard.ok("explain", "waiter"), "the run that waits knows why")
    found = yard.json("explain", "waiter")
    assert found["explanation"]["nodes"][0]["faults"][0]["reason"] == "XID 79"
    assert f"GPU 0 of node {node} {said}" in yard.ok("nodes")
    assert f"1 of 8 GPUs can't be had (simulated): GPU 0 {said}" in yard.call("doctor").out

    fail(yard)
    until(lambda: healthy(yard) == 8, "it has recovered")
    until(lambda: not yard.json("nodes")[0]["faults"], "the reason is gone")
    yard.ok("stop", "trainer")
    assert yard.wait_for("waiter", "succeeded")["exit_code"] == 0


def test_a_run_that_failed_with_its_gpu(gpus: Yard) -> None:
    yard = gpus
    yard.background("dies", "--gpus", "1", "--", "sh", "-c", "until [ -e fell ]; do sleep 0.1; done; exit 3")
    held = device_of(yard, "dies")
    fail(yard, **{held: "XID 79"})
    until(lambda: bool(yard.json("nodes")[0]["faults"]), "the node tells")
    yard.script("fell", "")
    yard.wait_for("dies", "failed")
    explained = yard.ok("explain", "dies")
    assert "failed at devices: GPU 0 of node" in explained
    assert "XID 79 (GPU has fallen off the bus)" in explained
    assert "it ended: exit code 3" in explained or "exited with 3" in explained


def test_a_command_puts_a_fault_on_a_gpu_and_takes_it_away(gpus: Yard) -> None:
    node = gpus.status()["node"]
    for fault, reason in (("79", "XID 79 (GPU has fallen off the bus)"), ("hot", "too hot")):
        said = gpus.ok("node", "fault", "--gpu", "3", "--xid", fault)
        assert said.startswith(f"GPU 3 of node {node} is unhealthy: {reason}") and "(simulated)" in said
        # It returned when the node said so.
        assert f"GPU 3 of node {node} is unhealthy: {reason}" in gpus.ok("nodes")
    recovered = gpus.ok("node", "fault", "--gpu", "3", "--xid", "recovered", "-o", "json")
    assert json.loads(recovered) == {"node": node, "gpu": 3, "simulated": True, "fault": None}
    assert "unhealthy" not in gpus.ok("nodes")


def test_a_fault_of_what_is_not_there_is_refused(gpus: Yard) -> None:
    assert "there is no GPU 8: node " in gpus.refused(2, "node", "fault", "--gpu", "8", "--xid", "79")
    assert "'smoke' is no fault" in gpus.refused(2, "node", "fault", "--gpu", "0", "--xid", "smoke")
    assert healthy(gpus) == 8


def test_the_pod_s_status_follows_the_health_of_its_gpu(gpus: Yard) -> None:
    """As a cluster's kubelet has it with the feature gate ResourceHealthStatus."""
    gpus.background("trainer", "--gpus", "1", "--", "sleep", "600")
    held = device_of(gpus, "trainer")

    def told() -> list[dict[str, object]]:
        path = "/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run=trainer"
        (status,) = gpus.get(path)["items"][0]["status"]["containerStatuses"]
        found: list[dict[str, object]] = status.get("allocatedResourcesStatus", [])
        return found

    def says(health: str) -> list[dict[str, object]]:
        return [{"name": "nvidia.com/gpu", "resources": [{"resourceID": held, "health": health}]}]

    until(told, "it is healthy", lambda found: found == says("Healthy"))
    fail(gpus, **{held: "XID 79"})
    until(told, "it is not", lambda found: found == says("Unhealthy"))
    fail(gpus)
    until(told, "it is well again", lambda found: found == says("Healthy"))
