"""`gpuyard ps`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpuyard.cli.options.shared import output_option, target_options

if TYPE_CHECKING:
    from gpuyard.runs.run import Run
    from gpuyard.runs.target import Target

_COLUMNS = ("NAME", "STATE", "EXIT", "GPUS", "AGE", "TOOK", "REASON")


@click.command(
    "ps",
    epilog="""\b
Examples:
  gpuyard ps
  gpuyard ps --running
  gpuyard ps -o json | jq -r '.[] | select(.state == "running") | .name'
""",
)
@target_options
@click.option("-A", "--all-namespaces", is_flag=True, help="Runs of every namespace.")
@click.option(
    "-a",
    "--all",
    "everything",
    is_flag=True,
    expose_value=False,
    help="Also runs that have ended; they are listed anyhow.",
)
@click.option("--running", is_flag=True, help="Only runs whose processes run.")
@output_option()
def command(
    context: str | None, namespace: str | None, all_namespaces: bool, running: bool, output: str | None
) -> None:
    """List runs and their states, in the order of their submits."""
    from datetime import UTC, datetime

    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import age, print_json, print_table
    from gpuyard.gpus.resources import gpus_text
    from gpuyard.runs.run import list_runs

    async def work(target: Target) -> tuple[list[Run], str]:
        runs = await list_runs(target, all_namespaces=all_namespaces)
        if not runs or not running:
            return runs, _none_yet(target, all_namespaces)
        return [run for run in runs if run.state.state == "running"], "No run is running."

    runs, none_yet = call(work, context=context, namespace=namespace)
    if output == "json":
        print_json([_row(run, all_namespaces) for run in runs])
        return
    if not runs:
        click.echo(none_yet, err=True)
        return
    now = datetime.now(UTC)
    rows = []
    for run in runs:
        state = run.state
        took = age(state.started_at, state.finished_at or now)
        gpus = gpus_text(state.gpu_resources, short=True) + (" (simulated)" if state.simulated else "")
        exit_code = "" if state.exit_code is None else str(state.exit_code)
        submitted = age(state.submitted_at, now)
        place = [run.job["metadata"]["namespace"]] if all_namespaces else []
        done = state.tasks.text if state.tasks else state.reason or ""
        rows.append([*place, state.name, state.state, exit_code, gpus, submitted, took, done])
    print_table([*(["NAMESPACE"] if all_namespaces else ()), *_COLUMNS], rows, drop=("TOOK", "AGE", "EXIT"))


def _none_yet(target: Target, all_namespaces: bool) -> str:
    """Where none were found, and a command that makes one there."""
    image = () if target.is_yard else ("--image", "IMAGE")
    where = "any namespace" if all_namespaces else f"namespace {target.namespace}"
    plain = target.is_yard and target.namespace == "default"
    return (
        f"No runs yet{'' if plain else f' in {where}'}. "
        f"Try: {target.command('run', 'train.py', *image, '--gpus', '1')}"
    )


def _row(run: Run, with_namespace: bool) -> dict[str, Any]:
    """A run for machines; names are told apart by their namespaces where there are several."""
    row = run.state.to_json()
    return {"namespace": run.job["metadata"]["namespace"], **row} if with_namespace else row
