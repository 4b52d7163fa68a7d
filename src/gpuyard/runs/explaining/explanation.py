"""Why a run waits or failed: reads what tells it, and asks `explain`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpuyard.advice import Wording, worded, wording
from gpuyard.explain.ladder import Ladder, climb
from gpuyard.explain.missing_objects import KIND_TO_LIST
from gpuyard.explain.output.diagnosis import Diagnosis
from gpuyard.explain.placement import Explanation, explain
from gpuyard.explain.run_objects import RunEnd
from gpuyard.explain.steps.volumes import required_places
from gpuyard.kube.objects import Manifest, key_of
from gpuyard.runs.attempts import LostAttempt, gone_attempts
from gpuyard.runs.explaining.diagnosis import diagnose_lines, read_lines
from gpuyard.runs.explaining.evidence import Evidence, decisive_pod, read_evidence, read_names
from gpuyard.runs.run import ENDED, Run, is_alive, oom_text, state_text
from gpuyard.runs.target import Target
from gpuyard.runs.tasks import with_tasks
from gpuyard.scheduling.decide import beside_its_gang, order
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot, waits
from gpuyard.workloads.memory_kills import oom_kills
from gpuyard.workloads.outcome import exit_code, why_failed
from gpuyard.workloads.stopping import unsaved_text

if TYPE_CHECKING:
    from gpuyard.runs.explaining.given_gpus import GivenGpus

_TAIL_LINES = 5
_MAX_LINE_LENGTH = 200


@dataclass(frozen=True, repr=False)
class Answer:
    """What holds a run.

    Attributes:
        explanation: the nodes' arithmetic; None unless it waits for a node, or where they can't be read.
        nodes: that were looked at.
        diagnoses: what its output is known to mean.
        unfit: lines about the nodes that its image doesn't run on, and what would.
        gone: attempts whose pods are deleted.
        given: the GPUs that its pods have.
        wording: of whoever asked.
    """

    run: Run
    ladder: Ladder
    explanation: Explanation | None
    nodes: Sequence[Manifest]
    diagnoses: Sequence[Diagnosis] = ()
    unfit: Sequence[str] = ()
    gone: Sequence[LostAttempt] = ()
    given: Sequence[GivenGpus] = ()
    wording: Wording = field(default_factory=wording)

    def __repr__(self) -> str:
        """Short, in a notebook: the manifests that were read may hold the run's secrets."""
        return str(self)

    def lines(self) -> list[str]:
        """For people: its state, then each finding, or the nodes' arithmetic."""
        said = [state_text(self.run)]
        with worded(self.wording):
            if self.ladder.findings:
                said += self.ladder.lines()
            elif self.explanation:
                said += self.explanation.lines()
            said += map(str, self.given)
            said += [f"before that, an attempt was {attempt.text}" for attempt in self.gone]
            lost = filter(None, [oom_text(self.run), unsaved_text(self.run.pods)])
            return [*said, *self.unfit, *lost]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `explain -o json`."""
        with worded(self.wording):
            return self._to_json()

    def _to_json(self) -> dict[str, Any]:
        blocking, threat = self.ladder.blocking, self.ladder.threat
        return {
            "run": self.run.state.to_json(),
            "blocked": blocking.to_json() if blocking else None,
            "threatened": threat.to_json() if threat else None,
            "ladder": self.ladder.to_json(),
            "explanation": self.explanation.to_json() if self.explanation else None,
            "diagnoses": [diagnosis.to_json() for diagnosis in self.diagnoses],
            "gone": [attempt.to_json() for attempt in self.gone],
            "given": [given.to_json() for given in self.given],
            "oom_kills": sum(map(oom_kills, self.run.pods)),
        }


async def explain_with_output(target: Target, run: Run, environ: Mapping[str, str] = os.environ) -> Answer:
    """Reads also the end of its output, and the image of a run that waits for a node.

    Args:
        target: where the run is.
        run: as it is now.
        environ: the caller's, with what is said of registries.

    Raises:
        ConnectionFailed, ApiError: the API doesn't answer.
    """
    run = await with_tasks(target, run)
    said, printed = await read_lines(target, run)
    answer = await explain_run(target, run, diagnose_lines(run, said, printed), printed)
    answer = dataclasses.replace(answer, gone=await gone_attempts(target, run.job, run.pods))
    if run.state.gpus and run.state.state == "running":
        from gpuyard.runs.explaining.given_gpus import read_given_gpus

        answer = dataclasses.replace(answer, given=await read_given_gpus(target, run))
    if answer.explanation is None:
        return answer
    from gpuyard.runs.image_fit import unfit_lines

    return dataclasses.replace(answer, unfit=await unfit_lines(run.job, answer.nodes, environ))


async def explain_run(
    target: Target, run: Run, diagnoses: Sequence[Diagnosis] = (), output: Sequence[str] = ()
) -> Answer:
    """Looks at every step of the ladder.

    Args:
        target: where the run is.
        run: as it is now.
        diagnoses: what its output is known to mean.
        output: the end of it.

    Raises:
        ConnectionFailed, ApiError: the API doesn't answer.
    """
    evidence = await read_evidence(target, run)
    answer = _judge(run, evidence, diagnoses, output)
    if missing := _missing_kind(answer.ladder):
        objects = dataclasses.replace(evidence.objects, names={missing: await read_names(target, missing)})
        answer = _judge(run, dataclasses.replace(evidence, objects=objects), diagnoses, output)
    return answer


def _judge(run: Run, evidence: Evidence, diagnoses: Sequence[Diagnosis], output: Sequence[str]) -> Answer:
    explanation = _place(evidence) if evidence.waits_for_node else None
    ladder = climb(
        evidence.objects,
        explanation,
        ended=_ended(run, output),
        causes=diagnoses,
        over=run.state.state in ENDED,
    )
    return Answer(run, ladder, explanation, evidence.nodes, diagnoses)


def _place(evidence: Evidence) -> Explanation:
    """The nodes' arithmetic."""
    objects = evidence.objects
    pod = objects.pod
    alive = pod is not None and is_alive(pod)
    request = PodRequest.of(pod) if pod and alive else PodRequest.of_template(objects.job)
    # Of a pod that isn't there yet nobody knows what the API server will add to it.
    request = request if alive else request.with_device_tolerations()
    request = dataclasses.replace(request, volumes=required_places(objects))
    queue = _queue(evidence)
    snapshot = beside_its_gang(request, queue, Snapshot.of(evidence.nodes, evidence.pods))
    explanation = explain(request, snapshot, queue)
    return dataclasses.replace(explanation, incomplete=evidence.incomplete)


def _queue(evidence: Evidence) -> Sequence[PodRequest]:
    """The pods that can be seen to wait for the scheduler of the run's, in its order."""
    name = evidence.objects.spec.get("schedulerName")
    pods = [pod for pod in evidence.pods if waits(pod) and pod["spec"].get("schedulerName") == name]
    # Of those of one second, the one that was told first that it fits nowhere came first.
    arrivals = {key_of(pod): int(version) for pod in pods if (version := _version(pod)).isdecimal()}
    return order(map(PodRequest.of, pods), arrivals)


def _version(pod: Manifest) -> str:
    return str(pod["metadata"].get("resourceVersion", ""))


def _ended(run: Run, output: Sequence[str]) -> RunEnd | None:
    """How the run, or its last attempt, failed."""
    state, pod = run.state, decisive_pod(run)
    tail = tuple(line[:_MAX_LINE_LENGTH] for line in output if line.strip())[-_TAIL_LINES:]
    if state.state == "failed":
        return RunEnd(state.reason, state.message, state.exit_code, tail)
    if state.state == "pending" and pod is not None and not is_alive(pod):
        return RunEnd(why_failed(pod)[0], state.message, exit_code(pod), tail, is_followed=True)
    return None


def _missing_kind(ladder: Ladder) -> str:
    """The kind of which one that isn't there holds the run."""
    finding = ladder.blocking
    return KIND_TO_LIST.get(finding.cause, "") if finding else ""
