from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gpuyard.kube.references import expand_references
from gpuyard.workloads.gang import environment, subdomain, with_torchrun
from gpuyard.workloads.pod_failure_policy import EXIT_MISSING, EXIT_WITH_ANOTHER, retry_fields
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun, Script
from gpuyard.workloads.spec.gpu_request import GpuRequest
from gpuyard.workloads.spec.run_spec import RunSpec


def spec_of(*run: str, nodes: int = 2, gpus: int = 0, **more: Any) -> RunSpec:
    return RunSpec(run=run, nodes=nodes, gpus=GpuRequest(gpus), **more)


def values(spec: RunSpec, name: str = "train") -> dict[str, str]:
    return {v["name"]: v.get("value", "a field") for v in environment(name, "ml", spec)}


def test_a_bare_torchrun_finds_everything() -> None:
    found = values(spec_of("torchrun", "train.py", nodes=4, gpus=8, start_within=timedelta(hours=1)))
    assert found["PET_NNODES"] == "4"
    assert found["PET_NPROC_PER_NODE"] == "8"
    assert found["PET_MASTER_ADDR"] == found["MASTER_ADDR"] == "train-0.train"
    assert found["PET_MASTER_PORT"] == found["MASTER_PORT"]
    assert 20_000 <= int(found["MASTER_PORT"]) < 30_000
    assert found["GPUYARD_GANG"] == f"4 train-0.train {found['MASTER_PORT']} 3600"
    assert "RANK" not in found, "torchrun's own processes have it"


def test_a_pod_of_one_process_is_a_rank() -> None:
    for gpus in (0, 1):
        found = values(spec_of("train.py", nodes=3, gpus=gpus))
        assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == ("a field", "3", "0")


def test_runs_of_one_machine_meet_at_different_ports() -> None:
    spec = spec_of("train.py")
    assert len({values(spec, f"train-{number}")["MASTER_PORT"] for number in range(20)}) > 15


@pytest.mark.parametrize(("least", "count"), [(None, 4), (2, 2)])
def test_a_scheduler_is_told_of_all_pods(least: int | None, count: int) -> None:
    """Shapes of Kubernetes 1.37: k8s.io/api `scheduling/v1beta1` and `core/v1` (PodSchedulingGroup)."""
    spec = spec_of("train.py", nodes=4, least_nodes=least, priority="gpuyard-high")
    plain = render(ResolvedRun(spec, "train", "ml", image="i"))
    *_, service, group, job = render(ResolvedRun(spec, "train", "ml", image="i", has_pod_group=True))
    assert service["kind"] == "Service"
    assert group == {
        "apiVersion": "scheduling.k8s.io/v1beta1",
        "kind": "PodGroup",
        "metadata": {"name": "train", "namespace": "ml", "labels": {"gpuyard.io/run": "train"}},
        # The scheduler takes pods only of their group's priority.
        "spec": {
            "schedulingPolicy": {"gang": {"minCount": count}},
            "priorityClassName": job["spec"]["template"]["spec"]["priorityClassName"],
        },
    }
    assert job["spec"]["template"]["spec"].pop("schedulingGroup") == {"podGroupName": "train"}
    assert job == plain[-1], "the launchers wait for one another all the same"


def test_one_pod_has_none_of_it() -> None:
    spec = spec_of("train.py", nodes=1, gpus=8)
    assert environment("train", "ml", spec) == []
    assert with_torchrun(["python3", "train.py"], spec) == ["python3", "train.py"]
    [job] = render(ResolvedRun(spec, "train", "ml", image="i"))[1:]
    assert "completions" not in job["spec"]


@pytest.mark.parametrize(
    ("run", "gpus", "started"),
    [
        (("train.py", "-x"), 2, ["python3", "-m", "torch.distributed.run", "train.py", "-x"]),
        (("train.py",), 1, ["python3", "train.py"]),
        (("python", "train.py"), 2, ["python", "train.py"]),
        (("torchrun", "train.py"), 2, ["torchrun", "train.py"]),
    ],
)
def test_a_script_on_several_gpus_is_started_by_torchrun(
    run: tuple[str, ...], gpus: int, started: list[str]
) -> None:
    launcher = {"launcher.py": "a", "launcher_gang.py": "b"}
    job = render(ResolvedRun(spec_of(*run, gpus=gpus), "t", "ml", image="i", launcher=launcher))[-1]
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert [expand_references(word, {}) for word in command][-len(started) :] == started


def test_a_script_that_travels_too_and_its_modules_are_found() -> None:
    script = Script("src/train.py", "")
    run = ResolvedRun(spec_of("src/train.py", gpus=2), "t", "ml", image="i", script=script, launcher={})
    command = render(run)[-1]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[2:] == ["--pythonpath", "src:.", "--", "python3", "-m", "torch.distributed.run",
                           "/etc/gpuyard/run/train.py"]  # fmt: skip


def test_the_service_begins_with_a_letter() -> None:
    assert (subdomain("train"), subdomain("7b")) == ("train", "run-7b")
    service, job = render(ResolvedRun(spec_of("a"), "7b", "ml", image="i"))[-2:]
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"] == "run-7b"
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("retries", [0, 3])
def test_only_the_pod_that_failed_counts(retries: int) -> None:
    rules = retry_fields(retries, is_gang=True)["podFailurePolicy"]["rules"]
    assert rules[1] == {
        "action": "Ignore",
        "onExitCodes": {"operator": "In", "values": [EXIT_WITH_ANOTHER]},
    }
    assert rules[2] == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [EXIT_MISSING]}}


def test_an_elastic_run_says_between_what() -> None:
    spec = spec_of("torchrun", "train.py", nodes=4, gpus=8, least_nodes=2)
    found = values(spec)
    assert found["PET_NNODES"] == "2:4"
    port = int(found["MASTER_PORT"])
    assert found["GPUYARD_GANG"] == f"2..4 train-0.train {port - 1} 600"
    assert not {"PET_NODE_RANK", "RANK", "WORLD_SIZE"} & found.keys(), "its launcher says them at each start"
    job = render(ResolvedRun(spec, "train", "ml", image="i"))[-1]
    assert job["metadata"]["annotations"]["gpuyard.io/nodes"] == "2..4"
    assert job["spec"]["template"]["metadata"]["annotations"]["gpuyard.io/gang-size"] == "2"
    assert job["spec"] | {"completions": 4, "parallelism": 4} == job["spec"]
    assert job["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}


def test_a_pod_that_is_scaled_away_fails_no_elastic_run() -> None:
    rules = retry_fields(0, is_gang=True, is_elastic=True)["podFailurePolicy"]["rules"]
    assert rules[-1] == {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0, 137]}}
