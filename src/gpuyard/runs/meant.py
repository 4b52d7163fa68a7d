"""What somebody means who types a name: a run or a service; what others made by `job/NAME` or `pod/NAME`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from gpuyard import errors
from gpuyard.kube.names import is_subdomain
from gpuyard.kube.objects import JOBS, PODS, Manifest, Resource, controller_of, labels_of
from gpuyard.kube.wellknown import LABEL_JOB_NAME, LABEL_RUN
from gpuyard.runs.run import (
    Run,
    deployments_of_services,
    find_each,
    get_run,
    job_order,
    make_run,
    meant_name,
    run_of_pod,
    simulated_nodes,
)
from gpuyard.runs.target import Target

if TYPE_CHECKING:
    from gpuyard.runs.interactive.live_pod import LivePod
    from gpuyard.runs.services.service import Service

#: As a name: most commands don't import the services.
Meant: TypeAlias = "Run | Service"

_JOB = frozenset({"job", "jobs", "job.batch", "jobs.batch"})
_POD = frozenset({"pod", "pods", "po"})


async def find_meant(target: Target, typed: str, *, ask_nodes: bool = False) -> Meant:
    """The run or the service of this name, of which it is the beginning, or, for LAST, the newest.

    Args:
        target: where it is.
        typed: what somebody typed.
        ask_nodes: whether it is to be known of a run on nodes that are simulated.

    Raises:
        UsageError: there is none, or several have names that begin so.
    """
    if run := await get_run(target, typed, ask_nodes):
        return run
    # Most names are those of runs, and imports cost start-up time.
    from gpuyard.runs.services.service import find_service

    if service := await find_service(target, typed):
        return service
    jobs, deployments = await asyncio.gather(
        target.api.list(JOBS, target.namespace, label_selector=LABEL_RUN), deployments_of_services(target)
    )
    objects = sorted([*jobs.items, *deployments], key=job_order)
    names = [labels_of(one)[LABEL_RUN] for one in objects]
    name = meant_name(target, typed, names, "run or service" if deployments else "run")
    found = await get_run(target, name, ask_nodes) or await find_service(target, name)
    if found is None:
        raise errors.UsageError(f"{name} was removed just now", remedy="`gpuyard ps` lists what there is")
    return found


async def find_all_meant(target: Target, typed: Sequence[str]) -> list[Meant]:
    """What somebody means by several names (see `find_meant`), each once.

    Raises:
        UsageError: some aren't there, or can't be told from others; the message has all of those.
    """

    async def find(name: str) -> tuple[str, Meant]:
        one = await find_meant(target, name)
        return one.name, one

    return await find_each(typed, find)


async def find_meant_pod(target: Target, typed: str, rank: int | None) -> LivePod:
    """The pod of a run, by its rank, or a replica of a service, by its place in the order of their creation;
    without one the first that is ready.

    Raises:
        UsageError: there is none.
        GpuyardError: it has ended or hasn't started.
    """
    from gpuyard.runs.interactive.live_pod import as_live_pod, live_pod

    found = await find_meant(target, typed)
    if isinstance(found, Run):
        return live_pod(target, found, rank)
    from gpuyard.workloads.serving.service_state import is_ready

    alive = found.alive
    if rank is not None and rank >= len(alive):
        raise errors.UsageError(f"{found.name} has {len(alive)} replicas", remedy="they are counted from 0")
    pods = sorted(alive, key=lambda pod: not is_ready(pod)) if rank is None else [alive[rank]]
    for pod in pods:
        if live := as_live_pod(found.name, pod, rank):
            return live
    raise errors.GpuyardError(
        f"no such replica of {found.name} runs", remedy=f"why: {target.command('explain', found.name)}"
    )


async def find_meant_or_others(target: Target, name: str) -> Meant:
    """The run or service NAME, the Job job/NAME or the pod pod/NAME.

    Raises:
        UsageError: there is none; where a Job or a pod is called so, the remedy says how to ask about it.
    """
    kind, slash, rest = name.partition("/")
    if not slash:
        return await _find_meant(target, name)
    if kind in _JOB:
        return await _of_job(target, await _get(target, JOBS, rest))
    if kind in _POD:
        return await _of_pod(target, await _get(target, PODS, rest))
    raise errors.UsageError(
        f"can't explain {name!r}",
        remedy="name a run, or job/NAME or pod/NAME; of a Deployment one of its pods",
    )


async def _find_meant(target: Target, name: str) -> Meant:
    try:
        return await find_meant(target, name, ask_nodes=True)
    except errors.UsageError as error:
        for kind, resource in (("job", JOBS), ("pod", PODS)):
            if is_subdomain(name) and await _is_there(target, resource, name):
                command = target.command("explain", f"{kind}/{name}")
                raise errors.UsageError(
                    error.message,
                    remedy=f"there is a {resource.kind} of that name that no run made: `{command}`",
                ) from error
        raise


async def _is_there(target: Target, resource: Resource, name: str) -> bool:
    try:
        await target.api.get(resource, name, target.namespace)
    except (errors.NotFound, errors.Forbidden):
        return False
    return True


async def _get(target: Target, resource: Resource, name: str) -> Manifest:
    try:
        if not is_subdomain(name):
            raise errors.NotFound(name)
        return await target.api.get(resource, name, target.namespace)
    except errors.NotFound as error:
        raise errors.UsageError(
            f"no {resource.kind} {name!r} in namespace {target.namespace}",
            remedy=f"`kubectl get {resource.plural} -n {target.namespace}` lists them",
        ) from error


async def _of_job(target: Target, job: Manifest) -> Run:
    selector = f"{LABEL_JOB_NAME}={job['metadata']['name']}"
    pods = (await target.api.list(PODS, target.namespace, label_selector=selector)).items
    return make_run(job, pods, await simulated_nodes(target))


async def _of_pod(target: Target, pod: Manifest) -> Run:
    owner = controller_of(pod)
    if owner is not None and owner["kind"] == "Job":
        return await _of_job(target, await _get(target, JOBS, owner["name"]))
    return run_of_pod(pod, await simulated_nodes(target))
