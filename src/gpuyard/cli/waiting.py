"""Why a run waits, in one line for whoever follows it."""

from __future__ import annotations

from datetime import UTC, datetime

from gpuyard import errors
from gpuyard.cli.explaining import find_answer
from gpuyard.cli.output import duration
from gpuyard.cli.runs import Run
from gpuyard.cli.target import Target

#: Reasons of a run that usually pass within a second or two, and that may last.
PASSING = frozenset({"WaitingForPod", "WaitingForScheduler", "Starting"})
#: Reasons that last until somebody does something, or others end.
LASTING = frozenset({"Unschedulable", "ImagePull", "StartError"})


async def waiting_text(target: Target, run: Run, *, since: bool) -> str:
    """`NAME: pending: needs 4 GPUs, 2 free on vm; waiting 12s [gpuyard explain NAME]`.

    Args:
        target: where the run is.
        run: one that hasn't started, for a reason that may last.
        since: say for how long; for a line that is written again and again.
    """
    why = run.state.message
    try:
        answer = await find_answer(target, run)
    except errors.GpuyardError:
        # The line is about the run; what can't be asked now is asked again soon.
        pass
    else:
        finding = answer.ladder.blocking
        if answer.explanation is not None and (finding is None or finding.step in ("nodes", "devices")):
            why = answer.explanation.short() if answer.explanation.blocker else why
        elif finding is not None:
            why = f"{finding.step}: {finding.headline}"
    why = why or run.state.reason
    began = run.state.submitted_at
    waited = f"; waiting {duration(datetime.now(UTC) - began)}" if since and began else ""
    return f"{run.name}: {run.state.state}: {why}{waited} [{target.command('explain', run.name)}]"
