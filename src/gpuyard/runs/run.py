"""Finding runs: a Job by its label, with its pods, and the state that follows from them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from gpuyard import errors
from gpuyard.kube.names import is_label
from gpuyard.kube.objects import (
    DEPLOYMENTS,
    JOBS,
    NODES,
    PODS,
    Manifest,
    annotations_of,
    controller_of,
    labels_of,
    uid_of,
)
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.wellknown import (
    ANNOTATION_COMPLETION_INDEX,
    ANNOTATION_SUBMITTED_AT,
    LABEL_GPU_MODEL,
    LABEL_RUN,
    LABEL_SIMULATED,
)
from gpuyard.runs.target import Target
from gpuyard.workloads.memory_kills import (
    oom_advice,
    oom_cause,
    oom_kills,
    oom_kills_text,
    oom_reason,
)
from gpuyard.workloads.outcome import PodVerdict
from gpuyard.workloads.run_state import EARLY_SUCCESS, Reason, RunState, run_state

if TYPE_CHECKING:
    from gpuyard.workloads.sweeps.values import Sweep

Found = TypeVar("Found")
#: States that a run doesn't leave any more.
ENDED = frozenset({"succeeded", "failed", "stopped"})
#: What is typed for the run that was submitted last.
LAST = "@"
_MAX_NAMED = 3


@dataclass(frozen=True)
class Run:
    """One run: its Job, its pods in the order of their creation, and its state.

    Attributes:
        sweep: the values of its tasks, once they are read.
    """

    name: str
    job: Manifest
    pods: Sequence[Manifest]
    state: RunState
    sweep: Sweep | None = None


def state_and_reason(state: RunState | PodVerdict) -> str:
    """`pending (Unschedulable)`; only the state where its reason says the same."""
    says_more = state.reason and state.reason.lower() != state.state
    return f"{state.state} ({state.reason})" if says_more else state.state


def state_text(run: Run) -> str:
    """The state with its reason and message, in one line."""
    state = run.state
    text = f"{state.name}: {state_and_reason(state)}"
    if state.message:
        text += f": {state.message}"
    return text


def oom_text(run: Run) -> str:
    """What the kernel killed of it for memory, also where it goes on or ended well; empty for nothing."""
    lossy = [pod for pod in run.pods if oom_kills(pod)]
    if not lossy:
        return ""
    text, last = oom_kills_text(sum(map(oom_kills, lossy))), lossy[-1]
    return f"{text}: {oom_reason(last, oom_cause(last))}; {oom_advice(last)}"


def exit_code_of(run: Run) -> int:
    """What `gpuyard run` and `wait` end with: 0 for a run that succeeded, and for no other.

    Else the process's own code. Where it has none, or ended well all the same (it saved on SIGTERM): 124 for
    a timeout, as timeout(1) has it, 125 for the rest.
    """
    state = run.state
    if state.state == "succeeded":
        return 0
    return state.exit_code or (124 if state.reason is Reason.DEADLINE_EXCEEDED else 125)


def has_ended(run: Run) -> bool:
    """Whether nothing of the run is alive any more."""
    return run.state.state in ENDED and not any(map(is_alive, run.pods))


def is_alive(pod: Manifest) -> bool:
    """Whether the pod has processes, or is to have some."""
    return not is_terminal(pod)


def make_run(job: Manifest, pods: Sequence[Manifest], simulated_nodes: Collection[str] = ()) -> Run:
    """The run of this Job, whoever made that; pods of other owners are left out."""
    own = [pod for pod in pods if (controller_of(pod) or {}).get("uid") == uid_of(job)]
    own.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    state = run_state(job, own, simulated_nodes=simulated_nodes)
    return Run(state.name, job, own, state)


def run_of_pod(pod: Manifest, simulated: Collection[str]) -> Run:
    """A pod of its own, or of a Deployment, as if it were the only one of a Job that doesn't try again."""
    job = {
        "metadata": {
            key: pod["metadata"].get(key)
            for key in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")
        },
        "spec": {"backoffLimit": 0, "template": {"metadata": pod["metadata"], "spec": pod["spec"]}},
    }
    state = run_state(job, [pod], simulated_nodes=simulated)
    return Run(pod["metadata"]["name"], job, [pod], state)


async def list_runs(target: Target, *, all_namespaces: bool = False) -> list[Run]:
    """Every run of the namespace, in the order of their submits."""
    namespace = None if all_namespaces else target.namespace
    jobs, pods, simulated = await asyncio.gather(
        target.api.list(JOBS, namespace, label_selector=LABEL_RUN),
        target.api.list(PODS, namespace, label_selector=LABEL_RUN),
        simulated_nodes(target),
    )
    runs = [make_run(job, pods.items, simulated) for job in jobs.items]
    return sorted(
        await asyncio.gather(*(_after_last_attempt(target, run) for run in runs)), key=_submit_order
    )


async def deployments_of_services(target: Target, *, all_namespaces: bool = False) -> Sequence[Manifest]:
    """Of services, which share their names with runs; none where the user may not list Deployments."""
    namespace = None if all_namespaces else target.namespace
    try:
        return (await target.api.list(DEPLOYMENTS, namespace, label_selector=LABEL_RUN)).items
    except (errors.Forbidden, errors.NotFound):
        return ()


async def _after_last_attempt(target: Target, run: Run) -> Run:
    """The run with what became of its last attempt for a state, where it has no pod any more to tell."""
    state, has_begun = run.state, bool(run.job.get("status", {}).get("startTime"))
    if run.pods or not has_begun or state.reason not in (Reason.WAITING_FOR_POD, Reason.COMPLETED):
        return run
    from gpuyard.runs.attempts import gone_attempts

    gone = await gone_attempts(target, run.job, run.pods)
    if not gone:
        return run
    last = gone[-1]
    if state.reason is Reason.WAITING_FOR_POD:
        message = f"the next attempt starts soon; the last one was {last.text}"
        state = replace(state, reason=last.reason or Reason.BACK_OFF, message=message)
    elif last.reason is not None:
        state = replace(state, message=EARLY_SUCCESS.format(why=last.message))
    return replace(run, state=state)


def _submit_order(run: Run) -> tuple[str, str, str]:
    return job_order(run.job)


def job_order(job: Manifest) -> tuple[str, str, str]:
    """By which Jobs, and Deployments of services, come in the order of their submits."""
    submitted_at = annotations_of(job).get(ANNOTATION_SUBMITTED_AT, "")
    return job["metadata"]["creationTimestamp"], submitted_at, job["metadata"]["name"]


async def find_run(target: Target, name: str, *, ask_nodes: bool = True) -> Run:
    """The run of this name.

    Args:
        target: where it is.
        name: of the run.
        ask_nodes: whether it is to be known of a run on nodes that are simulated.

    Raises:
        UsageError: there is none; the message has the nearest name.
    """
    run = await get_run(target, name, ask_nodes)
    if run is None:
        await _refuse_service(target, name)
        raise _no_such_run(target, name, await run_names(target))
    return run


async def find_meant_run(target: Target, typed: str, *, ask_nodes: bool = True) -> Run:
    """The run that somebody means who typed a name, the beginning of one, or LAST.

    Raises:
        UsageError: there is none, or several have names that begin so.
    """
    return await get_run(target, typed, ask_nodes) or await find_run(
        target, await _meant(target, typed), ask_nodes=ask_nodes
    )


async def _refuse_service(target: Target, name: str) -> None:
    """Raises UsageError where a service is called so."""
    if name in {labels_of(one)[LABEL_RUN] for one in await deployments_of_services(target)}:
        takes = "exec, cp, logs, show, explain, forward, scale, update, rollback, stop and rm"
        raise errors.UsageError(
            f"{name} is a service, and this is for runs", remedy=f"{takes} are for services too"
        )


async def _meant(target: Target, typed: str) -> str:
    await _refuse_service(target, typed)
    return meant_name(target, typed, await run_names(target))


def meant_name(target: Target, typed: str, names: Sequence[str], kind: str = "run") -> str:
    """The name that LAST or the beginning of a name means.

    Args:
        target: where.
        typed: what somebody typed.
        names: of all that there are, the last one last.
        kind: what they are.

    Raises:
        UsageError: there is none, or several have names that begin so.
    """
    if typed == LAST:
        if not names:
            raise errors.UsageError(
                f"there is no {kind} in namespace {target.namespace}", remedy="`gpuyard run` submits one"
            )
        return names[-1]
    found = [name for name in names if typed and name.startswith(typed)]
    if len(found) > 1:
        more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
        several = kind.replace(" ", "s ", 1) + "s"
        raise errors.UsageError(
            f"{len(found)} {several} in namespace {target.namespace} have names that begin with {typed!r}: "
            f"{', '.join(found[-_MAX_NAMED:])}{more}",
            remedy="type more of the name",
        )
    if not found:
        raise _no_such_run(target, typed, names, kind)
    return found[0]


async def get_run(target: Target, name: str, ask_nodes: bool = True) -> Run | None:
    """The run of exactly this name; None where there is none."""
    if not is_label(name):  # nor can it stand in a selector
        return None
    selector = f"{LABEL_RUN}={name}"
    jobs, pods, simulated = await asyncio.gather(
        target.api.list(JOBS, target.namespace, label_selector=selector),
        target.api.list(PODS, target.namespace, label_selector=selector),
        simulated_nodes(target) if ask_nodes else _no_nodes(),
    )
    if not jobs.items:
        return None
    return await _after_last_attempt(target, make_run(jobs.items[0], pods.items, simulated))


async def _no_nodes() -> frozenset[str]:
    return frozenset()


async def find_runs(target: Target, typed: Sequence[str]) -> list[Run]:
    """The runs that somebody means (see `find_meant_run`), each once.

    Raises:
        UsageError: some aren't there, or can't be told from others; the message has all of those.
    """

    async def find(name: str) -> tuple[str, Run]:
        run = await find_meant_run(target, name, ask_nodes=False)
        return run.name, run

    return await find_each(typed, find)


async def find_each(typed: Sequence[str], find: Callable[[str], Awaitable[tuple[str, Found]]]) -> list[Found]:
    """What somebody means by several names, each once.

    Args:
        typed: the names.
        find: gives what one means, under its whole name.

    Raises:
        UsageError: `find` raised it; the message has those of all names.
    """
    found: dict[str, Found] = {}
    wrong: list[errors.UsageError] = []
    for name in dict.fromkeys(typed):
        try:
            whole, one = await find(name)
        except errors.UsageError as error:
            wrong.append(error)
        else:
            found[whole] = one
    if wrong:
        nothing = "nothing was done; " if len(typed) > 1 else ""
        raise errors.UsageError("; ".join(error.message for error in wrong), remedy=nothing + wrong[0].remedy)
    return list(found.values())


async def simulated_nodes(target: Target) -> frozenset[str]:
    """Nodes whose GPUs are simulated, as far as the user may see nodes."""
    try:
        nodes = await target.api.list(NODES, label_selector=f"{LABEL_SIMULATED}=true")
    except errors.Forbidden:
        return frozenset()
    return frozenset(node["metadata"]["name"] for node in nodes.items)


async def gpu_models(target: Target, nodes: Collection[str]) -> dict[str, str]:
    """The GPU models of nodes, by node name, as far as the user may see nodes and they say."""
    models = {}
    for name in nodes:
        try:
            models[name] = labels_of(await target.api.get(NODES, name)).get(LABEL_GPU_MODEL, "")
        except (errors.Forbidden, errors.NotFound):
            continue
    return models


def _no_such_run(target: Target, name: str, known: Sequence[str], kind: str = "run") -> errors.UsageError:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else "`gpuyard ps` lists them"
    return errors.UsageError(f"no {kind} {name!r} in namespace {target.namespace}", remedy=remedy)


async def run_names(target: Target) -> list[str]:
    """Of all runs, the last one last."""
    jobs = (await target.api.list(JOBS, target.namespace, label_selector=LABEL_RUN)).items
    return [labels_of(job)[LABEL_RUN] for job in sorted(jobs, key=job_order)]


def has_ranks(run: Run) -> bool:
    """Whether several pods of the run print at the same time."""
    spec = run.job["spec"]
    return spec.get("completionMode") == "Indexed" and int(spec.get("completions") or 1) > 1


def rank_of_name(pod: str) -> int | None:
    """The rank by a pod's name, as the controller of Indexed Jobs gives it: `train-3-x7k2q`."""
    index = pod.rpartition("-")[0].rpartition("-")[2]
    return int(index) if index.isdecimal() else None


def rank_of(pod: Manifest) -> int:
    """The pod's completion index."""
    return int(annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX) or 0)


def check_ranks(run: Run, ranks: Collection[int]) -> None:
    """Raises UsageError for ranks that the run doesn't have."""
    count = int(run.job["spec"].get("completions") or 1) if has_ranks(run) else 1
    wrong = sorted(rank for rank in ranks if rank >= count)
    if wrong:
        there = f"ranks 0 to {count - 1}" if count > 1 else "one pod, rank 0"
        raise errors.UsageError(f"{run.name} has no rank {wrong[0]}", remedy=f"it has {there}")
