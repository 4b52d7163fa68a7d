"""What holds a run, in the words of whoever asked."""

from __future__ import annotations

from typing import Any

from gpuyard.advice import worded
from gpuyard.explain.finding import Step
from gpuyard.explain.ladder import Ladder
from gpuyard.explain.run_objects import RunEnd, RunObjects
from gpuyard.explain.steps.process import find_process
from gpuyard.kube.wellknown import ANNOTATION_OOM_CAUSE, ANNOTATION_OOM_KILLS
from gpuyard.python_api.wording import PythonWording
from gpuyard.runs.explaining.explanation import Answer
from gpuyard.runs.run import Run
from gpuyard.workloads.memory_kills import OomCause
from gpuyard.workloads.outcome import Reason
from gpuyard.workloads.run_state import run_state


def answer() -> Answer:
    """Of a run that failed for its memory, and lost other processes before."""
    told = {ANNOTATION_OOM_KILLS: "2", ANNOTATION_OOM_CAUSE: OomCause.LIMIT.value}
    containers = [{"name": "main", "resources": {"limits": {"memory": "1Gi"}}}]
    pod = {"metadata": {"annotations": told}, "spec": {"containers": containers}, "status": {}}
    job: dict[str, Any] = {
        "metadata": {"name": "rm -f --wait", "labels": {}},
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}},
        "status": {},
    }
    ended = RunEnd(Reason.OOM_KILLED, "it was killed: --memory", 137, ("--name",))
    finding = find_process(RunObjects(job, pod), ended, ())
    assert finding is not None
    run = Run("rm -f --wait", job, [pod], run_state(job, []))
    return Answer(run, Ladder((finding,), Step.PROCESS, over=True), None, ())


def test_it_is_said_to_a_command_in_options() -> None:
    lines = answer().lines()
    assert lines[-1].endswith("raise --memory above 1Gi, or use less (fewer workers, smaller batches)")
    assert (
        "what would mend it: raise --memory above 1Gi, or use less (fewer workers, smaller batches)" in lines
    )


def test_it_is_said_to_python_in_arguments_whenever_it_is_read() -> None:
    with worded(PythonWording()):
        asked = answer()
    lines = asked.lines()
    assert lines[-1].endswith("raise memory= above 1Gi, or use less (fewer workers, smaller batches)")
    assert (
        "what would mend it: raise memory= above 1Gi, or use less (fewer workers, smaller batches)" in lines
    )
    assert lines[0].startswith("rm -f --wait")
    assert lines[1:3] == ["failed at process: it was killed: --memory", "its last lines: --name"]
    remedies = asked.to_json()["blocked"]["remedies"]
    assert [remedy["text"] for remedy in remedies] == [
        "raise memory= above 1Gi, or use less (fewer workers, smaller batches)"
    ]
