"""From a resolved run to its objects at the API: the cluster is asked, then all is created or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from datetime import UTC, datetime

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.client.server_version import check_version
from gpuyard.gpus.faults import without_gpus_remedy
from gpuyard.kube.objects import (
    DEPLOYMENTS,
    JOBS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    PRIORITY_CLASSES,
    Manifest,
    key_of,
)
from gpuyard.runs.notices import Notice, NoticeKind, Notify
from gpuyard.runs.submitting.creation import check_name, create_run
from gpuyard.runs.target import Target
from gpuyard.scheduling.fit import Filter, fit
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot
from gpuyard.tenancy.names import PRIORITY_PREFIX
from gpuyard.workloads.gang import least_nodes
from gpuyard.workloads.grace import torchrun_warning
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.gpu_request import GpuRequest
from gpuyard.workloads.spec.time_spans import format_span


async def submit(
    target: Target,
    run: ResolvedRun,
    notify: Notify,
    *,
    environ: Mapping[str, str],
    replace: bool = False,
    wait: bool = False,
    read_as: str = "",
) -> Manifest:
    """Creates the objects of one run or service; returns its Job or Deployment as it was sent.

    Args:
        target: where.
        run: what.
        notify: hears of what its user may not expect.
        environ: the caller's, with what is said of registries.
        replace: remove a run of this name first, killing it when it goes on.
        wait: submit even when no node could ever run it.
        read_as: the image's name here, where nodes know it by another.

    Raises:
        UsageError: it would never run, its priority class isn't there, the name is taken, or the cluster
            is too old.
    """
    if warning := torchrun_warning(run.spec):
        notify(Notice(warning, NoticeKind.WARNING))
    fitting = asyncio.create_task(
        fit_to_nodes(target, run, notify, environ=environ, refuse=not wait, read_as=read_as),
        name="fit to nodes",
    )
    try:
        # Meanwhile: each answer takes a while, and the run waits for all of them.
        if not target.is_yard:
            await check_version(target.api)
        # What else has a service's name would tell less. That of a run the API refuses.
        await check_name(target, run.name, DEPLOYMENTS, *([JOBS] if run.spec.service is not None else []))
        fitted = await fitting
    finally:
        fitting.cancel()
        await asyncio.gather(fitting, return_exceptions=True)
    if replace:
        from gpuyard.runs.run import find_run
        from gpuyard.runs.stopping import remove_run

        with contextlib.suppress(errors.UsageError):
            await remove_run(target, await find_run(target, run.name), notify)
    if fitted.spec.service is not None:
        from gpuyard.runs.submitting.services.decision import decide_service  # Few runs are services.

        fitted = await decide_service(target, fitted, notify, environ)
    manifests = render(dataclasses.replace(fitted, submitted_at=datetime.now(UTC)))
    async with prepared(target, fitted, manifests, notify) as objects:
        await create_run(target, objects, notify)
    return manifests[-1]


@contextlib.asynccontextmanager
async def prepared(
    target: Target, run: ResolvedRun, manifests: Sequence[Manifest], notify: Notify
) -> AsyncIterator[Sequence[Manifest]]:
    """Makes its claims and takes its snapshot; both go again when the block fails.

    Yields:
        The objects without the claims.
    """
    async with contextlib.AsyncExitStack() as stack:
        claims = [one for one in manifests if one["kind"] == PERSISTENT_VOLUME_CLAIMS.kind]
        if run.spec.volumes:
            from gpuyard.runs.submitting.volumes import claims_ready

            await stack.enter_async_context(claims_ready(target, run.spec, claims, notify))
        if run.host is not None and run.host.snapshot is not None:
            from gpuyard.runs.submitting.snapshot import taken

            await stack.enter_async_context(taken(run.host.snapshot, run.host.workdir))
        yield manifests[len(claims) :]


async def fit_to_nodes(
    target: Target,
    run: ResolvedRun,
    notify: Notify,
    *,
    environ: Mapping[str, str],
    refuse: bool,
    read_as: str = "",
) -> ResolvedRun:
    """The run kept off nodes that won't do, with its image's launcher, its PriorityClass and its queue known.

    Args:
        target: where it goes.
        run: what.
        notify: hears of what its user may not expect.
        environ: the caller's, with what is said of registries.
        refuse: raise when no node could ever run it.
        read_as: the image's name here, where nodes know it by another.

    Raises:
        UsageError: no node could, or its priority class isn't there.
    """
    run = await with_priority_class(target, run)
    if run.host is not None:
        if refuse or run.spec.gpus.count:
            nodes = await target.list_visible(NODES)
            run = _as_offered(run, nodes, notify)
            if refuse:
                await _refuse_misfit(target, run, render(run)[-1], nodes, notify)
        return run
    # Most runs of a yard are processes, which have no image to look at.
    from gpuyard.runs.image_fit import check_before_submit, read_run_image, wants_check

    # Asked of the nodes is what would be sent if all of them were fit.
    job = render(run)[-1]
    if not refuse and not wants_check(job["spec"]["template"]["spec"]):
        return await with_gathering(target, run, notify)
    # A yard may have the image in podman's own storage.
    believe = refuse and not target.is_yard
    run, nodes, images = await asyncio.gather(
        with_gathering(target, run, notify),
        target.list_visible(NODES),
        read_run_image(job, environ, notify, read_as=read_as, refuse=believe),
    )
    run = _as_offered(run, nodes, notify)
    job = render(run)[-1]
    if refuse:
        await _refuse_misfit(target, run, job, nodes, notify)
    image = check_before_submit(job, images, nodes or (), notify, refuse=refuse)
    return dataclasses.replace(
        run,
        entrypoint=run.entrypoint or image.entrypoint,
        excluded_nodes=image.excluded_nodes,
    )


async def with_gathering(target: Target, run: ResolvedRun, notify: Notify) -> ResolvedRun:
    """The run with what the cluster has to start its pods together; of several pods it is told.

    A yard's scheduler does by itself what it can.
    """
    if target.is_yard:
        return run
    from gpuyard.runs.submitting.gathering import find_gathering

    return await find_gathering(target, run, notify)


async def with_gpus_as_offered(target: Target, run: ResolvedRun, notify: Notify) -> ResolvedRun:
    """The run with GPUs as the nodes offer them."""
    return _as_offered(run, await target.list_visible(NODES), notify) if run.spec.gpus.count else run


def _as_offered(run: ResolvedRun, nodes: Sequence[Manifest] | None, notify: Notify) -> ResolvedRun:
    """Only nodes that the run's own selector and affinity leave it count."""
    gpus = run.spec.gpus
    if not gpus.count:
        return run
    from gpuyard.runs.submitting.offered_gpus import as_offered

    # Its models' label isn't its user's choice: nodes that offer GPUs by their model need none.
    request = PodRequest.of_template(render(_with_gpus(run, dataclasses.replace(gpus, models=())))[-1])
    offered, notice = as_offered(gpus, [node for node in nodes or () if _is_selected(request, node)])
    if notice:
        notify(Notice(notice))
    return _with_gpus(run, offered)


def _with_gpus(run: ResolvedRun, gpus: GpuRequest) -> ResolvedRun:
    return dataclasses.replace(run, spec=dataclasses.replace(run.spec, gpus=gpus))


def _is_selected(request: PodRequest, node: Manifest) -> bool:
    filters = {misfit.filter for misfit in fit(request, NodeState.of(node))}
    return not filters & {Filter.SELECTOR, Filter.MODEL}


async def _refuse_misfit(
    target: Target, run: ResolvedRun, job: Manifest, nodes: Sequence[Manifest] | None, notify: Notify
) -> None:
    """Raises UsageError for a run that fits no node, were that empty, ready and healthy.

    Args:
        target: where it goes.
        run: what.
        job: as it would be sent.
        nodes: all that there are; None where the user may not see them.
        notify: hears how many of several pods fit now.
    """
    if nodes is None:
        return
    request = PodRequest.of_template(job)
    if any(not fit(request, NodeState.of(node).at_its_best()) for node in nodes):
        if run.spec.nodes > 1:
            from gpuyard.runs.submitting.gang_fit import refuse_gang, tell_gang

            least = least_nodes(run.spec)
            refuse_gang(request, least, nodes)
            if (pods := await target.list_visible(PODS)) is not None:
                within = format_span(run.spec.start_within)
                now = Snapshot.of(nodes, pods)
                count = run.spec.nodes
                together = target.is_yard or run.is_queued or run.has_pod_group
                tell_gang(request, count, now, within, notify, least=least, all_or_none=together)
        return
    # What else is asked, and imported, is for the message.
    from gpuyard.explain.placement import Blocker, could_ever_fit

    pods = await target.list_visible(PODS)
    explanation = could_ever_fit(request, Snapshot.of(nodes, pods or ()))
    if explanation is None:
        return
    remedy = advice("--wait submits it all the same, for when such a node comes")
    if explanation.blocker is Blocker.NO_GPUS and target.is_yard:
        has_none = f"this yard has no GPUs to give: {without_gpus_remedy(nodes[0])}" if nodes else ""
        remedy = f"{has_none}; `gpuyard status` says why. {remedy}"
    raise errors.UsageError("\n".join(explanation.lines()), remedy=remedy)


async def with_priority_class(target: Target, run: ResolvedRun) -> ResolvedRun:
    """The run with its PriorityClass as it is called there: `high` is gpuyard's where there is no other.

    Raises:
        UsageError: there is none of either name.
    """
    name = run.spec.priority
    if name is None:
        return run
    try:
        known = {key_of(item).name for item in (await target.api.list(PRIORITY_CLASSES)).items}
    except errors.Forbidden:
        return run  # The API server looks itself.
    if name in known:
        return run
    if PRIORITY_PREFIX + name in known:
        return _named(run, PRIORITY_PREFIX + name)
    raise errors.UsageError(f"there is no PriorityClass {name!r}", remedy=_priorities(name, known))


def _priorities(name: str, known: Set[str]) -> str:
    """Which there are, by their short names where those do, and the one that was probably meant."""
    import difflib

    short = {full.removeprefix(PRIORITY_PREFIX) for full in known}
    near = difflib.get_close_matches(name.removeprefix(PRIORITY_PREFIX), sorted(short), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}there are: {', '.join(sorted(short)) or 'none'}"


def with_own_priority_class(run: ResolvedRun) -> ResolvedRun:
    """The run with gpuyard's PriorityClass where it names one, as every yard and install has them."""
    from gpuyard.tenancy.install import priority_classes

    own = PRIORITY_PREFIX + (run.spec.priority or "")
    return _named(run, own) if own in {key_of(item).name for item in priority_classes()} else run


def _named(run: ResolvedRun, priority: str) -> ResolvedRun:
    return dataclasses.replace(run, spec=dataclasses.replace(run.spec, priority=priority))
