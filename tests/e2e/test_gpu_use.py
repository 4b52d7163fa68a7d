"""What a run used of its GPUs: counted by the exporter, written by the labeller, told by `show` for good."""

from __future__ import annotations

from typing import Any

from tests.waiting import until

from .conftest import Yard


def use_of(yard: Yard, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yard.json("show", name)["gpu_use"] or {}
    return found


def test_it_is_told_while_the_run_goes_on_and_after_its_end(yard: Yard) -> None:
    yard.background("trainer", "--gpus", "2", "--", "sh", "-c", yard.waiting)
    early = until(lambda: use_of(yard, "trainer"), "something is said", pause_s=0.5)
    assert early["gpus"] == 2 and early["gpu_seconds"] > 0
    yard.open_gate("trainer")
    yard.wait_for("trainer", "succeeded")
    used = until(
        lambda: use_of(yard, "trainer"),
        "all of it is said",
        lambda use: use["gpu_seconds"] >= early["gpu_seconds"] and use["energy_kwh"],
        pause_s=0.5,
    )
    assert 0 < used["mean_utilisation_percent"] <= used["peak_utilisation_percent"] <= 100
    assert 0 < used["mean_memory_mib"] <= used["peak_memory_mib"] <= 81559
    assert "GPU use:    held 2 GPUs for " in yard.ok("show", "trainer")


def test_a_run_without_gpus_says_nothing_of_them(yard: Yard) -> None:
    yard.ok("run", "-n", "plain", "--", "true")
    assert yard.json("show", "plain")["gpu_use"] is None
    assert "GPU use" not in yard.ok("show", "plain")


def test_a_run_with_idle_gpus_ends_and_says_why(yard: Yard) -> None:
    file = yard.home / "simulated-health.json"
    file.write_text('{"idle": ["0", "1", "2", "3", "4", "5", "6", "7"]}')
    try:
        yard.background("lazy", "--gpus", "1", "--idle", "3s", "--", "sleep", "600")
        # The agent writes onto a pod what it has used twice a minute.
        ended = until(
            lambda: yard.json("show", "lazy"),
            "it has ended",
            lambda run: run["state"] == "failed",
            timeout_s=200,
            pause_s=1,
        )
    finally:
        file.unlink()
    assert ended["reason"] == "Unused"
    assert "idle for 3 s" in yard.ok("logs", "lazy")
