from __future__ import annotations

from typing import Any

import pytest

from gpuyard import errors
from gpuyard.kube.objects import JOBS
from gpuyard.kube.wellknown import ANNOTATION_OOM_CAUSE, ANNOTATION_OOM_KILLS, ANNOTATION_SUBMITTED_AT
from gpuyard.runs.run import Run, exit_code_of, find_meant_run, find_run, find_runs, make_run, oom_text
from gpuyard.runs.target import Target


def run_of(
    condition: str, phase: str, exit_code: int | None, *, pod_reason: str = "", **annotations: str
) -> Run:
    terminated = {"exitCode": exit_code, "finishedAt": "2026-01-31T12:00:00Z"}
    status: dict[str, Any] = {"phase": phase, "reason": pod_reason}
    if exit_code is not None:
        status["containerStatuses"] = [{"name": "main", "state": {"terminated": terminated}}]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "1", "controller": True}
    metadata = {"name": "a-x", "creationTimestamp": "2026-01-31T11:00:00Z", "ownerReferences": [owner]}
    pod = {"metadata": metadata, "spec": {"nodeName": "n"}, "status": status}
    job = {
        "metadata": {
            "name": "a",
            "uid": "1",
            "creationTimestamp": "2026-01-31T11:00:00Z",
            "labels": {"gpuyard.io/run": "a"},
            "annotations": annotations,
        },
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}},
        "status": {"conditions": [{"type": condition, "status": "True"}]},
    }
    return make_run(job, [pod])


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (run_of("Complete", "Succeeded", 0), 0),
        (run_of("Failed", "Failed", 3), 3),
        (run_of("Failed", "Failed", None), 125),
        (run_of("Failed", "Failed", 143, **{"gpuyard.io/stopped-at": "2026-01-31T11:59:00Z"}), 143),
        # It took SIGTERM as the wish to end, and ended well: the run is no success for that.
        (run_of("Failed", "Failed", 0, **{"gpuyard.io/stopped-at": "2026-01-31T11:59:00Z"}), 125),
        (run_of("Failed", "Succeeded", 0, **{"gpuyard.io/stopped-at": "2026-01-31T11:59:00Z"}), 125),
        (run_of("Failed", "Failed", 0), 125),
        (run_of("Failed", "Failed", 0, pod_reason="DeadlineExceeded"), 124),
        (run_of("Failed", "Failed", 143, pod_reason="DeadlineExceeded"), 143),
        (run_of("Failed", "Failed", None, pod_reason="DeadlineExceeded"), 124),
    ],
)
def test_the_exit_code_is_that_of_the_process_unless_that_says_success_and_the_run_has_none(
    run: Run, code: int
) -> None:
    assert exit_code_of(run) == code


def test_what_was_killed_for_memory_is_told_of_a_run_that_went_well() -> None:
    run = run_of("Complete", "Succeeded", 0)
    assert oom_text(run) == ""
    run.pods[0]["metadata"]["annotations"] = {ANNOTATION_OOM_KILLS: "2", ANNOTATION_OOM_CAUSE: "limit"}
    assert oom_text(run) == (
        "the kernel killed 2 of its processes for lack of memory: it reached its memory limit; "
        "raise --memory, or use less (fewer workers, smaller batches)"
    )


@pytest.fixture
async def trained(target: Target) -> Target:
    """Where runs are, of which two were submitted in one second."""
    container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
    spec = {"runtimeClassName": "gpuyard-process", "restartPolicy": "Never", "containers": [container]}
    for name, second in (("b-train", "1"), ("train", "2"), ("train-2", "3"), ("a", "4")):
        metadata = {
            "name": name,
            "labels": {"gpuyard.io/run": name},
            "annotations": {ANNOTATION_SUBMITTED_AT: f"2026-01-31T12:00:00.{second}Z"},
        }
        raw = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
        await target.api.create(JOBS, raw | {"spec": {"template": {"spec": spec}}}, "default")
    return target


@pytest.mark.parametrize(
    ("typed", "name"), [("train", "train"), ("train-", "train-2"), ("b", "b-train"), ("@", "a")]
)
async def test_a_run_is_meant_by_its_name_the_beginning_of_it_or_as_the_last(
    trained: Target, typed: str, name: str
) -> None:
    assert (await find_meant_run(trained, typed)).name == name


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("trai", "2 runs in namespace default have names that begin with 'trai': train, train-2"),
        ("trian", "no run 'trian' in namespace default"),
        ("", "no run ''"),
        ("a" * 99, "no run 'aaa"),
        ("t/x,y", "no run 't/x,y'"),
    ],
)
async def test_who_means_no_run_is_told(trained: Target, typed: str, message: str) -> None:
    with pytest.raises(errors.UsageError) as raised:
        await find_meant_run(trained, typed)
    assert raised.value.message.startswith(message) and raised.value.remedy


async def test_without_a_run_there_is_no_last_one(target: Target) -> None:
    with pytest.raises(errors.UsageError, match="there is no run in namespace default"):
        await find_meant_run(target, "@")


async def test_what_waits_for_a_run_does_not_take_another_for_it(trained: Target) -> None:
    with pytest.raises(errors.UsageError, match="no run 'train-'"):
        await find_run(trained, "train-")


async def test_a_run_that_is_meant_twice_is_found_once(trained: Target) -> None:
    assert [run.name for run in await find_runs(trained, ["a", "@", "train", "a"])] == ["a", "train"]
    with pytest.raises(errors.UsageError, match="no run 'x' in namespace default; 2 runs") as raised:
        await find_runs(trained, ["x", "a", "trai"])
    assert raised.value.remedy.startswith("nothing was done; ")
