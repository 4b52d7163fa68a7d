"""The process: how it ended, and what its output says of that."""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard.advice import advice
from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.output.diagnosis import Diagnosis
from gpuyard.explain.run_objects import RunEnd, RunObjects
from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.workloads.memory_kills import OomCause, oom_advice, oom_cause
from gpuyard.workloads.outcome import Reason

_LONGEST = 300
_AGAIN = "submit it again; with --retries it would have been tried again by itself"
_BY_ITSELF = "wait: it is made again by itself"
#: Of a shell that doesn't find the command.
_NOT_FOUND = 127
#: What is known of an exit code or a signal, and what to do.
_CODES = {
    126: ("the command was found and isn't executable", "run it through its interpreter"),
    127: ("the shell found no such command", "name a program that is on the PATH of the run"),
    134: ("the program aborted itself (SIGABRT)", "see the end of its output"),
    135: (
        "a bus error (SIGBUS): often /dev/shm is full; else a mapped file shrank, or its disk is full",
        "raise --shm; else replace a mapped file instead of writing into it, or free some room",
    ),
    136: ("an arithmetic error (SIGFPE)", "see the end of its output"),
    137: (
        "killed (SIGKILL): by the kernel for memory outside its own limit, or by somebody",
        "see the node's kernel log; ask for more --memory",
    ),
    139: ("a segmentation fault (SIGSEGV)", "see the end of its output; run it with PYTHONFAULTHANDLER=1"),
    143: ("told to end (SIGTERM)", "see who stopped it"),
}


def find_process(objects: RunObjects, ended: RunEnd | None, causes: Sequence[Diagnosis]) -> Finding | None:
    """Why the run failed, its output's own words first.

    Args:
        objects: what is known.
        ended: None while nothing has ended.
        causes: what is known of its output's lines.
    """
    if ended is None:
        return None
    node = str((objects.pod or {}).get("spec", {}).get("nodeName", ""))
    if causes:
        first = causes[0]
        # A signal is named by the headline already.
        lines = [cause.line[:_LONGEST] for cause in causes if cause.line != ended.message]
        evidence = tuple(f"its output says: {line}" for line in lines)
        headline = f"{ended.message or ended.reason}: {first.cause}"
        remedies = tuple(Remedy(cause.remedy) for cause in causes)
        return Finding(Step.PROCESS, first.key, headline, None, evidence, remedies, "what would mend it")
    owner, remedies = _advice(ended, node, objects.pod)
    evidence = tuple(f"its last lines: {line}" if not n else f"  {line}" for n, line in enumerate(ended.tail))
    by_code = ended.reason in (Reason.EXIT_CODE, Reason.SIGNAL)
    meaning = _CODES.get(ended.exit_code or 0, ("", ""))[0] if by_code else ""
    headline = ": ".join(filter(None, (ended.message or ended.reason, meaning)))
    return Finding(
        Step.PROCESS, Cause[ended.reason.name], headline, owner, evidence, remedies, "what would mend it"
    )


def _advice(ended: RunEnd, node: str, pod: Manifest | None) -> tuple[Owner | None, tuple[Remedy, ...]]:
    on_node = Owner("Node", node) if node else None
    again = Remedy(_BY_ITSELF if ended.is_followed else advice(_AGAIN))
    match ended.reason:
        case Reason.EXIT_CODE | Reason.SIGNAL:
            if ended.exit_code == _NOT_FOUND and _is_in_image(pod):
                return None, (Remedy("name a program that the image has"),)
            known = _CODES.get(ended.exit_code or 0)
            return None, (Remedy(advice(known[1]) if known else "see the end of its output"),)
        case Reason.OOM_KILLED:
            outside = pod is not None and oom_cause(pod) is OomCause.NODE
            return on_node if outside else None, (Remedy(oom_advice(pod or {})),)
        case Reason.DEADLINE_EXCEEDED:
            return None, (
                Remedy(advice("give it more time: --timeout (activeDeadlineSeconds of its pods or Job)")),
            )
        case Reason.EVICTED:
            ask = advice(
                "ask for what it uses (--memory, ephemeral-storage): what asks for little is evicted first"
            )
            return on_node, (again, Remedy(ask), Remedy(f"see what is short on node {node}", By.OPERATOR))
        case Reason.PREEMPTED:
            return None, (again, Remedy(advice("use a PriorityClass that matters more: --priority")))
        case Reason.DRAINED | Reason.NODE_LOST | Reason.NODE_REBOOTED:
            return on_node, (again,)
        case Reason.UNUSED:
            return None, (Remedy(advice("give it more time: --idle")),)
        case Reason.RANK_MISSING:
            return None, (
                Remedy("submit it again when there is room for all of its pods"),
                Remedy(advice("have them wait longer for one another: --start-within")),
            )
        case Reason.ENDED_WITH_ANOTHER:
            return None, (Remedy("see the logs of all of its pods: one of them failed or was lost first"),)
    return None, ()


def _is_in_image(pod: Manifest | None) -> bool:
    return pod is not None and pod["spec"].get("runtimeClassName") != RUNTIME_CLASS_PROCESS
