"""Every state and reason, from Jobs and pods as a yard and a real cluster write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.pods import PULL_REASONS
from gpuyard.workloads.pod_failure_policy import retry_fields
from gpuyard.workloads.run_state import ElasticPods, Reason, RunState, State, run_state

#: The condition of a Job that has no attempt left.
TRIED = ("Failed", "BackoffLimitExceeded")
SUSPENDED_BY_STOP = {
    "gpuyard.io/stopped-at": "2026-01-31T12:30:00Z",
    "gpuyard.io/stopped-by": "suspending",
}
STOPPED = {"gpuyard.io/stopped-at": "2026-01-31T12:30:00Z"}


def job(
    *conditions: str | tuple[str, str],
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    written = [
        {"type": condition[0], "status": "True", "reason": condition[1], "message": f"Job: {condition[1]}",
         "lastTransitionTime": "2026-01-31T13:00:00Z"}
        for condition in ((c, "") if isinstance(c, str) else c for c in conditions)
    ]  # fmt: skip
    container = {"name": "main", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
    return {
        "metadata": {
            "name": "train-x", "uid": "u", "labels": {"gpuyard.io/run": "train-x"},
            "annotations": annotations or {}, "creationTimestamp": "2026-01-31T12:00:00Z",
        },
        "spec": {"backoffLimit": 0, "completions": 1, "parallelism": 1,
                 "template": {"spec": {"containers": [container], "priorityClassName": "high"}}, **spec},
        "status": {"conditions": written, **(status or {})},
    }  # fmt: skip


def pod(
    phase: str = "Pending",
    *,
    node: str | None = "node-a",
    state: dict[str, Any] | None = None,
    index: int | None = None,
    created: str = "12:00:01",
    **status: Any,
) -> dict[str, Any]:
    annotations = {} if index is None else {"batch.kubernetes.io/job-completion-index": str(index)}
    return {
        "metadata": {"name": f"p-{created}-{index}", "annotations": annotations,
                     "creationTimestamp": f"2026-01-31T{created}Z"},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": state}] if state else [],
                   **status},
    }  # fmt: skip


def terminated(code: int, at: str = "12:10:00", reason: str = "Error", **more: Any) -> dict[str, Any]:
    times = {"startedAt": "2026-01-31T12:05:00Z", "finishedAt": f"2026-01-31T{at}Z"}
    return {"terminated": {"exitCode": code, "reason": reason, **times, **more}}


def failed(code: int, at: str = "12:10:00", **more: Any) -> dict[str, Any]:
    return pod("Failed", state=terminated(code, at, **more.pop("ended", {})), **more)


def condition(type_: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": type_, "status": "False", "reason": reason, "message": message}]}


def disrupted(reason: str, ready: str = "True") -> dict[str, Any]:
    target = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "in its own words"}
    return {"conditions": [{"type": "Ready", "status": ready}, target]}


POLICY = retry_fields(0)
RUNNING = {"running": {"startedAt": "2026-01-31T12:05:00Z"}}
SUCCEEDED = pod("Succeeded", state=terminated(0, reason="Completed"))


def of_gang(one: dict[str, Any]) -> dict[str, Any]:
    one["metadata"]["annotations"] |= {"gpuyard.io/gang-size": "2"}
    return one


def with_idle(one: dict[str, Any]) -> dict[str, Any]:
    one["spec"]["containers"] = [{"name": "main", "env": [{"name": "GPUYARD_IDLE_S", "value": "60"}]}]
    return one


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": f"because {reason}"}}


CASES = {
    "no pod yet": (job(), [], "pending", "WaitingForPod", None),
    "all ended with another that is gone": (
        job(("Failed", "PodFailurePolicy"), completions=2), [of_gang(failed(193, index=0))],
        "failed", "EndedWithAnother", 193),
    "nobody used it": (
        job(("Failed", "PodFailurePolicy")), [with_idle(failed(194))], "failed", "Unused", 194),
    "another was never there": (
        job(("Failed", "PodFailurePolicy"), completions=2), [of_gang(failed(195, index=0))],
        "failed", "RankMissing", 195),
    "suspended": (job(suspend=True), [], "pending", "Suspended", None),
    "new pod": (job(), [pod(node=None)], "pending", "WaitingForScheduler", None),
    "unschedulable": (
        job(), [pod(node=None, **condition("PodScheduled", "Unschedulable", "0/1 nodes"))],
        "pending", "Unschedulable", None),
    "gated": (
        job(), [pod(node=None, **condition("PodScheduled", "SchedulingGated"))],
        "pending", "SchedulingGated", None),
    "bound": (job(), [pod()], "starting", "Starting", None),
    "creating": (job(), [pod(state=waiting("ContainerCreating"))], "starting", "Starting", None),
    "pulling fails": (job(), [pod(state=waiting("ImagePullBackOff"))], "starting", "ImagePull", None),
    "container can't be made": (
        job(), [pod(state=waiting("CreateContainerConfigError"))], "starting", "StartError", None),
    "restarts in place": (
        job(), [pod("Running", state=waiting("CrashLoopBackOff"))], "pending", "BackOff", None),
    "running": (job(), [pod("Running", state=RUNNING)], "running", "Running", None),
    "ended, pod still pending": (job(), [pod(state=terminated(3))], "running", "Running", None),
    "ended while it was deleted": (
        job(), [{**SUCCEEDED, "metadata": {"name": "p", "deletionTimestamp": "2026-01-31T12:10:00Z"}}],
        "pending", "WaitingForPod", None),
    "ended, Job still open": (job(), [SUCCEEDED], "succeeded", "Completed", 0),
    "complete": (job("Complete"), [SUCCEEDED], "succeeded", "Completed", 0),
    "complete, pods gone": (job("Complete"), [], "succeeded", "Completed", None),
    "exit 3": (job(TRIED), [failed(3)], "failed", "ExitCode", 3),
    "exit 3, Job still open": (job(), [failed(3)], "failed", "ExitCode", 3),
    "exit 3, one more try": (job(backoffLimit=1), [failed(3)], "pending", "BackOff", None),
    "second attempt runs": (
        job(backoffLimit=1), [failed(3), pod("Running", state=RUNNING, created="12:20:00")],
        "running", "Running", None),
    "second attempt succeeds": (
        job("Complete", backoffLimit=1),
        [failed(3), pod("Succeeded", state=terminated(0, "12:30:00"), created="12:20:00")],
        "succeeded", "Completed", 0),
    "both attempts fail": (
        job(TRIED, backoffLimit=1),
        [failed(4, created="12:20:00", at="12:30:00"), failed(3)], "failed", "ExitCode", 4),
    "SIGKILL": (job(TRIED), [failed(137)], "failed", "Signal", 137),
    "signal field": (
        job(TRIED), [failed(0, ended={"signal": 11})], "failed", "Signal", 139),
    "exit 255 is no signal": (job(TRIED), [failed(255)], "failed", "ExitCode", 255),
    "out of memory": (
        job(TRIED), [failed(137, ended={"reason": "OOMKilled"})],
        "failed", "OOMKilled", 137),
    "not startable": (
        job(TRIED), [failed(128, ended={"reason": "StartError"})],
        "failed", "StartError", 128),
    "refused by the node": (
        job(TRIED), [pod("Failed", reason="UnexpectedAdmissionError")],
        "failed", "StartError", None),
    "deadline of the pod": (
        job(TRIED), [failed(143, reason="DeadlineExceeded")],
        "failed", "DeadlineExceeded", 143),
    "deadline of the Job": (job(("Failed", "DeadlineExceeded")), [], "failed", "DeadlineExceeded", None),
    "evicted": (job(TRIED), [failed(137, reason="Evicted")], "failed", "Evicted", 137),
    "preempted": (
        job(TRIED), [failed(143, **disrupted("PreemptionByScheduler"))], "failed", "Preempted", 143),
    "no disruption any more": (
        job(TRIED), [failed(143, **condition("DisruptionTarget", "PreemptionByScheduler"))],
        "failed", "Signal", 143),
    "being preempted": (
        job(), [pod("Running", state=RUNNING, **disrupted("PreemptionByScheduler"))],
        "running", "Preempted", None),
    "drained, made again": (
        job(**POLICY), [failed(143, **disrupted("EvictionByEvictionAPI"))], "pending", "Drained", None),
    "evicted, made again": (
        job(**POLICY), [failed(137, reason="Evicted", **disrupted("TerminationByKubelet"))],
        "pending", "Evicted", None),
    "tainted": (
        job(**POLICY), [failed(137, **disrupted("DeletionByTaintManager"))], "pending", "Evicted", None),
    "on a node that doesn't answer": (
        job(), [pod("Running", state=RUNNING, **disrupted("DeletionByTaintManager", ready="False"))],
        "running", "NodeLost", None),
    "refused, made again": (
        job(**POLICY), [pod("Failed", reason="UnexpectedAdmissionError")], "pending", "BackOff", None),
    "failed by a rule, Job still open": (job(**POLICY), [failed(3)], "failed", "ExitCode", 3),
    "rebooted": (
        job(TRIED), [pod("Failed", reason="NodeRebooted")],
        "failed", "NodeRebooted", None),
    "node lost": (
        job(TRIED), [failed(137, ended={"reason": "ContainerStatusUnknown"})],
        "failed", "NodeLost", None),
    "failed without a pod": (job(TRIED), [], "failed", "JobFailed", None),
    "failed for no known reason": (job(("Failed", "X")), [pod("Failed")], "failed", "JobFailed", None),
    "stop asked, still running": (
        job(annotations=STOPPED), [pod("Running", state=RUNNING)], "running", "Stopping", None),
    "stop asked, pod over, Job open": (
        job(annotations=STOPPED), [failed(143, reason="DeadlineExceeded")], "running", "Stopping", None),
    "stopped": (
        job(TRIED, annotations=STOPPED), [failed(143, reason="DeadlineExceeded")],
        "stopped", "StoppedByUser", 143),
    "a shell that was left": (
        job(TRIED, annotations=STOPPED | {"gpuyard.io/shell-exit-code": "0"}),
        [failed(143, reason="DeadlineExceeded")], "succeeded", "Completed", 0),
    "a shell that was left with a code of its own": (
        job(TRIED, annotations=STOPPED | {"gpuyard.io/shell-exit-code": "9"}),
        [failed(143, reason="DeadlineExceeded")], "failed", "ExitCode", 9),
    "what anybody wrote for a shell's code": (
        job(TRIED, annotations=STOPPED | {"gpuyard.io/shell-exit-code": "no"}),
        [failed(143, reason="DeadlineExceeded")], "stopped", "StoppedByUser", 143),
    "stopped, ended by itself with 0": (
        job(TRIED, annotations=STOPPED), [failed(0, reason="DeadlineExceeded")],
        "stopped", "StoppedByUser", 0),
    "stopped before it started": (
        job(annotations=STOPPED, suspend=True), [], "stopped", "StoppedByUser", None),
    "stopping before it started": (
        job(annotations=STOPPED, suspend=True), [pod(node=None)], "pending", "Stopping", None),
    "stopped before it started, then resumed": (
        job(annotations=SUSPENDED_BY_STOP), [], "pending", "WaitingForPod", None),
    "stopped before it started, then resumed, runs": (
        job(annotations=SUSPENDED_BY_STOP), [pod("Running", state=RUNNING)], "running", "Running", None),
    "stopped before it started, then resumed, fails": (
        job(TRIED, annotations=SUSPENDED_BY_STOP), [failed(3)], "failed", "ExitCode", 3),
    "stopped before it started, says by what": (
        job(annotations=SUSPENDED_BY_STOP, suspend=True), [], "stopped", "StoppedByUser", None),
    "stopped between attempts": (
        job(annotations=STOPPED, suspend=True, backoffLimit=3), [failed(3)], "stopped", "StoppedByUser", 3),
    "finished before the stop took hold": (
        job("Complete", annotations=STOPPED), [SUCCEEDED], "succeeded", "Completed", 0),
    "first failing rank": (
        job(TRIED, completions=3, parallelism=3),
        [failed(143, "12:10:02", index=0), failed(7, "12:10:00", index=1), failed(143, "12:10:01", index=2)],
        "failed", "ExitCode", 7),
    "one rank still starts": (
        job(completions=2, parallelism=2), [pod("Running", state=RUNNING, index=0), pod(index=1)],
        "starting", "Starting", None),
    "one rank done": (
        job(completions=2, parallelism=2),
        [pod("Running", state=RUNNING, index=0), pod("Succeeded", state=terminated(0), index=1)],
        "running", "Running", None),
    "a rank failed, the other is still alive": (
        job(completions=2, parallelism=2), [pod("Running", state=RUNNING, index=0), failed(1, index=1)],
        "running", "Running", None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_state(case: tuple[dict[str, Any], list[dict[str, Any]], str, str, int | None]) -> None:
    manifest, pods, state, reason, exit_code = case
    run = run_state(manifest, pods)
    assert (run.state, run.reason, run.exit_code) == (state, reason, exit_code)
    assert run_state(manifest, pods[::-1]) == run, "the order of pods doesn't matter"


def test_every_reason_has_a_case() -> None:
    assert {case[3] for case in CASES.values()} == set(Reason)


@pytest.mark.parametrize("reason", sorted(PULL_REASONS))
def test_whatever_keeps_an_image_away_is_no_start(reason: str) -> None:
    state = run_state(job(), [pod(state=waiting(reason))])
    assert (state.state, state.reason) == (State.STARTING, Reason.IMAGE_PULL)


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("ErrImagePull", Reason.IMAGE_PULL),
        ("CreateContainerConfigError", Reason.START_ERROR),
        ("CrashLoopBackOff", Reason.BACK_OFF),
        ("PodInitializing", Reason.STARTING),
    ],
)
def test_what_holds_an_init_container_holds_the_run(reason: str, found: Reason) -> None:
    """The others wait with PodInitializing meanwhile, those of later init containers, too."""
    inits = [{"name": "a", "state": waiting(reason)}, {"name": "b", "state": waiting("PodInitializing")}]
    state = run_state(job(), [pod(state=waiting("PodInitializing"), initContainerStatuses=inits)])
    assert (state.reason, state.message) == (found, f"because {reason}")


def test_messages_carry_the_details() -> None:
    def message(name: str) -> str:
        return run_state(*CASES[name][:2]).message

    assert message("unschedulable") == "0/1 nodes"
    assert message("pulling fails") == "because ImagePullBackOff"
    assert message("SIGKILL") == "ended by SIGKILL"
    assert message("exit 3") == "exited with 3"
    assert message("exit 3, one more try") == "the next attempt starts soon; the last one: exited with 3"
    runc = {"message": 'OCI runtime create failed: unable to start container process: exec: "x" not found'}
    not_startable = failed(128, ended={"reason": "StartError", **runc})
    assert run_state(job(TRIED), [not_startable]).message == 'exec: "x" not found'
    assert message("rebooted") == "its node rebooted"
    assert message("deadline of the Job") == "Job: DeadlineExceeded"


@pytest.mark.parametrize("reason", ["PreemptionByScheduler", "EvictionByEvictionAPI"])
def test_another_attempt_is_promised_only_where_the_job_makes_one(reason: str) -> None:
    ending = pod("Running", state=RUNNING, **disrupted(reason))
    follows = "it is being ended, and the next attempt follows"
    assert run_state(job(**POLICY), [ending]).message.endswith(follows)
    assert run_state(job(backoffLimit=1), [ending]).message.endswith(follows)
    # Of before runs had a policy, or made by others: a disruption is a failure as any.
    assert run_state(job(), [ending]).message.endswith("; it is being ended, and its Job makes no other")


def test_what_was_killed_without_a_limit_is_not_told_of_one() -> None:
    ended = failed(137, ended={"reason": "OOMKilled"})
    assert run_state(job(TRIED), [ended]).message == (
        "the kernel killed it for lack of memory: "
        "the memory of its node, or of a cgroup above its own, was used up"
    )


def test_a_schedulers_message_comes_without_its_account_of_preemption() -> None:
    said = (
        "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. no new claims to deallocate, "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    state = run_state(job(), [pod(node=None, **condition("PodScheduled", "Unschedulable", said))])
    assert state.message == "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


def test_what_ends_a_pod_before_its_container_begins() -> None:
    init = [{"name": "prepare", "state": terminated(4)}]
    state = run_state(job(TRIED), [pod("Failed", initContainerStatuses=init)])
    assert (state.reason, state.message) == (Reason.EXIT_CODE, "init container prepare exited with 4")
    full = pod("Failed", reason="OutOfnvidia.com/gpu", message="Node didn't have enough resource")
    state = run_state(job(TRIED), [full])
    assert (state.reason, state.message) == (Reason.START_ERROR, "Node didn't have enough resource")


def test_the_json_keys_are_the_documented_ones() -> None:
    run = run_state(*CASES["both attempts fail"][:2])
    assert run.to_json() == {
        "name": "train-x",
        "kind": "Job",
        "state": "failed",
        "reason": "ExitCode",
        "exit_code": 4,
        "gpus": 2,
        "gpu_resources": {"nvidia.com/gpu": 2},
        "simulated": False,
        "nodes": ["node-a"],
        "priority": "high",
        "submitted_at": "2026-01-31T12:00:00Z",
        "started_at": "2026-01-31T12:05:00Z",
        "finished_at": "2026-01-31T12:30:00Z",
        "tasks": None,
        "pods": None,
    }
    assert run.attempts == 2
    json.dumps(run.to_json())


def test_a_run_that_has_not_ended_has_no_end() -> None:
    raw = run_state(*CASES["second attempt runs"][:2]).to_json()
    assert raw["started_at"] == "2026-01-31T12:05:00Z"
    assert raw["finished_at"] is None
    assert raw["exit_code"] is None


def test_a_container_that_could_not_be_started_has_no_start() -> None:
    never = failed(128, ended={"reason": "StartError", "startedAt": "1970-01-01T00:00:00Z"})
    assert run_state(job(TRIED), [never]).started_at is None


def test_the_end_without_a_process() -> None:
    def end(name: str) -> Any:
        return run_state(*CASES[name][:2]).to_json()["finished_at"]

    assert end("stopped before it started") == "2026-01-31T12:30:00Z"
    assert end("failed without a pod") == "2026-01-31T13:00:00Z"
    done = job("Complete", status={"completionTime": "2026-01-31T14:00:00Z"})
    assert run_state(done, []).to_json()["finished_at"] == "2026-01-31T14:00:00Z"


def test_gpus_count_every_pod_that_runs_at_a_time() -> None:
    assert run_state(job(parallelism=3, completions=3), []).gpus == 6
    bare = job()
    bare["spec"]["template"]["spec"] = {"containers": [{"name": "main"}]}
    run = run_state(bare, [])
    assert (run.gpus, run.priority, run.simulated) == (0, None, False)


def test_simulated_gpus_show() -> None:
    plain = pod("Running", state=RUNNING)
    marked = pod("Running", state=RUNNING)
    marked["metadata"]["annotations"] = {"gpuyard.io/simulated": "true"}
    assert not run_state(job(), [plain]).simulated
    assert run_state(job(), [marked]).simulated
    assert run_state(job(), [plain], simulated_nodes={"node-a"}).simulated
    assert not run_state(job(), [plain], simulated_nodes={"node-b"}).simulated


def test_attempts_count_pods_that_are_gone() -> None:
    assert run_state(job(), []).attempts == 0
    gone = job(TRIED, status={"failed": 3})
    assert run_state(gone, [failed(1)]).attempts == 3


def test_a_job_without_our_label_goes_by_its_own_name() -> None:
    foreign = job()
    foreign["metadata"]["labels"] = {}
    assert run_state(foreign, []).name == "train-x"


def test_what_the_api_server_leaves_out_is_no_error() -> None:
    bare = {"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}
    run = run_state(bare, [{"metadata": {"name": "p"}, "spec": {}}])
    assert (run.state, run.submitted_at) == (State.PENDING, None)


PODS = st.lists(
    st.builds(
        pod,
        st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
        node=st.sampled_from([None, "a", "b"]),
        state=st.sampled_from([None, RUNNING, waiting("ContainerCreating"), terminated(0), terminated(1)]),
        index=st.sampled_from([None, 0, 1]),
        created=st.sampled_from(["12:00:01", "12:00:02"]),
    ),
    max_size=4,
)
JOBS = st.builds(
    job,
    st.sampled_from(["Complete", "Failed", "Suspended"]),
    annotations=st.sampled_from([None, STOPPED]),
    suspend=st.booleans(),
    backoffLimit=st.integers(0, 2),
)


@given(JOBS, PODS)
def test_any_job_with_any_pods_has_one_state(manifest: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    run: RunState = run_state(manifest, pods)
    final = run.state in (State.SUCCEEDED, State.FAILED, State.STOPPED)
    assert final or (run.exit_code is None and run.finished_at is None)
    assert (run.state is State.SUCCEEDED) == (run.reason is Reason.COMPLETED)
    assert (run.state is State.STOPPED) == (run.reason is Reason.STOPPED_BY_USER)


def test_a_time_that_somebody_wrote_by_hand_is_no_time() -> None:
    found = run_state(job(annotations={"gpuyard.io/stopped-at": "yesterday"}, suspend=True), [])
    assert (found.state, found.finished_at) == (State.STOPPED, None)


def test_the_rank_that_failed_is_named_and_not_those_that_ended_with_it() -> None:
    ended = of_gang(failed(193, "12:09:59", index=0))
    first = of_gang(failed(7, "12:10:00", index=1))
    state = run_state(job(("Failed", "PodFailurePolicy"), completions=2), [ended, first])
    assert (state.reason, state.exit_code) == (Reason.EXIT_CODE, 7)
    assert state.message == "rank 1 (pod p-12:00:01-1 on node node-a): exited with 7"


def test_a_pod_that_the_job_deletes_in_the_second_in_which_it_fails_is_not_what_failed() -> None:
    deleted = of_gang(failed(143, "12:10:00", index=0))
    deleted["metadata"]["deletionTimestamp"] = "2026-01-31T12:10:30Z"
    first = of_gang(failed(7, "12:10:00", index=1))
    state = run_state(job(("Failed", "PodFailurePolicy"), completions=2), [deleted, first])
    assert (state.reason, state.exit_code) == (Reason.EXIT_CODE, 7)


def test_the_ranks_that_were_missing_are_named() -> None:
    first, third = of_gang(failed(195, index=0)), of_gang(failed(193, index=2))
    state = run_state(job(("Failed", "PodFailurePolicy"), completions=4), [first, third])
    assert (state.reason, state.exit_code) == (Reason.RANK_MISSING, 195)
    assert state.message == "ranks 1, 3 weren't there in time, and the others gave their place back"
    state = run_state(job(("Failed", "PodFailurePolicy"), completions=4), [of_gang(failed(195, index=2))])
    assert state.message == "rank 0 wasn't there in time, and the others gave their place back"


def test_a_program_s_own_193_is_its_own() -> None:
    assert run_state(job("Failed"), [failed(193)]).message == "exited with 193"


def of_sweep(*conditions: Any, completed: str = "", failed: str = "") -> dict[str, Any]:
    status = {"completedIndexes": completed, "failedIndexes": failed}
    return job(
        *conditions, annotations={"gpuyard.io/sweep": "values"}, status=status, completions=6, parallelism=2,
        completionMode="Indexed", backoffLimitPerIndex=0,
    )  # fmt: skip


def test_a_sweep_runs_as_soon_as_one_of_its_tasks_does() -> None:
    pods = [pod(index=2), pod("Running", state=RUNNING, index=3), failed(3, index=1)]
    state = run_state(of_sweep(completed="0,4", failed="1"), pods)
    assert (state.state, state.message, state.exit_code) == (State.RUNNING, "3 of 6 done, 1 failed", None)
    assert state.to_json()["tasks"] == {"total": 6, "succeeded": 2, "failed": [1]}
    assert run_state(job(), []).to_json()["tasks"] is None


def test_a_task_that_failed_ends_no_sweep_by_itself() -> None:
    state = run_state(of_sweep(failed="1"), [failed(3, index=1)])
    assert state.state is State.PENDING


def test_a_sweep_fails_with_the_task_that_failed_first() -> None:
    ended = of_sweep(("Failed", "FailedIndexes"), completed="0,2-3,5", failed="1,4")
    state = run_state(ended, [failed(3, "12:10:02", index=1), failed(4, "12:10:01", index=4)])
    assert (state.state, state.exit_code) == (State.FAILED, 4)
    expected = "2 of 6 tasks failed (1,4): task 4 (pod p-12:00:01-4 on node node-a): exited with 4"
    assert state.message == expected


WAITS = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}


def elastic_job(nodes: str = "2..4", wanted: int = 4, status: Any = None) -> dict[str, Any]:
    metadata = {"name": "a", "annotations": {"gpuyard.io/nodes": nodes}, "uid": "u"}
    spec = {"completions": wanted, "parallelism": wanted, "template": {"spec": {"containers": []}}}
    return {"metadata": metadata, "spec": spec, "status": status or {}}


def elastic_pod(index: int, phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
    waits = phase == "Pending"
    return {
        "metadata": {"name": f"a-{index}", "annotations": annotations, **metadata},
        "spec": {} if waits else {"nodeName": "n"},
        "status": {"phase": phase, **({"conditions": [WAITS]} if waits else {})},
    }


def test_it_runs_with_those_that_are_there() -> None:
    state = run_state(
        elastic_job(), [elastic_pod(0), elastic_pod(1), elastic_pod(2), elastic_pod(3, "Pending")]
    )
    assert (str(state.state), state.message) == ("running", "3 of 4 pods; another waits: no room")
    assert state.to_json()["pods"] == {"least": 2, "most": 4, "wanted": 4, "present": 3}


def test_below_the_least_it_waits() -> None:
    state = run_state(elastic_job(), [elastic_pod(0), elastic_pod(1, "Pending")])
    assert (str(state.state), str(state.reason)) == ("pending", "Unschedulable")


def test_who_is_scaled_away_doesn_t_count() -> None:
    leaving = elastic_pod(2, deletionTimestamp="2026-01-31T12:00:00Z")
    state = run_state(elastic_job(wanted=2), [elastic_pod(0), elastic_pod(1), leaving, elastic_pod(3)])
    assert (str(state.state), state.message) == ("running", "")
    assert state.pods == ElasticPods(2, 4, 2, 2)


def test_the_end_says_with_how_many() -> None:
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    state = run_state(
        elastic_job(wanted=3, status=done), [elastic_pod(0, "Succeeded"), elastic_pod(1, "Succeeded")]
    )
    assert (str(state.state), state.message) == ("succeeded", "with 2 of 3 pods")


@pytest.mark.parametrize("nodes", ["", "4", "2..", "..4", "2..x", "-1..4"])
def test_what_anybody_may_write_makes_no_run_elastic(nodes: str) -> None:
    assert ElasticPods.of(elastic_job(nodes), []) is None
