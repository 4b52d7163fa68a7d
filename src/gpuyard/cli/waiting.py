"""Why a run waits, for whoever follows it: in one line, and once with what would help."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.cli.explaining import find_answer
from gpuyard.cli.output import duration
from gpuyard.runs.run import Run
from gpuyard.runs.target import Target

if TYPE_CHECKING:
    from gpuyard.explain.finding import Finding

#: Reasons of a run that usually pass within a second or two, and that may last.
PASSING = frozenset({"WaitingForPod", "WaitingForScheduler", "Starting"})
#: Reasons that last until somebody does something, or others end.
LASTING = frozenset({"Unschedulable", "ImagePull", "StartError"})


@dataclass(frozen=True)
class Waiting:
    """What a run waits for.

    Attributes:
        text: `NAME: pending: needs 4 GPUs, 2 free on vm; waiting 12s [gpuyard explain NAME]`.
        advice: worth telling once: what the node says, and what would help; for an image that doesn't come.
        final: it waits for nothing that could come.
    """

    text: str
    advice: tuple[str, ...] = ()
    final: bool = False


async def find_waiting(target: Target, run: Run, *, since: bool) -> Waiting:
    """Asks what holds the run.

    Args:
        target: where the run is.
        run: one that hasn't started, for a reason that may last.
        since: say for how long; for a line that is written again and again.
    """
    from gpuyard.explain.causes import NEEDS_ANOTHER_RUN
    from gpuyard.explain.finding import Step

    why = run.state.message
    finding = None
    try:
        answer = await find_answer(target, run)
    except errors.GpuyardError:
        # The line is about the run; what can't be asked now is asked again soon.
        pass
    else:
        finding = answer.ladder.blocking
        explanation = answer.explanation
        if explanation and explanation.blocker and finding and finding.step in (Step.NODES, Step.DEVICES):
            why = explanation.short()
        elif finding is not None:
            why = f"{finding.step}: {finding.headline}"
    why = why or run.state.reason
    began = run.state.submitted_at
    waited = f"; waiting {duration(datetime.now(UTC) - began)}" if since and began else ""
    text = f"{run.name}: {run.state.state}: {why}{waited} [{target.command('explain', run.name)}]"
    advice = _advice(run, finding) if finding and finding.step is Step.IMAGE else ()
    return Waiting(text, advice, final=finding is not None and finding.cause in NEEDS_ANOTHER_RUN)


def _advice(run: Run, finding: Finding) -> tuple[str, ...]:
    """What was pulled and how, the runtime's own words, and what would help."""
    from gpuyard.explain.causes import Cause

    lines = [f"{run.name}: {finding.headline}", *finding.evidence]
    if finding.cause is Cause.IMAGE_UNAUTHORIZED:
        secrets = run.job["spec"]["template"]["spec"].get("imagePullSecrets") or ()
        names = ", ".join(secret["name"] for secret in secrets)
        lines.append(f"it was pulled with the Secret {names}" if names else "it was pulled without a Secret")
    lines += [
        f"{'or' if number else finding.lead}: {remedy}" for number, remedy in enumerate(finding.remedies)
    ]
    return tuple(lines)
