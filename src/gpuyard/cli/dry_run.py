"""`gpuyard run --dry-run`: what would be sent, printed."""

from __future__ import annotations

import click

from gpuyard import errors
from gpuyard.cli.call import call
from gpuyard.cli.notices import print_notice
from gpuyard.cli.output import print_json
from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.runs.submit import Submission, complete, with_cargo
from gpuyard.runs.target import Target
from gpuyard.workloads.yaml_text import to_yaml


def print_dry_run(
    submission: Submission, output: str, *, wait: bool, context: str | None, namespace: str | None
) -> None:
    """Prints the objects in the order of their creation: as YAML documents, or as one object of JSON.

    An image is checked against the nodes as it is before a submit, where they can be asked; else a note says
    that it wasn't. What would be refused is printed all the same, with the reason as a note.

    Args:
        submission: the run.
        output: yaml or json.
        wait: whether what fits no node would be submitted.
        context: as the command line has it.
        namespace: the same.
    """
    pod = submission.job["spec"]["template"]["spec"]
    if pod.get("runtimeClassName") == RUNTIME_CLASS_PROCESS:
        note = (
            "# A process of the yard's host: its runtime class exists on no cluster, which would refuse it."
        )
        # JSON has no comments.
        click.echo(note, err=output == "json")
        manifests = with_cargo(submission)
    elif submission.entrypoint:
        # What gpuyard builds for the run needn't be there yet.
        manifests = with_cargo(submission)
    else:
        manifests = _checked(submission, wait, context, namespace)
    if output == "yaml":
        click.echo(to_yaml(manifests), nl=False)
    elif len(manifests) == 1:
        print_json(manifests[0])
    else:
        print_json({"apiVersion": "v1", "kind": "List", "items": manifests})


def _checked(
    submission: Submission, wait: bool, context: str | None, namespace: str | None
) -> list[Manifest]:
    async def work(target: Target) -> list[Manifest]:
        try:
            return await complete(target, submission, print_notice, refuse=not wait)
        except errors.UsageError as error:
            click.echo(f"Note: it would be refused: {error.message}", err=True)
            return with_cargo(submission)

    try:
        return call(work, context=context, namespace=namespace)
    except (errors.ConnectionFailed, errors.YardError, errors.ApiError) as error:
        click.echo(f"Note: the image isn't checked against the nodes: {error.message}", err=True)
        return with_cargo(submission)
