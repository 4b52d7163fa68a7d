"""`gpuyard image check`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuyard import errors
from gpuyard.cli.image_reading import read_image, read_layers_option
from gpuyard.cli.options.registry import registry_environ, registry_options
from gpuyard.cli.options.shared import output_option, target_options

if TYPE_CHECKING:
    from gpuyard.compatibility.fleet import FleetReport
    from gpuyard.compatibility.need import Need, Traits
    from gpuyard.runs.target import Target

    Reading = Callable[[], Coroutine[Any, Any, tuple[Traits, ...]]]


@click.command(
    "check",
    epilog="""\b
Examples:
  gpuyard image check nvcr.io/nvidia/pytorch:24.06-py3
  gpuyard image check registry/team/train:v1 --gpu H100 --driver 535.104.05
  gpuyard image check oci:build/train:v1 --gpu V100 --driver 470 -o json

\b
Exit code: 0 when it runs on one of them (or that can't be known), 1 when it runs on none.
""",
)
@click.argument("image")
@click.option("--gpu", metavar="MODEL", help="A GPU instead of the nodes, such as H100.")
@click.option("--driver", metavar="VERSION", help="Driver of that GPU, such as 535.104.05.")
@read_layers_option
@target_options
@registry_options
@output_option()
def command(
    image: str,
    gpu: str | None,
    driver: str | None,
    read_layers: bool,
    context: str | None,
    namespace: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    output: str | None,
) -> None:
    """Say whether an IMAGE runs on the nodes, or on a stated GPU and driver, and why.

    IMAGE is in a registry, or oci:PATH[:TAG] or oci-archive:PATH[:TAG]. Only its manifest and config are
    read, unless told otherwise.
    """
    if driver and not gpu:
        raise click.UsageError(
            "--driver says which driver the GPU of --gpu has: name one, such as --gpu H100"
        )
    environ = registry_environ(plain_http, registry_ca)
    read = partial(read_image, image, environ, layers=read_layers)
    report = _check_stated(read, gpu, driver or "") if gpu else _check_nodes(read, context, namespace)
    if output == "json":
        from gpuyard.cli.output.results import print_json

        print_json(to_json(report))
    else:
        _print(report)
    sys.exit(1 if report.none_fits else 0)


def _check_stated(read: Reading, gpu: str, driver: str) -> FleetReport:
    import asyncio

    from gpuyard.compatibility.facts import load_facts
    from gpuyard.compatibility.fleet import judge_all
    from gpuyard.compatibility.need import need_of
    from gpuyard.compatibility.offer import stated_offer

    facts = load_facts()
    try:
        offer = stated_offer(gpu, driver, facts)
    except ValueError as error:
        raise errors.UsageError(
            str(error), remedy="write for example --gpu H100 --driver 535.104.05"
        ) from error
    needs = [need_of(image, facts) for image in asyncio.run(read())]
    return judge_all(needs, [offer], facts)


def _check_nodes(read: Reading, context: str | None, namespace: str | None) -> FleetReport:
    from gpuyard.cli.call import call
    from gpuyard.compatibility.offer import has_gpus
    from gpuyard.kube.objects import NODES
    from gpuyard.runs.image_fit import judge_nodes

    async def work(target: Target) -> FleetReport:
        nodes = [node for node in (await target.api.list(NODES)).items if has_gpus(node)]
        if not nodes:
            raise errors.UsageError(
                "no node has GPUs to check the image against",
                remedy="state one: --gpu H100 --driver 535.104.05",
            )
        return judge_nodes(await read(), nodes)

    return call(work, context=context, namespace=namespace)


def to_json(report: FleetReport) -> dict[str, Any]:
    """The need with where each fact came from, a verdict a node, and the nearest image that would fit."""
    need, suggestion = report.need, report.suggestion
    return {
        "image": need.reference,
        "fits": not report.none_fits,
        "needs": {
            "architecture": need.machine or None,
            "cuda": str(need.cuda) if need.cuda else None,
            "cuda_source": need.cuda_source or None,
            "torch": need.torch or None,
            "torch_source": need.torch_source or None,
            "torch_without_cuda": need.cpu_only,
            "gpu_code": str(need.architectures) if need.architectures else None,
            "forward_compatibility": str(need.compat) if need.compat else None,
            "findings": [
                {"what": f.what, "value": f.value, "source": f.source, "counts": f.counts}
                for f in need.findings
            ],
        },
        "nodes": [
            {
                "node": verdict.offer.name,
                "gpu": verdict.offer.product or None,
                "driver": str(verdict.offer.driver) if verdict.offer.driver else None,
                "cuda": str(verdict.offer.cuda) if verdict.offer.cuda else None,
                "compute_capability": str(verdict.offer.capability) if verdict.offer.capability else None,
                "simulated": verdict.offer.simulated,
                "outcome": verdict.outcome,
                "reasons": [reason.to_json() for reason in verdict.reasons],
            }
            for verdict in report.verdicts
        ],
        "suggestion": {"name": suggestion.name, "how": suggestion.how, "nodes": list(suggestion.nodes)}
        if suggestion
        else None,
    }


def _cuda(need: Need) -> str:
    if need.cpu_only:
        return "none: its torch is built without"
    return f"{need.cuda} (from {need.cuda_source})" if need.cuda else "none that is known of"


def _print(report: FleetReport) -> None:
    from gpuyard.cli.output.results import print_fields
    from gpuyard.compatibility.verdict_lines import suggestion_lines

    need = report.need
    print_fields(
        [
            ("Image", need.reference),
            ("CPU", need.machine),
            ("CUDA", _cuda(need)),
            ("torch", f"{need.torch} ({need.torch_source})" if need.torch else ""),
            ("GPU code", str(need.architectures or "")),
        ]
    )
    for finding in need.findings:
        if not finding.counts:
            click.echo(f"  not used: {finding.what} {finding.value} ({finding.source})")
    for verdict in report.verdicts:
        offer = verdict.offer
        about = [offer.product, f"driver {offer.driver}" if offer.driver and offer.observed else ""]
        detail = ", ".join(text for text in about if text)
        click.echo(
            f"\n{offer.name} ({detail}): {verdict.outcome}"
            if detail
            else f"\n{offer.name}: {verdict.outcome}"
        )
        for reason in verdict.reasons:
            click.echo(f"  {reason.outcome}: {reason.message}")
            if reason.remedy:
                click.echo(f"    {reason.remedy}")
    if report.suggestion:
        click.echo(f"\nWould fit: {'; '.join(suggestion_lines(report))}")
