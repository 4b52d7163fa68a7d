"""Finding a run by its name, or what others made by `job/NAME` or `pod/NAME`, as a run."""

from __future__ import annotations

from gpuyard import errors
from gpuyard.kube.names import is_subdomain
from gpuyard.kube.objects import JOBS, PODS, Manifest, Resource, controller_of
from gpuyard.kube.wellknown import LABEL_JOB_NAME
from gpuyard.runs.run import Run, find_meant_run, make_run, simulated_nodes
from gpuyard.runs.target import Target
from gpuyard.workloads.run_state import run_state

_JOB = frozenset({"job", "jobs", "job.batch", "jobs.batch"})
_POD = frozenset({"pod", "pods", "po"})


async def find_run_job_or_pod(target: Target, name: str) -> Run:
    """The run NAME, the Job job/NAME or the pod pod/NAME.

    Raises:
        UsageError: there is none; where a Job or a pod is called so, the remedy says how to ask about it.
    """
    kind, slash, rest = name.partition("/")
    if not slash:
        return await _find_run(target, name)
    if kind in _JOB:
        return await _of_job(target, await _get(target, JOBS, rest))
    if kind in _POD:
        return await _of_pod(target, await _get(target, PODS, rest))
    raise errors.UsageError(
        f"can't explain {name!r}",
        remedy="name a run, or job/NAME or pod/NAME; of a Deployment one of its pods",
    )


async def _find_run(target: Target, name: str) -> Run:
    try:
        return await find_meant_run(target, name)
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
    # A pod of its own, or of a Deployment: as if it were the only one of a Job that doesn't try again.
    job = {
        "metadata": {
            key: pod["metadata"].get(key)
            for key in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")
        },
        "spec": {"backoffLimit": 0, "template": {"metadata": pod["metadata"], "spec": pod["spec"]}},
    }
    state = run_state(job, [pod], simulated_nodes=await simulated_nodes(target))
    return Run(pod["metadata"]["name"], job, [pod], state)
