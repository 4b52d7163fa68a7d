"""Whether a run's image runs on the nodes that it could go to: asked before the submit, and by `explain`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gpuyard import errors
from gpuyard.kube.objects import Manifest, labels_of
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.scheduling.fit import fit
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState
from gpuyard.workloads.carrying import asks_for_gpus

if TYPE_CHECKING:
    from gpuyard.images.cuda.fleet import Report
    from gpuyard.images.cuda.need import Image

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
#: What a build gives its images as entry point.
_LAUNCHER = "launcher.py"


async def check_before_submit(
    job: Manifest, nodes: Sequence[Manifest], *, refuse: bool, environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Checks the image of a run with GPUs, and keeps the run off nodes that it wouldn't run on.

    Changes the Job in place: a node affinity expression when some nodes won't do. A registry that can't be
    read from here costs a warning only: the nodes may well reach it.

    Args:
        job: about to be created.
        nodes: all of the target's.
        refuse: raise when it is known to run nowhere.
        environ: the command's, with what is said of registries.

    Returns:
        The image's entry point, where it is known and is gpuyard's launcher.

    Raises:
        UsageError: no node runs it; the message has a table, the remedy the nearest image that would.
    """
    if not wants_check(job["spec"]["template"]["spec"]):
        return ()
    from gpuyard.images.cuda.inspect import read_images

    try:
        images = await read_images(job["spec"]["template"]["spec"]["containers"][0]["image"], environ)
    except (errors.ImageError, errors.ConnectionFailed) as error:
        click.echo(f"Warning: can't look whether the image fits the nodes: {error.message}", err=True)
        return ()
    if not images:
        return ()
    entrypoint = _launcher_of(images[0])
    request = PodRequest.of_template(job)
    candidates = [node for node in nodes if not fit(request, NodeState.of(node).at_its_best())]
    if not candidates:
        return entrypoint
    report = judge_nodes(images, candidates)
    if report.none_fits and refuse:
        raise errors.UsageError(
            "\n".join([f"no node can run {report.need.reference}:", *table(report)]),
            remedy="; ".join([*suggestion_lines(report), "--wait submits it all the same"]),
        )
    if report.failing and not report.none_fits:
        restrict(job, report, nodes)
        away = ", ".join(sorted(report.failing))
        click.echo(
            f"The image doesn't run on {away}: the run is kept off (see `gpuyard image check`)", err=True
        )
    return entrypoint


def wants_check(pod: Mapping[str, Any]) -> bool:
    """Whether a pod spec has an image, and GPUs to run it on."""
    return pod.get("runtimeClassName") != RUNTIME_CLASS_PROCESS and asks_for_gpus(pod["containers"][0])


async def unfit_lines(
    job: Manifest, nodes: Sequence[Manifest], environ: Mapping[str, str] = os.environ
) -> list[str]:
    """For `explain`: the nodes with GPUs that a waiting run's image doesn't run on, and what would."""
    if not wants_check(job["spec"]["template"]["spec"]):
        return []
    from gpuyard.images.cuda.inspect import read_images
    from gpuyard.images.cuda.offer import has_gpus

    container = job["spec"]["template"]["spec"]["containers"][0]
    try:
        images = await read_images(container["image"], environ)
    except (errors.ImageError, errors.ConnectionFailed):
        return []
    with_gpus = [node for node in nodes if has_gpus(node)]
    if not images or not with_gpus:
        return []
    report = judge_nodes(images, with_gpus)
    if not report.failing:
        return []
    failing = replace(report, verdicts=tuple(v for v in report.verdicts if v.fails))
    return ["  its image doesn't run on:", *table(failing), *(f"  {s}" for s in suggestion_lines(report))]


def judge_nodes(images: Sequence[Image], nodes: Sequence[Manifest]) -> Report:
    """The verdicts over an image on these nodes."""
    from gpuyard.images.cuda.facts import load_facts
    from gpuyard.images.cuda.fleet import judge_all
    from gpuyard.images.cuda.need import need_of
    from gpuyard.images.cuda.offer import offer_of

    facts = load_facts()
    offers = [offer_of(node, facts) for node in nodes]
    return judge_all([need_of(image, facts) for image in images], offers, facts)


def restrict(job: Manifest, report: Report, nodes: Sequence[Manifest]) -> None:
    """Adds the expression that excludes failing nodes to each of the required node terms."""
    from gpuyard.images.cuda.fleet import exclusion

    clause = exclusion(report, {node["metadata"]["name"]: labels_of(node) for node in nodes})
    if clause is None:
        return
    affinity = job["spec"]["template"]["spec"].setdefault("affinity", {}).setdefault("nodeAffinity", {})
    # Terms are alternatives, so the expression belongs into each of them.
    terms = (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    affinity[_REQUIRED] = {
        "nodeSelectorTerms": [
            {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), clause]} for term in terms
        ]
    }


def _launcher_of(image: Image) -> tuple[str, ...]:
    """Its entry point where that is the launcher, which a command of Kubernetes' would replace."""
    launches = any(word.rpartition("/")[2] == _LAUNCHER for word in image.entrypoint)
    return tuple(image.entrypoint) if launches else ()


def table(report: Report) -> list[str]:
    """One line a node: its GPU, its driver and the verdict with its first reason."""
    rows = [("NODE", "GPU", "DRIVER", "VERDICT")]
    for verdict in report.verdicts:
        offer, reason = verdict.offer, verdict.decisive
        driver = str(offer.driver or "") or (f"CUDA {offer.cuda}" if offer.cuda else "")
        text = f"{verdict.outcome}: {reason.message}" if reason else str(verdict.outcome)
        rows.append((offer.name, offer.product, driver, text))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  " + "   ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]


def suggestion_lines(report: Report) -> list[str]:
    """What to do instead; the reason's own remedy where no image is known that would run."""
    if report.suggestion is not None:
        return [report.suggestion.how]
    remedies = [v.decisive.remedy for v in report.verdicts if v.fails and v.decisive and v.decisive.remedy]
    return list(dict.fromkeys(remedies))
