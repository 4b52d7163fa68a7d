"""Giving an elastic run more pods, or fewer, while it goes on."""

from __future__ import annotations

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.kube.objects import JOBS, uid_of
from gpuyard.runs.run import Run, has_ended
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import is_stopped
from gpuyard.workloads.run_state import ElasticPods


async def scale_run(target: Target, run: Run, nodes: int) -> int:
    """Asks for so many pods, and gives how many there were to be before.

    Completions and parallelism change together, in one patch: the controller ends the pods of the highest
    indexes with grace, or makes those that are missing.

    Raises:
        UsageError: the run isn't elastic, has ended, or isn't meant for so many.
        NotFound: it was removed meanwhile.
    """
    if has_ended(run) or is_stopped(run.job):
        ends = "has ended" if has_ended(run) else "is being stopped"
        raise errors.UsageError(f"{run.name} {ends}", remedy=advice("submit it anew with `gpuyard run`"))
    pods = ElasticPods.of(run.job, run.pods)
    if pods is None:
        raise errors.UsageError(
            f"{run.name} isn't elastic: its pods start together and end together",
            remedy=advice("submit it with the least and the most: --nodes 2..4"),
        )
    if not pods.least <= nodes <= pods.most:
        raise errors.UsageError(
            f"{run.name} was submitted for {pods.least} to {pods.most} pods, not for {nodes}",
            remedy=advice("choose one of those, or submit it anew with other --nodes"),
        )
    patch = {
        "metadata": {"uid": uid_of(run.job)},
        "spec": {"completions": nodes, "parallelism": nodes},
    }
    await target.api.patch(JOBS, run.job["metadata"]["name"], patch, target.namespace)
    return pods.wanted
