"""Jobs under random outcomes, deletions and crashes: what is counted is what happened.

The machine carries out the decisions one effect at a time on a small model of a cluster, and may stop the
controller between any two. It keeps its own record of how pods ended, to compare with the status.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpuyard.controllers.job.plan import plan
from gpuyard.controllers.job.pods import pod_of
from gpuyard.controllers.job.status import account, judge
from gpuyard.controllers.job.view import view_job
from gpuyard.controllers.owned_pods.view import PodView, view_pod
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.timestamps import format_time
from gpuyard.workloads.sweeps.completion_indexes import parse_indexes

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
FINALIZER = "batch.kubernetes.io/job-tracking"


class JobMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.rng = random.Random(7)
        self.job: dict[str, Any] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.outcomes: dict[str, str] = {}
        self.withdrawn: set[str] = set()
        self.indexes: dict[str, int | None] = {}
        self.created = 0

    @initialize(
        parallelism=st.integers(1, 4),
        completions=st.one_of(st.none(), st.integers(1, 6)),
        backoff_limit=st.integers(0, 4),
        indexed=st.booleans(),
        policy=st.sampled_from(["TerminatingOrFailed", "Failed"]),
        deadline=st.one_of(st.none(), st.integers(30, 90)),
    )
    def start(
        self,
        parallelism: int,
        completions: int | None,
        backoff_limit: int,
        indexed: bool,
        policy: str,
        deadline: int | None,
    ) -> None:
        spec: dict[str, Any] = {
            "parallelism": parallelism,
            "backoffLimit": backoff_limit,
            "podReplacementPolicy": policy,
            "template": {"spec": {"containers": [{"name": "main"}], "restartPolicy": "Never"}},
        }
        if completions is not None:
            spec["completions"] = completions
            spec["completionMode"] = "Indexed" if indexed else "NonIndexed"
        if deadline is not None:
            spec["activeDeadlineSeconds"] = deadline
        self.job = {
            "metadata": {"name": "train", "namespace": "default", "uid": "job-1"},
            "spec": spec,
            "status": {},
        }

    # -- the controller, one effect at a time -----------------------------------------------------

    def effects(self) -> Iterator[str]:
        job = view_job(self.job)
        if job.finished_at:
            return
        pods = self.views()
        todo = plan(job, pods, judge(job, pods, self.age), self.age, 1.0)
        for pod in todo.delete:
            if pod.tracked and not todo.counts:
                self.withdrawn.add(pod.uid)
                self.release(pod)
                yield "release"
            self.mark_deleted(pod.key.name)
            yield "delete"
        for index in todo.create:
            self.create(index)
            yield "create"
        while True:
            job, pods = view_job(self.job), self.views()
            result = account(job, pods, judge(job, pods, self.age), self.now)
            self.record(pods, failed=result.status)
            self.job["status"] = result.status
            yield "status"
            if not result.release:
                return
            for pod in result.release:
                self.release(pod)
                yield "release"

    def age(self, moment: datetime) -> float:
        return (self.now - moment).total_seconds()

    def views(self) -> list[PodView]:
        return [view_pod(pod) for pod in self.pods.values()]

    def create(self, index: int | None) -> None:
        pod = pod_of(self.job, index, self.rng)
        self.created += 1
        pod["metadata"] |= {"uid": f"pod-{self.created}", "creationTimestamp": format_time(self.now)}
        pod["status"] = {"phase": "Pending"}
        self.pods[pod["metadata"]["name"]] = pod
        self.indexes[pod["metadata"]["uid"]] = index

    def release(self, pod: PodView) -> None:
        self.pods[pod.key.name]["metadata"]["finalizers"].remove(FINALIZER)

    def mark_deleted(self, name: str) -> None:
        self.pods[name]["metadata"]["deletionTimestamp"] = format_time(self.now)

    def record(self, pods: list[PodView], failed: dict[str, Any]) -> None:
        """How each tracked pod has ended by the time that a status is written."""
        target = condition_is_true({"status": failed}, "FailureTarget")
        waits = self.job["spec"]["podReplacementPolicy"] == "Failed"
        for pod in pods:
            if not pod.tracked or pod.uid in self.outcomes:
                continue
            if pod.phase in ("Succeeded", "Failed"):
                self.outcomes[pod.uid] = pod.phase
            elif pod.deleting and (target or not waits):
                self.outcomes[pod.uid] = "Failed"

    # -- what happens to it -----------------------------------------------------------------------

    @rule()
    def sync(self) -> None:
        for _ in self.effects():
            self.check()

    @rule(stop=st.integers(1, 6))
    def crash(self, stop: int) -> None:
        for number, _ in enumerate(self.effects(), start=1):
            if number == stop:
                return

    @precondition(lambda self: any(view_pod(p).active for p in self.pods.values()))
    @rule(data=st.data(), phase=st.sampled_from(["Running", "Succeeded", "Succeeded", "Failed"]))
    def kubelet_reports(self, data: st.DataObject, phase: str) -> None:
        names = sorted(name for name, pod in self.pods.items() if not view_pod(pod).terminal)
        self.pods[data.draw(st.sampled_from(names))]["status"]["phase"] = phase

    @precondition(lambda self: any(view_pod(p).terminating for p in self.pods.values()))
    @rule(data=st.data(), phase=st.sampled_from(["Failed", "Succeeded"]))
    def kubelet_ends_a_deleted_pod(self, data: st.DataObject, phase: str) -> None:
        names = sorted(name for name, pod in self.pods.items() if view_pod(pod).terminating)
        self.pods[data.draw(st.sampled_from(names))]["status"]["phase"] = phase

    @precondition(lambda self: bool(self.pods))
    @rule(data=st.data())
    def user_deletes_a_pod(self, data: st.DataObject) -> None:
        self.mark_deleted(data.draw(st.sampled_from(sorted(self.pods))))

    @rule()
    def deleted_pods_without_finalizer_vanish(self) -> None:
        for name, pod in list(self.pods.items()):
            view = view_pod(pod)
            if view.deleting and not view.tracked and view.terminal:
                del self.pods[name]

    @rule(suspend=st.booleans())
    def user_suspends_or_resumes(self, suspend: bool) -> None:
        self.job["spec"]["suspend"] = suspend

    @rule(seconds=st.integers(1, 20))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    # -- what must hold ---------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        if not self.job:
            return
        spec, status = self.job["spec"], self.job["status"]
        uncounted = status.get("uncountedTerminatedPods", {})
        successes = [uid for uid, outcome in self.outcomes.items() if outcome == "Succeeded"]
        failures = [uid for uid, outcome in self.outcomes.items() if outcome == "Failed"]
        if spec.get("completionMode") == "Indexed":
            completed = parse_indexes(status.get("completedIndexes", ""), spec["completions"])
            assert completed == {self.indexes[uid] for uid in successes}
            assert status.get("succeeded", 0) == len(completed)
        else:
            assert status.get("succeeded", 0) + len(uncounted.get("succeeded", ())) == len(successes)
        assert status.get("failed", 0) + len(uncounted.get("failed", ())) == len(failures)
        active = [pod for pod in self.views() if pod.active]
        assert len(active) <= spec["parallelism"]
        if "completions" in spec:
            allowed = spec["completions"] + len(failures) + len(self.withdrawn) + self.about_to_fail()
            assert self.created <= allowed
        self.check_end(len(successes), len(failures), active)

    def about_to_fail(self) -> int:
        """Pods whose failure can be seen and isn't written yet: they may have been replaced already."""
        return sum(
            1
            for pod in self.views()
            if pod.uid not in self.outcomes and (pod.phase == "Failed" or pod.deleting)
        )

    def check_end(self, successes: int, failures: int, active: list[PodView]) -> None:
        spec = self.job["spec"]
        complete, failed = (condition_is_true(self.job, type_) for type_ in ("Complete", "Failed"))
        assert not (complete and failed)
        if complete or failed:
            assert not active
            assert not self.job["status"]["uncountedTerminatedPods"]
            assert not any(pod.tracked for pod in self.views())
        if complete:
            assert successes >= spec.get("completions", 1)
        if failed:
            reasons = [c["reason"] for c in self.job["status"]["conditions"] if c["type"] == "Failed"]
            assert failures > spec["backoffLimit"] or reasons == ["DeadlineExceeded"]

    def teardown(self) -> None:
        """Left alone, with pods that succeed, every Job comes to its end."""
        if not self.job:
            return
        self.job["spec"]["suspend"] = False
        for _ in range(40):
            self.sync()
            for pod in self.pods.values():
                if not view_pod(pod).terminal:
                    pod["status"]["phase"] = "Failed" if view_pod(pod).deleting else "Succeeded"
            self.deleted_pods_without_finalizer_vanish()
            self.now += timedelta(seconds=1)
        self.check()
        assert view_job(self.job).finished_at, self.job["status"]
        before = dict(self.job["status"])
        self.sync()
        assert self.job["status"] == before


JobMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestJobMachine = JobMachine.TestCase
