"""Whether a run's image runs on the nodes that it could go to: asked before the submit, and by `explain`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.gpus.resources import wants_nvidia
from gpuyard.kube.objects import Manifest, labels_of
from gpuyard.kube.wellknown import ENV_ALLOW_CPU, RUNTIME_CLASS_PROCESS
from gpuyard.runs.notices import Notice, NoticeKind, Notify
from gpuyard.scheduling.fit import fit
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState
from gpuyard.workloads.launch import allows_cpu

if TYPE_CHECKING:
    from gpuyard.compatibility.fleet import FleetReport
    from gpuyard.compatibility.need import Traits

#: What a build gives its images as entry point.
_LAUNCHER = "launcher.py"
#: Those for which anything is known of GPU code.
_GPU_MACHINES = ("amd64", "arm64")
#: How long a submit waits for the registry. Without GPUs there is little to find out.
_LONGEST_S, _LONGEST_WITHOUT_GPUS_S = 10.0, 2.0


@dataclass(frozen=True)
class ImageFit:
    """What follows from an image for a run in it.

    Attributes:
        entrypoint: of the image, where it is known and is gpuyard's launcher.
        excluded_nodes: a node selector requirement that keeps the run off nodes that don't run the image.
    """

    entrypoint: tuple[str, ...] = ()
    excluded_nodes: Mapping[str, Any] | None = None


async def read_run_image(
    job: Manifest, environ: Mapping[str, str], notify: Notify, *, read_as: str = "", refuse: bool = False
) -> tuple[Traits, ...]:
    """What is known of a run's image before its submit; nothing for a process of the yard's host.

    A registry that can't be read from here costs a warning at most: the nodes may well reach it. One that
    answers that it has no such image is believed.

    Args:
        job: of the run.
        environ: the command's, with what is said of registries.
        notify: hears of a registry that can't be read.
        read_as: the image's name here, where the nodes know it by another.
        refuse: raise when the image isn't there.

    Raises:
        UsageError: the registry has no such image.
    """
    pod = job["spec"]["template"]["spec"]
    if pod.get("runtimeClassName") == RUNTIME_CLASS_PROCESS:
        return ()
    try:
        return await _read(pod, environ, read_as)
    except errors.ImageNotFound as error:
        if refuse:
            wait = advice("--wait submits it all the same, for when the image comes")
            raise errors.UsageError(error.message, remedy=f"{error.remedy}; {wait}") from error
        why = error.message
    except (errors.ImageError, errors.ConnectionFailed, TimeoutError) as error:
        why = error.message if isinstance(error, errors.GpuyardError) else "its registry takes too long"
    if wants_check(pod):
        notify(Notice(f"can't look whether the image fits the nodes: {why}", NoticeKind.WARNING))
    return ()


def check_before_submit(
    job: Manifest, images: Sequence[Traits], nodes: Sequence[Manifest], notify: Notify, *, refuse: bool
) -> ImageFit:
    """Checks the image of a run against the nodes that it could go to.

    Args:
        job: as it would be created.
        images: what `read_run_image` found.
        nodes: all of the target's.
        notify: hears of nodes that the run is kept off.
        refuse: raise when it is known to run nowhere.

    Raises:
        UsageError: no node runs it; the message has a table, the remedy the nearest image that would.
    """
    if not images:
        return ImageFit()
    entrypoint = _launcher_of(images[0])
    request = PodRequest.of_template(job)
    candidates = [node for node in nodes if not fit(request, NodeState.of(node).at_its_best())]
    if not candidates:
        return ImageFit(entrypoint)
    report = _judge_for_run(job, images, candidates, notify)
    if report.none_fits and refuse:
        raise _fits_nowhere(report)
    if not report.failing or report.none_fits:
        return ImageFit(entrypoint)
    away = ", ".join(sorted(report.failing))
    notify(Notice(f"The image doesn't run on {away}: the run is kept off (see `gpuyard image check`)"))
    from gpuyard.compatibility.fleet import exclusion

    return ImageFit(entrypoint, exclusion(report, {n["metadata"]["name"]: labels_of(n) for n in nodes}))


def _judge_for_run(
    job: Manifest, images: Sequence[Traits], nodes: Sequence[Manifest], notify: Notify
) -> FleetReport:
    """The verdicts; without the GPUs' where the run may go on without them and no node would do."""
    report = _judge(job, images, nodes)
    if not report.none_fits or not _allows_cpu(job["spec"]["template"]["spec"]):
        return report
    report = report.without_gpus()
    if not report.none_fits:
        said = f"{report.need.reference} can use the GPUs of no node: {_first_note(report)}"
        without = f"{said}; it goes on without them, as {ENV_ALLOW_CPU} says"
        notify(Notice(without, NoticeKind.WARNING))
    return report


def _fits_nowhere(report: FleetReport) -> errors.UsageError:
    from gpuyard.compatibility.verdict_lines import suggestion_lines, table

    return errors.UsageError(
        "\n".join([f"no node can run {report.need.reference}:", *table(report)]),
        remedy="; ".join([*suggestion_lines(report), advice("--wait submits it all the same")]),
    )


def wants_check(pod: Mapping[str, Any]) -> bool:
    """Whether a pod spec has an image, and GPUs of NVIDIA's to run it on: of others nothing is known."""
    return pod.get("runtimeClassName") != RUNTIME_CLASS_PROCESS and wants_nvidia(pod)


async def unfit_lines(
    job: Manifest, nodes: Sequence[Manifest], environ: Mapping[str, str] = os.environ
) -> list[str]:
    """For `explain`: the nodes that a waiting run's image doesn't run on, and what would.

    Of a run with GPUs those with GPUs are looked at.
    """
    from gpuyard.compatibility.offer import has_gpus
    from gpuyard.compatibility.verdict_lines import suggestion_lines, table

    pod = job["spec"]["template"]["spec"]
    gpus = wants_check(pod)
    there = [node for node in nodes if not gpus or has_gpus(node)]
    if not there or pod.get("runtimeClassName") == RUNTIME_CLASS_PROCESS:
        return []
    try:
        images = await _read(pod, environ)
    except (errors.ImageError, errors.ImageReferenceError, errors.ConnectionFailed, TimeoutError):
        return []
    if not images:
        return []
    report = _judge(job, images, there)
    if report.none_fits and _allows_cpu(pod):
        report = report.without_gpus()
    if not report.failing:
        return []
    failing = replace(report, verdicts=tuple(v for v in report.verdicts if v.fails))
    return ["  its image doesn't run on:", *table(failing), *(f"  {s}" for s in suggestion_lines(report))]


async def _read(pod: Mapping[str, Any], environ: Mapping[str, str], read_as: str = "") -> tuple[Traits, ...]:
    """Raises ImageError, ConnectionFailed, and TimeoutError from a registry that takes too long."""
    from gpuyard.compatibility.inspect import read_images

    gpus = wants_check(pod)
    machines = _GPU_MACHINES if gpus else ()
    async with asyncio.timeout(_LONGEST_S if gpus else _LONGEST_WITHOUT_GPUS_S):
        return await read_images(read_as or pod["containers"][0]["image"], environ, machines)


def _judge(job: Manifest, images: Sequence[Traits], nodes: Sequence[Manifest]) -> FleetReport:
    """The verdicts as far as a run cares."""
    pod = job["spec"]["template"]["spec"]
    if not wants_check(pod):
        return _judge_machines(images, nodes)
    return judge_nodes(images, nodes)


def _judge_machines(images: Sequence[Traits], nodes: Sequence[Manifest]) -> FleetReport:
    from gpuyard.compatibility.fleet import judge_machines
    from gpuyard.compatibility.need import Need
    from gpuyard.compatibility.offer import Offer, machine_of

    needs = [Need(image.reference, image.machine) for image in images]
    return judge_machines(
        needs, [Offer(node["metadata"]["name"], machine=machine_of(node)) for node in nodes]
    )


def _first_note(report: FleetReport) -> str:
    return next((v.decisive.message for v in report.verdicts if v.decisive and not v.fails), "")


def judge_nodes(images: Sequence[Traits], nodes: Sequence[Manifest]) -> FleetReport:
    """The verdicts over an image on the GPUs of these nodes."""
    from gpuyard.compatibility.facts import load_facts
    from gpuyard.compatibility.fleet import judge_all
    from gpuyard.compatibility.need import need_of
    from gpuyard.compatibility.offer import offer_of

    facts = load_facts()
    offers = [offer_of(node, facts) for node in nodes]
    return judge_all([need_of(image, facts) for image in images], offers, facts)


def _allows_cpu(pod: Mapping[str, Any]) -> bool:
    variables = pod["containers"][0].get("env") or ()
    return allows_cpu({variable["name"]: variable.get("value", "") for variable in variables})


def _launcher_of(image: Traits) -> tuple[str, ...]:
    """Its entry point where that is the launcher, which a command of Kubernetes' would replace."""
    launches = any(word.rpartition("/")[2] == _LAUNCHER for word in image.entrypoint)
    return tuple(image.entrypoint) if launches else ()
