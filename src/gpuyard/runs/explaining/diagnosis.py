"""What a failed run's own output, or the signal that ended it, says of what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.kube.objects import annotations_of
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.wellknown import ANNOTATION_ISOLATION, ANNOTATION_PYTHONPATH, RUNTIME_CLASS_PROCESS
from gpuyard.runs.run import Run
from gpuyard.runs.target import Target
from gpuyard.workloads.command import is_python
from gpuyard.workloads.outcome import Reason

if TYPE_CHECKING:
    from gpuyard.explain.output.diagnosis import Diagnosis

_TAIL_LINES = 500
#: As the yard annotates a process that sees all of its host.
_NOT_ISOLATED = "none"
#: More causes than these are consequences of the first.
_MAX_CAUSES = 3


async def diagnose_run(target: Target, run: Run) -> list[Diagnosis]:
    """The causes that the last attempt's status and the end of its output name; none while it goes on."""
    return diagnose_lines(run, *await read_lines(target, run))


async def read_lines(target: Target, run: Run) -> tuple[list[str], list[str]]:
    """What the last attempt's status says, and the end of its output; nothing while it goes on."""
    if run.state.state not in ("failed", "stopped", "pending", "starting") or not run.pods:
        return [], []
    pod = run.pods[-1]
    lines: list[str] = []
    started = False
    for status in container_statuses(pod):
        for state in (status.get("state") or {}, status.get("lastState") or {}):
            for detail in state.values():
                lines += str((detail or {}).get("message") or "").splitlines()
            started = started or "terminated" in state
    return lines, await _tail(target, pod["metadata"]["name"]) if started else []


def diagnose_lines(run: Run, said: list[str], printed: list[str]) -> list[Diagnosis]:
    """The causes that these lines of a run name.

    Args:
        run: whose lines they are.
        said: by its containers' status.
        printed: by itself.
    """
    signalled = run.state.reason is Reason.SIGNAL
    if not said and not printed and not signalled:
        return []
    from gpuyard.explain.causes import Cause
    from gpuyard.explain.output.diagnosis import diagnose

    pod = run.job["spec"]["template"]["spec"]
    command = pod["containers"][0].get("command") or [""]
    known = {"python": command[0]} if is_python(command[0]) else {}
    in_image = pod.get("runtimeClassName") != RUNTIME_CLASS_PROCESS
    has_pythonpath = ANNOTATION_PYTHONPATH in annotations_of(run.job)
    found = diagnose([*said, *printed], **known, in_image=in_image, has_pythonpath=has_pythonpath)
    if not found and signalled:
        found = diagnose([run.state.message])
    if any(annotations_of(each).get(ANNOTATION_ISOLATION) == _NOT_ISOLATED for each in run.pods):
        # Its /tmp was the host's.
        found = [each for each in found if each.key is not Cause.OWN_TMP]
    return found[:_MAX_CAUSES]


async def _tail(target: Target, pod: str) -> list[str]:
    log = target.api.stream_log(target.namespace, pod, follow=False, tail_lines=_TAIL_LINES)
    try:
        pieces = [piece async for piece in log]
    except errors.GpuyardError:
        # The log may be gone with its node; what the status says is there all the same.
        return []
    return b"".join(pieces).decode(errors="replace").splitlines()
