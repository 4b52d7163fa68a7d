"""From a checked spec to a Job at the API: name, placement check, creation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard import errors
from gpuyard.cli.compatibility import check_before_submit, wants_check
from gpuyard.cli.runs import find_run
from gpuyard.cli.stopping import remove_run
from gpuyard.cli.target import Target
from gpuyard.kube.objects import JOBS, NODES, PODS, PRIORITY_CLASSES, Manifest
from gpuyard.scheduling.explain import Blocker, Explanation, could_ever_fit
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot
from gpuyard.workloads.command import split_run, subject
from gpuyard.workloads.names import generate_name
from gpuyard.workloads.spec import RunSpec

_NAME_TRIES = 5


def name_of(spec: RunSpec) -> str:
    """The spec's name, or one made from its script."""
    return spec.name or generate_name(subject(split_run(spec.run)), random.SystemRandom())


async def submit(
    target: Target,
    manifests: Sequence[Manifest],
    *,
    replace: bool,
    wait: bool,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Creates the objects of one run.

    Args:
        target: where.
        manifests: what `workloads.render` gave.
        replace: remove a run of this name first, killing it when it goes on.
        wait: submit even when no node could ever run it.
        environ: the command's, with what is said of registries.

    Raises:
        UsageError: it would never run, its priority class isn't there, or the name is taken.
    """
    (job,) = manifests
    spec = job["spec"]["template"]["spec"]
    await _check_priority(target, spec.get("priorityClassName"))
    await _check_fit(target, job, environ, refuse=not wait)
    if replace:
        with contextlib.suppress(errors.UsageError):
            await remove_run(target, await find_run(target, job["metadata"]["name"]))
    try:
        await target.api.create(JOBS, job, target.namespace)
    except errors.NotFound as error:
        raise errors.UsageError(
            f"there is no namespace {target.namespace!r}",
            remedy="make it (`kubectl create namespace NAME --dry-run=client -o yaml | kubectl create -f -` "
            "works on a yard as well), or leave --namespace out",
        ) from error
    except errors.AlreadyExists as error:
        name = job["metadata"]["name"]
        raise errors.UsageError(
            f"there is a run {name!r} already (see `{target.command('show', name)}`)",
            remedy="choose another --name, or --replace it: that removes it with its logs",
        ) from error


async def _check_fit(target: Target, job: Manifest, environ: Mapping[str, str], *, refuse: bool) -> None:
    image = wants_check(job["spec"]["template"]["spec"])
    if not refuse and not image:
        return
    nodes, pods = await asyncio.gather(target.api.list(NODES), target.api.list(PODS))
    explanation = could_ever_fit(PodRequest.of_template(job), Snapshot.of(nodes.items, pods.items))
    if explanation is not None and refuse:
        raise errors.UsageError("\n".join(explanation.lines()), remedy=_remedy(explanation, target))
    if image:
        await check_before_submit(job, nodes.items, refuse=refuse, environ=environ)


def _remedy(explanation: Explanation, target: Target) -> str:
    wait = "--wait submits it all the same, for when such a node comes"
    if explanation.blocker is Blocker.NO_GPUS and target.is_yard:
        return (
            "this yard has no GPUs: `gpuyard up --simulate H100:8` simulates some; "
            f"`gpuyard status` says why. {wait}"
        )
    return wait


async def _check_priority(target: Target, name: str | None) -> None:
    if name is None:
        return
    try:
        await target.api.get(PRIORITY_CLASSES, name)
    except errors.NotFound as error:
        known: list[Any] = [c["metadata"]["name"] for c in (await target.api.list(PRIORITY_CLASSES)).items]
        raise errors.UsageError(
            f"there is no PriorityClass {name!r}", remedy=f"there are: {', '.join(sorted(known)) or 'none'}"
        ) from error
