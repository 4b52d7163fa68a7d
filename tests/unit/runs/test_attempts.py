"""What is still known of attempts that others ended, by their pods and by events."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.objects import EVENTS, JOBS, NODES, PODS, Manifest
from gpuyard.runs.attempts import LostAttempt, gone_attempts, is_cut_short, lost_attempt
from gpuyard.runs.description import describe_run
from gpuyard.runs.explaining.explanation import explain_with_output
from gpuyard.runs.run import find_run, list_runs
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import Reason

NOW = "2026-01-31T12:00:00Z"
LABELS = {"gpuyard.io/run": "a"}
CONTAINER = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
POD_SPEC = {"runtimeClassName": "gpuyard-process", "restartPolicy": "Never", "containers": [CONTAINER]}
URGENT = {"kind": "Pod", "namespace": "team-b", "name": "urgent-x"}


@pytest.fixture
async def job(target: Target) -> Manifest:
    """Of the run a, whose controller has begun."""
    template = {"metadata": {"labels": LABELS}, "spec": POD_SPEC}
    raw = {"metadata": {"name": "a", "labels": LABELS}, "spec": {"template": template}}
    await target.api.create(JOBS, {"apiVersion": "batch/v1", "kind": "Job", **raw}, "default")
    return await target.api.patch(JOBS, "a", {"status": {"startTime": NOW}}, "default", subresource="status")


async def tell(target: Target, about: dict[str, Any], reason: str, message: str = "", **fields: Any) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "e-", "namespace": "default"},
        "involvedObject": {"namespace": "default", **about},
        "reason": reason,
        "message": message,
        "type": "Normal",
        "lastTimestamp": NOW,
        **fields,
    }
    await target.api.create(EVENTS, event, "default")


async def made(target: Target, job: Manifest, pod: str) -> None:
    about = {"kind": "Job", "name": "a", "uid": job["metadata"]["uid"]}
    await tell(target, about, "SuccessfulCreate", f"Created pod: {pod}")


def of(pod: str) -> dict[str, Any]:
    return {"kind": "Pod", "name": pod}


async def preempted(target: Target, job: Manifest) -> None:
    await made(target, job, "a-1")
    await tell(target, of("a-1"), "Preempted", "Preempted by pod u on node n", related=URGENT)


BY_WHOM = "a pod of higher priority took its place (pod team-b/urgent-x)"


async def test_events_name_who_preempted_a_pod_that_is_gone(target: Target, job: Manifest) -> None:
    await preempted(target, job)
    [found] = await gone_attempts(target, job, [])
    assert found == LostAttempt("a-1", Reason.PREEMPTED, BY_WHOM, "", NOW)
    assert found.text == f"preempted: {BY_WHOM}"
    assert await gone_attempts(target, job, [{"metadata": {"name": "a-1"}}]) == []


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_preemptor_is_found_by_its_uid(target: Target, job: Manifest, is_there: bool) -> None:
    spec = {**POD_SPEC, "nodeName": "node.b"}
    raw = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "urgent-x"}, "spec": spec}
    uid = (await target.api.create(PODS, raw, "default"))["metadata"]["uid"] if is_there else "u-9"
    await made(target, job, "a-1")
    await tell(target, of("a-1"), "Preempted", f"Preempted by pod {uid} on node node.b")
    [found] = await gone_attempts(target, job, [])
    assert found.message.endswith("(pod default/urgent-x)" if is_there else "(pod u-9)")


async def test_a_run_without_a_pod_says_what_became_of_its_last_one(target: Target, job: Manifest) -> None:
    await preempted(target, job)
    [listed] = await list_runs(target)
    found = await find_run(target, "a")
    for run in (listed, found):
        assert (run.state.state, run.state.reason) == ("pending", "Preempted")
        assert run.state.message == f"the next attempt starts soon; the last one was preempted: {BY_WHOM}"
    answer = await explain_with_output(target, found)
    assert f"before that, an attempt was preempted: {BY_WHOM}" in answer.lines()
    assert answer.to_json()["gone"] == [
        {"pod": "a-1", "reason": "Preempted", "message": BY_WHOM, "node": None, "ended_at": NOW}
    ]
    [attempt] = (await describe_run(target, await find_run(target, "a"))).to_json()["attempts"]
    assert (attempt["pod"], attempt["reason"], attempt["message"]) == ("a-1", "Preempted", BY_WHOM)


async def test_a_success_whose_pod_others_deleted_may_be_none(target: Target, job: Manifest) -> None:
    await preempted(target, job)
    done = [{"type": type_, "status": "True"} for type_ in ("SuccessCriteriaMet", "Complete")]
    status = {"conditions": done, "completionTime": NOW}
    await target.api.patch(JOBS, "a", {"status": status}, "default", subresource="status")
    state = (await find_run(target, "a")).state
    assert (state.state, state.message) == (
        "succeeded",
        f"its process ended with 0 when it was told to end: {BY_WHOM}",
    )


async def test_a_pod_that_is_there_still_says_by_whom(target: Target, job: Manifest) -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": job["metadata"]["uid"]}
    metadata = {"name": "a-1", "labels": LABELS, "ownerReferences": [owner | {"controller": True}]}
    made_pod = await target.api.create(
        PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": POD_SPEC}, "default"
    )
    cut = {"phase": "Failed", "conditions": pod("Failed", "DisruptionTarget")["status"]["conditions"]}
    await target.api.patch(PODS, "a-1", {"status": cut}, "default", subresource="status")
    await tell(target, {**of("a-1"), "uid": made_pod["metadata"]["uid"]}, "Preempted", related=URGENT)
    [attempt] = (await describe_run(target, await find_run(target, "a"))).to_json()["attempts"]
    assert (attempt["phase"], attempt["reason"], attempt["message"]) == ("Failed", "Preempted", BY_WHOM)


@pytest.mark.parametrize("cordoned", [True, False])
async def test_a_deleted_pod_of_a_cordoned_node_was_drained(
    target: Target, job: Manifest, cordoned: bool
) -> None:
    await target.api.create(NODES, {"metadata": {"name": "n"}, "spec": {"unschedulable": cordoned}})
    await made(target, job, "a-1")
    await tell(target, of("a-1"), "Killing", source={"component": "kubelet", "host": "n"})
    [found] = await gone_attempts(target, job, [])
    drained = LostAttempt("a-1", Reason.DRAINED, "its node n takes no new pods", "n", NOW)
    assert found == (drained if cordoned else LostAttempt("a-1", None, "", "n", NOW))


@pytest.mark.parametrize(
    ("reason", "message", "found"),
    [
        ("Evicted", "The node was low on resource: memory.", "The node was low on resource: memory."),
        ("TaintManagerEviction", "Marking for deletion", "its node got a taint (NoExecute)"),
    ],
)
async def test_what_other_events_tell(
    target: Target, job: Manifest, reason: str, message: str, found: str
) -> None:
    await made(target, job, "a-1")
    await tell(target, of("a-1"), reason, message)
    [attempt] = await gone_attempts(target, job, [])
    assert attempt.reason is Reason.EVICTED and found in attempt.message


async def test_a_taint_that_went_again_in_time_evicted_nobody(target: Target, job: Manifest) -> None:
    await made(target, job, "a-1")
    await tell(target, of("a-1"), "TaintManagerEviction", "Cancelling deletion of Pod default/a-1")
    [attempt] = await gone_attempts(target, job, [])
    assert (attempt.reason, attempt.text) == (None, "deleted")


def pod(phase: str, *conditions: str, **status: Any) -> Manifest:
    written = [{"type": type_, "status": "True", "reason": "PreemptionByScheduler"} for type_ in conditions]
    metadata = {"name": "a-1", "uid": "u-1"}
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase, "conditions": written, **status}}


async def test_of_a_pod_that_is_there_too(target: Target) -> None:
    cut = pod("Failed", "Initialized", "DisruptionTarget")
    await tell(target, {**of("a-1"), "uid": "u-1"}, "Preempted", related=URGENT)
    assert await lost_attempt(target, cut) == LostAttempt("a-1", Reason.PREEMPTED, BY_WHOM)
    refused = pod("Failed", reason="UnexpectedAdmissionError", message="Pod was rejected: boom")
    attempt = await lost_attempt(target, refused)
    assert attempt.text == "refused by its node: Pod was rejected: boom"


@pytest.mark.parametrize(
    ("ended", "is_gone", "cut"),
    [
        (pod("Failed", "Initialized"), False, False),
        (pod("Running", "Initialized", "DisruptionTarget"), False, False),
        (pod("Running", "Initialized", "DisruptionTarget"), True, True),
        (pod("Failed", "Initialized", "DisruptionTarget"), False, True),
        (pod("Failed"), False, True),
        (pod("Running", "Initialized"), True, False),
    ],
)
def test_which_attempts_are_cut_short(ended: Manifest, is_gone: bool, cut: bool) -> None:
    assert is_cut_short(ended, is_gone=is_gone) == cut


async def test_no_pod_so_far_is_no_lost_attempt(target: Target, job: Manifest) -> None:
    run = await find_run(target, "a")
    assert (run.state.reason, run.state.message) == ("WaitingForPod", "it has no pod yet")
    assert (await target.api.list(PODS, "default")).items == []
