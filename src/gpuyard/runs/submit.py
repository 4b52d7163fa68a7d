"""From a checked spec to a Job at the API: name, placement check, creation."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuyard import errors
from gpuyard.client.server_version import check_version
from gpuyard.explain.placement import Blocker, Explanation, could_ever_fit
from gpuyard.kube.objects import NODES, PODS, PRIORITY_CLASSES, Manifest, Resource
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.runs.creation import create_run
from gpuyard.runs.image_fit import check_before_submit, read_run_image, wants_check
from gpuyard.runs.notices import Notify
from gpuyard.runs.run import find_run
from gpuyard.runs.script import launcher_text
from gpuyard.runs.stopping import remove_run
from gpuyard.runs.target import Target
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot
from gpuyard.workloads.carrying import Script, carry
from gpuyard.workloads.command import split_run, subject
from gpuyard.workloads.names import generate_name
from gpuyard.workloads.spec import RunSpec


def name_of(spec: RunSpec) -> str:
    """The spec's name, or one made from its script."""
    return spec.name or generate_name(subject(split_run(spec.run)), random.SystemRandom())


@dataclass(frozen=True)
class Submission:
    """A run on its way.

    Attributes:
        job: what `workloads.render` gave, in the namespace where it goes.
        script: to be taken along to the image.
        entrypoint: of an image that gpuyard built for the run.
        environ: the command's, with what is said of registries.
        read_as: the image's name here, where nodes know it by another.
    """

    job: Manifest
    script: Script | None = None
    entrypoint: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    read_as: str = ""


async def submit(
    target: Target, submission: Submission, notify: Notify, *, replace: bool, wait: bool
) -> None:
    """Creates the objects of one run.

    Args:
        target: where.
        submission: what.
        notify: hears of what its user may not expect.
        replace: remove a run of this name first, killing it when it goes on.
        wait: submit even when no node could ever run it.

    Raises:
        UsageError: it would never run, its priority class isn't there, the name is taken, or the cluster
            is too old.
    """
    job = submission.job
    if not target.is_yard:
        await check_version(target.api)
    await _check_priority(target, job["spec"]["template"]["spec"].get("priorityClassName"))
    manifests = await complete(target, submission, notify, refuse=not wait)
    if replace:
        with contextlib.suppress(errors.UsageError):
            await remove_run(target, await find_run(target, job["metadata"]["name"]))
    await create_run(target, manifests, notify)


async def complete(target: Target, submission: Submission, notify: Notify, *, refuse: bool) -> list[Manifest]:
    """What is sent: kept off nodes that won't do, and with what has to travel with it.

    Args:
        target: where it goes.
        submission: what; its Job stays as it is.
        notify: hears of what its user may not expect.
        refuse: raise when no node could ever run it.

    Raises:
        UsageError: no node could.
    """
    job = copy.deepcopy(submission.job)
    entrypoint = await _check_fit(target, job, submission, notify, refuse=refuse)
    entrypoint = submission.entrypoint or entrypoint
    return with_cargo(dataclasses.replace(submission, job=job, entrypoint=entrypoint))


def with_cargo(submission: Submission) -> list[Manifest]:
    """The run's objects as far as nobody has to be asked for them."""
    job = submission.job
    if job["spec"]["template"]["spec"].get("runtimeClassName") == RUNTIME_CLASS_PROCESS:
        return [job]
    return carry(job, submission.script, launcher_text(), submission.entrypoint)


async def _check_fit(
    target: Target, job: Manifest, submission: Submission, notify: Notify, *, refuse: bool
) -> tuple[str, ...]:
    """Refuses what no node could run; returns the image's entry point where that is the launcher."""
    if not refuse and not wants_check(job["spec"]["template"]["spec"]):
        return ()
    nodes, pods, images = await asyncio.gather(
        _visible(target, NODES),
        _visible(target, PODS),
        # A yard may have it in podman's own storage.
        read_run_image(
            job,
            submission.environ,
            notify,
            read_as=submission.read_as,
            refuse=refuse and not target.is_yard,
        ),
    )
    if nodes is not None:
        explanation = could_ever_fit(PodRequest.of_template(job), Snapshot.of(nodes, pods or ()))
        if explanation is not None and refuse:
            raise errors.UsageError("\n".join(explanation.lines()), remedy=_remedy(explanation, target))
    return check_before_submit(job, images, nodes or (), notify, refuse=refuse)


async def _visible(target: Target, resource: Resource) -> Sequence[Manifest] | None:
    """What there is in all namespaces; None for a user who may not look, whom the scheduler will tell."""
    try:
        return (await target.api.list(resource)).items
    except errors.Forbidden:
        return None


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
    except errors.Forbidden:
        return  # The API server looks itself.
