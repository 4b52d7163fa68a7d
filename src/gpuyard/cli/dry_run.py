"""`gpuyard run --dry-run`: what would be sent, printed."""

from __future__ import annotations

import click

from gpuyard import errors
from gpuyard.cli.compatibility import wants_check
from gpuyard.cli.output import print_json
from gpuyard.cli.submit import Submission, complete, with_cargo
from gpuyard.cli.target import Target, call
from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.workloads.yaml_text import to_yaml


def print_dry_run(submission: Submission, output: str, *, context: str | None, namespace: str | None) -> None:
    """Prints the objects in the order of their creation: as YAML documents, or as one object of JSON.

    The image of a run with GPUs is checked against the nodes as it is before a submit, where they can be
    asked; else a note says that it wasn't.

    Args:
        submission: the run.
        output: yaml or json.
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
    # What gpuyard builds for the run needn't be there yet.
    if wants_check(pod) and not submission.entrypoint:
        manifests = _checked(submission, context, namespace)
    else:
        manifests = with_cargo(submission)
    if output == "yaml":
        click.echo(to_yaml(manifests), nl=False)
    elif len(manifests) == 1:
        print_json(manifests[0])
    else:
        print_json({"apiVersion": "v1", "kind": "List", "items": manifests})


def _checked(submission: Submission, context: str | None, namespace: str | None) -> list[Manifest]:
    async def work(target: Target) -> list[Manifest]:
        return await complete(target, submission, refuse=False)

    try:
        return call(work, context=context, namespace=namespace)
    except (errors.ConnectionFailed, errors.YardError, errors.ApiError) as error:
        click.echo(f"Note: the image isn't checked against the nodes: {error.message}", err=True)
        return with_cargo(submission)
