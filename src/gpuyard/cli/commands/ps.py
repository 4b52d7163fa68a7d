"""`gpuyard ps`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from gpuyard.cli.options.shared import output_option, target_options

if TYPE_CHECKING:
    from datetime import datetime

    from gpuyard.runs.run import Run
    from gpuyard.runs.services.service import Service
    from gpuyard.runs.services.traffic import Traffic
    from gpuyard.runs.target import Target

_Found: TypeAlias = "tuple[list[Run], _Services, str]"
_TASK_COLUMNS = ("NAME", "TASK", "STATE", "EXIT", "TRIES", "VALUES")
_COLUMNS = ("NAME", "STATE", "EXIT", "GPUS", "AGE", "TOOK", "REASON")


@click.command(
    "ps",
    epilog="""\b
Examples:
  gpuyard ps
  gpuyard ps --running
  gpuyard ps --tasks    # of sweeps
  gpuyard ps -o json | jq -r '.[] | select(.state == "running") | .name'
""",
)
@target_options
@click.option("-A", "--all-namespaces", is_flag=True, help="Those of every namespace.")
@click.option(
    "-a",
    "--all",
    "everything",
    is_flag=True,
    expose_value=False,
    help="Also runs that have ended; they are listed anyhow.",
)
@click.option("--running", is_flag=True, help="Only those whose processes run.")
@click.option("--tasks", is_flag=True, help="Each task of sweeps, with its values.")
@output_option()
def command(
    context: str | None,
    namespace: str | None,
    all_namespaces: bool,
    running: bool,
    tasks: bool,
    output: str | None,
) -> None:
    """List runs and services and their states, in the order of their submits."""
    import asyncio
    from datetime import UTC, datetime

    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import print_json
    from gpuyard.runs.run import list_runs

    async def work(target: Target) -> _Found:
        runs, services = await asyncio.gather(
            list_runs(target, all_namespaces=all_namespaces),
            _read_services(target, all_namespaces=all_namespaces) if not tasks else _no_services(),
        )
        if tasks:
            from gpuyard.runs.tasks import with_tasks

            sweeps = [run for run in runs if run.state.tasks]
            return [await with_tasks(target, run) for run in sweeps], services, "No run is a sweep."
        if not (runs or services.services) or not running:
            return runs, services, _none_yet(target, all_namespaces)
        runs = [run for run in runs if run.state.state == "running"]
        return runs, services.running(), "No run is running."

    runs, services, none_yet = call(work, context=context, namespace=namespace)
    if tasks:
        _print_tasks(runs, running=running, all_namespaces=all_namespaces, output=output, none_yet=none_yet)
        return
    if output == "json":
        print_json([*(_row(run, all_namespaces) for run in runs), *services.rows(all_namespaces)])
        return
    if not runs and not services.services:
        click.echo(none_yet, err=True)
        return
    now = datetime.now(UTC)
    if services.services:
        from gpuyard.cli.service_output import print_services

        print_services(services.services, services.traffic, now, with_namespace=all_namespaces)
        if not runs:
            return
        click.echo()
    _print_runs(runs, now, all_namespaces=all_namespaces)


def _print_runs(runs: Sequence[Run], now: datetime, *, all_namespaces: bool) -> None:
    from gpuyard.cli.output.results import age, print_table
    from gpuyard.gpus.resources import gpus_text

    rows = []
    for run in runs:
        state = run.state
        took = age(state.started_at, state.finished_at or now)
        gpus = gpus_text(state.gpu_resources, short=True) + (" (simulated)" if state.simulated else "")
        exit_code = "" if state.exit_code is None else str(state.exit_code)
        submitted = age(state.submitted_at, now)
        place = _place(run, all_namespaces).values()
        pods = state.pods.text if state.pods and state.state == "running" else ""
        done = state.tasks.text if state.tasks else pods or state.reason or ""
        rows.append([*place, state.name, state.state, exit_code, gpus, submitted, took, done])
    print_table([*(["NAMESPACE"] if all_namespaces else ()), *_COLUMNS], rows, drop=("TOOK", "AGE", "EXIT"))


@dataclass(frozen=True)
class _Services:
    """Services beside runs, with what is measured of them by namespace and name."""

    services: Sequence[Service] = ()
    traffic: Mapping[tuple[str, str], Traffic] = field(default_factory=dict)

    def running(self) -> _Services:
        """Those that serve."""
        return replace(self, services=[one for one in self.services if one.state.ready])

    def rows(self, with_namespace: bool) -> list[dict[str, Any]]:
        """For machines."""
        return [
            {
                **({"namespace": one.namespace} if with_namespace else {}),
                **one.state.to_json(),
                "traffic": found.to_json()
                if (found := self.traffic.get((one.namespace, one.name)))
                else None,
            }
            for one in self.services
        ]


async def _no_services() -> _Services:
    return _Services()


async def _read_services(target: Target, *, all_namespaces: bool) -> _Services:
    import asyncio

    from gpuyard.runs.run import deployments_of_services

    deployments = await deployments_of_services(target, all_namespaces=all_namespaces)
    if not deployments:
        return _Services()
    # Most users have none, and imports cost start-up time.
    from gpuyard.runs.services.service import list_services
    from gpuyard.runs.services.traffic import read_traffic

    services, traffic = await asyncio.gather(
        list_services(target, deployments, all_namespaces=all_namespaces), read_traffic(target)
    )
    return _Services(services, traffic)


def _print_tasks(
    runs: list[Run], *, running: bool, all_namespaces: bool, output: str | None, none_yet: str
) -> None:
    from gpuyard.cli.output.results import print_json, print_table
    from gpuyard.runs.tasks import tasks_of
    from gpuyard.workloads.sweeps.sweep import values_text

    found = [
        (run, task)
        for run in runs
        for task in tasks_of(run)
        if not running or task.verdict.state == "running"
    ]
    if output == "json":
        print_json(
            [{**_place(run, all_namespaces), "run": run.name, **task.to_json()} for run, task in found]
        )
        return
    if not found:
        click.echo("No task is running." if runs else none_yet, err=True)
        return
    rows = []
    for run, task in found:
        exit_code = "" if task.exit_code is None else str(task.exit_code)
        values = values_text(task.values) if task.values else ""
        place = _place(run, all_namespaces).values()
        rows.append(
            [*place, run.name, str(task.index), task.state_text, exit_code, str(task.attempts), values]
        )
    print_table([*(["NAMESPACE"] if all_namespaces else ()), *_TASK_COLUMNS], rows, drop=("TRIES", "EXIT"))


def _place(run: Run, all_namespaces: bool) -> dict[str, str]:
    """Names are told apart by their namespaces where there are several."""
    return {"namespace": run.job["metadata"]["namespace"]} if all_namespaces else {}


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
    """A run for machines."""
    return {**_place(run, with_namespace), **run.state.to_json()}
