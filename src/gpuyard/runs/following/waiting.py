"""Why a run waits, for whoever follows it: in one clause, and once with what would help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.runs.run import Run
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import Reason

if TYPE_CHECKING:
    from gpuyard.explain.finding import Finding

#: Reasons of a run that usually pass within a second or two, and that may last.
PASSING = frozenset({Reason.WAITING_FOR_POD, Reason.WAITING_FOR_SCHEDULER, Reason.STARTING})
#: Reasons that last until somebody does something, or others end.
LASTING = frozenset({Reason.UNSCHEDULABLE, Reason.IMAGE_PULL, Reason.START_ERROR})


@dataclass(frozen=True)
class Waiting:
    """What a run waits for.

    Attributes:
        why: one clause: `needs 4 GPUs, 2 free on vm`.
        advice: worth telling once: what the node says, and what would help; for an image that doesn't come.
        final: it waits for nothing that could come.
    """

    why: str
    advice: tuple[str, ...] = ()
    final: bool = False


async def find_waiting(target: Target, run: Run) -> Waiting:
    """Asks what holds the run.

    Args:
        target: where the run is.
        run: one that hasn't started, for a reason that may last.
    """
    # Most runs never wait, and the ladder takes a while to import.
    from gpuyard.explain.causes import NEEDS_ANOTHER_RUN
    from gpuyard.explain.finding import Step
    from gpuyard.runs.explaining.explanation import explain_run

    why = run.state.message
    finding = None
    try:
        answer = await explain_run(target, run)
    except errors.GpuyardError:
        # This is about the run; what can't be asked now is asked again soon.
        pass
    else:
        finding = answer.ladder.blocking
        explanation = answer.explanation
        if explanation and explanation.blocker and finding and finding.step in (Step.NODES, Step.DEVICES):
            why = explanation.short()
        elif finding is not None:
            why = f"{finding.step}: {finding.headline}"
    advice = _advice(run, finding) if finding and finding.step is Step.IMAGE else ()
    final = finding is not None and finding.cause in NEEDS_ANOTHER_RUN
    return Waiting(why or run.state.reason, advice, final)


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
