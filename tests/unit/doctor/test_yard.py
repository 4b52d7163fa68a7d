"""Which links of a yard's chain are broken, over facts that are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.doctor.check import Check, CheckState, Report
from gpuyard.doctor.progress import Progress
from gpuyard.doctor.registry import RegistryFact
from gpuyard.doctor.yard import judge
from gpuyard.doctor.yard_facts import YardFacts, look_at_yard
from gpuyard.kube.objects import Manifest
from gpuyard.local.paths import YardPaths
from gpuyard.local.settings import RunningYard, Settings, save_running

ORDER = [
    "folder", "disk", "settings", "daemon", "api", "objects", "node", "agent", "gpus", "isolation", "cgroups",
    "podman", "registry",
]  # fmt: skip
RUNNING = RunningYard(10, 11, "https://127.0.0.1:1", "vm", "0.1", "")
PATHS = YardPaths(Path("/data"), Path("/tmp/run"))


def node(total: str = "8", usable: str = "8", ready: str = "True", **annotations: str) -> Manifest:
    told = {"isolation": "bubblewrap", "enforced": "cpu,memory", "containers": "podman 4.3.1"} | annotations
    return {
        "metadata": {
            "name": "vm",
            "labels": {"gpuyard.io/gpu-model": "H100", "gpuyard.io/simulated": "true"},
            "annotations": {f"gpuyard.io/{name.replace('_', '-')}": value for name, value in told.items()},
        },
        "status": {
            "capacity": {"nvidia.com/gpu": total},
            "allocatable": {"nvidia.com/gpu": usable},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def well(**changes: Any) -> YardFacts:
    facts = YardFacts(PATHS, None, 10 << 30, Settings(), 10, RUNNING, None, node(), RegistryFact())
    return replace(facts, **changes)


def check(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def look(name: str, **changes: Any) -> Check:
    return check(judge(well(**changes)), name)


def test_a_yard_without_a_fault() -> None:
    report = judge(well())
    assert [check.name for check in report.checks] == ORDER
    assert {check.outcome for check in report.checks[:-1]} == {CheckState.OK}, report
    assert check(report, "gpus").message == "8 × H100 (simulated)"
    assert report.first_broken is None


def test_a_stopped_yard() -> None:
    stopped = errors.YardStopped("the yard is stopped")
    report = judge(well(pid=0, running=None, api=stopped, node=stopped))
    first = report.first_broken
    assert first and (first.name, "gpuyard up" in first.remedy) == ("daemon", True)
    assert {c.message for c in report.checks[4:-1]} == {"daemon comes first"}


@pytest.mark.parametrize(
    ("changes", "name", "outcome", "said"),
    [
        (
            {"folder": errors.YardError("belongs to another user", remedy="r")},
            "folder",
            CheckState.BROKEN,
            "another",
        ),
        (
            {"free_bytes": 1 << 20},
            "disk",
            CheckState.BROKEN,
            "1 MiB free for /data, 8 MiB are needed: until then new runs may be refused, or wait",
        ),
        ({"free_bytes": 32 << 20}, "disk", CheckState.WARNING, "32 MiB free for /data"),
        ({"free_bytes": 1 << 30}, "disk", CheckState.WARNING, "1024 MiB free"),
        ({"bounds_logs": False}, "disk", CheckState.WARNING, "logs of runs grow without bound"),
        (
            {"settings": errors.YardError("can't be read", remedy="r")},
            "settings",
            CheckState.BROKEN,
            "can't be read",
        ),
        ({"settings": Settings(simulate="H100:8")}, "settings", CheckState.OK, "simulates H100:8"),
        (
            {"pid": errors.YardError("another user's", remedy="r")},
            "daemon",
            CheckState.BROKEN,
            "another user's",
        ),
        ({"api": errors.VersionMismatch("of 0.0", remedy="restart")}, "api", CheckState.BROKEN, "of 0.0"),
        (
            {"set_aside": [f"Pod default/{name}: it is no JSON" for name in "abcdefg"]},
            "objects",
            CheckState.WARNING,
            "7 set aside: Pod default/a: it is no JSON; Pod default/b",
        ),
        ({"node": node(ready="False")}, "node", CheckState.BROKEN, "vm is not ready"),
        ({"running": replace(RUNNING, agent_pid=0)}, "agent", CheckState.BROKEN, "isn't running"),
        (
            {"node": node("0", "0", no_gpus="no driver")},
            "gpus",
            CheckState.BROKEN,
            "there are none: no driver",
        ),
        (
            {"node": node(gpu_driver="the NVIDIA driver doesn't answer")},
            "gpus",
            CheckState.WARNING,
            "8 of 8 GPUs can be had; the NVIDIA driver doesn't answer",
        ),
        ({"node": node(usable="6")}, "gpus", CheckState.WARNING, "2 of 8 GPUs can't be had (simulated)"),
        ({"node": node(isolation="none")}, "isolation", CheckState.WARNING, "each other's processes"),
        ({"node": node(enforced="none")}, "cgroups", CheckState.WARNING, "not enforced"),
        (
            {"node": node(containers="none: no podman")},
            "podman",
            CheckState.WARNING,
            "can't go here: no podman",
        ),
        ({"node": node(containers="podman")}, "podman", CheckState.SKIPPED, "being tried"),
    ],
)
def test_links(changes: dict[str, Any], name: str, outcome: CheckState, said: str) -> None:
    found = look(name, **changes)
    assert found.outcome is outcome and said in found.message
    assert bool(found.remedy) is (outcome in (CheckState.WARNING, CheckState.BROKEN))


def test_a_yard_whose_gpus_are_split_otherwise_needs_no_simulated_ones() -> None:
    told = node("0", "0", no_gpus="GPU 1 is whole, and with the MIG strategy single all GPUs must be split")
    assert "gpuyard node mig apply" in look("gpus", node=told).remedy
    told["metadata"]["labels"] = {}
    assert "gpuyard up --simulate" in look("gpus", node=told).remedy


async def test_progress_starts_nothing(tmp_path: Path) -> None:
    paths = YardPaths(tmp_path / "data", tmp_path / "run")
    facts = await look_at_yard(paths, RegistryFact(), {}, Progress())
    assert (facts.pid, facts.folder) == (0, None)
    assert isinstance(facts.api, errors.YardStopped) and facts.free_bytes > 0
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    facts = await look_at_yard(YardPaths(tmp_path / "data", tmp_path / "run"), RegistryFact(), {}, Progress())
    assert isinstance(facts.folder, errors.YardError)
    assert judge(facts).first_broken == check(judge(facts), "folder")


def test_mistakes_in_the_file_of_unhealthy_gpus_are_told() -> None:
    found = look("gpus", health_mistakes=("there is no GPU '9'",))
    assert found.outcome is CheckState.WARNING
    assert "simulated-health.json has mistakes: there is no GPU '9'" in found.message
    assert "mend /data/simulated-health.json" in found.remedy


async def test_the_file_of_unhealthy_gpus_is_looked_at(tmp_path: Path) -> None:
    paths = YardPaths(tmp_path, tmp_path / "run")
    paths.runtime_dir.mkdir(mode=0o700)
    paths.settings.write_text('{"simulate": "H100:2"}')
    save_running(paths.running, RUNNING)
    paths.simulated_health.write_text('{"unhealthy": {"2": "XID 79"}}')
    facts = await look_at_yard(paths, RegistryFact(), {}, Progress())
    assert [mistake.partition(":")[0] for mistake in facts.health_mistakes] == ["there is no GPU '2'"]
    # Of several nodes the mistake's is named.
    paths.settings.write_text('{"simulate": "H100:8,H100:2"}')
    save_running(paths.running, replace(RUNNING, further_agents={"vm-2": 12}))
    second = paths.of_node(2).simulated_health
    second.parent.mkdir(parents=True)
    second.write_text('{"unhealthy": {"2": "XID 79"}}')
    [mistake] = (await look_at_yard(paths, RegistryFact(), {}, Progress())).health_mistakes
    assert mistake.startswith("there is no GPU '2'") and mistake.endswith("(node vm-2)")
