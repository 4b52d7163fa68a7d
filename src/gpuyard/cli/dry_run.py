"""`gpuyard run --dry-run`: what would be sent, printed."""

from __future__ import annotations

from collections.abc import Mapping

import click

from gpuyard import errors
from gpuyard.cli.call import call
from gpuyard.cli.output.notices import print_notice
from gpuyard.cli.output.results import print_json
from gpuyard.runs.submitting.submit import (
    fit_to_nodes,
    with_gathering,
    with_gpus_as_offered,
    with_own_priority_class,
    with_priority_class,
)
from gpuyard.runs.target import Target
from gpuyard.workloads.gang import is_gang
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.yaml_text import to_yaml

_PROCESS = "# A process of the yard's host: its runtime class exists on no cluster, which would refuse it."


def print_dry_run(
    run: ResolvedRun,
    output: str,
    environ: Mapping[str, str],
    *,
    wait: bool,
    context: str | None,
    namespace: str | None,
) -> None:
    """Prints the objects in the order of their creation: as YAML documents, or as one object of JSON.

    An image is checked against the nodes as it is before a submit, where they can be asked; else a note says
    that it wasn't. What would be refused is printed all the same, with the reason as a note.

    Args:
        run: of which nothing is there yet.
        output: yaml or json.
        environ: the command's, with what is said of registries.
        wait: whether what fits no node would be submitted.
        context: as the command line has it.
        namespace: the same.
    """
    if run.host:
        # JSON has no comments.
        click.echo(_PROCESS, err=output == "json")
        run = _decided_there(run, context, namespace)
    elif not run.entrypoint:
        # What gpuyard builds for the run, whose entry point is known, needn't be there yet.
        run = _fitted(run, environ, wait, context, namespace)
    else:
        run = _decided_there(run, context, namespace)
    if run.spec.service is not None:
        run = _with_service(run, environ, context, namespace)
    manifests = render(run)
    if output == "yaml":
        click.echo(to_yaml(manifests), nl=False)
    elif len(manifests) == 1:
        print_json(manifests[0])
    else:
        print_json({"apiVersion": "v1", "kind": "List", "items": manifests})


def _decided_there(run: ResolvedRun, context: str | None, namespace: str | None) -> ResolvedRun:
    """The run with its PriorityClass as it is called there, GPUs as they are offered and what starts several
    pods together; with gpuyard's own PriorityClass, NVIDIA's GPUs and its launcher where nobody answers."""
    if run.spec.priority is None and not run.spec.gpus.count and not is_gang(run.spec):
        return run

    async def work(target: Target) -> ResolvedRun:
        decided = await with_gpus_as_offered(target, await with_priority_class(target, run), print_notice)
        return await with_gathering(target, decided, print_notice)

    try:
        return call(work, context=context, namespace=namespace)
    except errors.UsageError as error:
        click.echo(f"Note: it would be refused: {error.message}", err=True)
        return run
    except (errors.ConnectionFailed, errors.YardError, errors.ApiError):
        return with_own_priority_class(run)


def _fitted(
    run: ResolvedRun, environ: Mapping[str, str], wait: bool, context: str | None, namespace: str | None
) -> ResolvedRun:
    """The run as it would be submitted; as it is, with a note, where that can't be found out."""

    async def work(target: Target) -> ResolvedRun:
        try:
            return await fit_to_nodes(target, run, print_notice, environ=environ, refuse=not wait)
        except errors.UsageError as error:
            click.echo(f"Note: it would be refused: {error.message}", err=True)
            return run

    try:
        return call(work, context=context, namespace=namespace)
    except (errors.ConnectionFailed, errors.YardError, errors.ApiError) as error:
        click.echo(f"Note: the image isn't checked against the nodes: {error.message}", err=True)
        return with_own_priority_class(run)


def _with_service(
    run: ResolvedRun, environ: Mapping[str, str], context: str | None, namespace: str | None
) -> ResolvedRun:
    """The service with what scales it there and how it is updated; as a yard would where nobody answers."""
    from gpuyard.runs.submitting.services.decision import decide_service

    async def work(target: Target) -> ResolvedRun:
        return await decide_service(target, run, print_notice, environ)

    try:
        return call(work, context=context, namespace=namespace)
    except errors.UsageError as error:
        click.echo(f"Note: it would be refused: {error.message}", err=True)
    except (errors.ConnectionFailed, errors.YardError, errors.ApiError) as error:
        click.echo(f"Note: how it is scaled and updated there isn't known: {error.message}", err=True)
    return run
