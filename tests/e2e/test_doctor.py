"""`gpuyard doctor` on yards that run, that are stopped, and that are damaged."""

from __future__ import annotations

import json
from typing import Any

from .conftest import Yard


def report(yard: Yard, *words: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Exit code, document, and its checks by name."""
    done = yard.call("doctor", "-o", "json", *words)
    raw = json.loads(done.out)
    return done.code, raw, {check["name"]: check for check in raw["checks"]}


def test_a_yard_that_runs(yard: Yard) -> None:
    code, raw, checks = report(yard)
    assert (code, raw["target"], raw["context"], raw["first_broken"]) == (0, "yard", None, None), raw
    for name in ("folder", "settings", "daemon", "api", "node", "agent", "gpus"):
        assert checks[name]["outcome"] == "ok", checks[name]
    assert checks["gpus"]["message"] == "8 × H100 (simulated)"
    assert checks["daemon"]["message"] == f"pid {yard.status()['daemon_pid']}"
    assert "gpus       8 × H100 (simulated)" in yard.ok("doctor")


def test_a_yard_that_is_stopped_stays_so(stopped_yard: Yard) -> None:
    code, raw, checks = report(stopped_yard)
    assert (code, raw["first_broken"]) == (1, "daemon")
    assert checks["gpus"]["message"] == "daemon comes first"
    done = stopped_yard.call("doctor")
    assert "The first broken link: daemon: the yard is stopped" in done.out
    assert "the yard is stopped" in stopped_yard.refused(1, "ps")


def test_settings_that_can_not_be_read(stopped_yard: Yard) -> None:
    stopped_yard.paths.data_dir.mkdir(parents=True, exist_ok=True)
    stopped_yard.paths.settings.write_text("no json")
    code, raw, checks = report(stopped_yard)
    assert (code, raw["first_broken"]) == (1, "settings")
    assert str(stopped_yard.paths.settings) in checks["settings"]["message"]


def test_an_image_and_a_registry_are_one_too_many(stopped_yard: Yard) -> None:
    said = stopped_yard.refused(2, "doctor", "--image", "a/b", "--registry", "c")
    assert "leave --registry out" in said
