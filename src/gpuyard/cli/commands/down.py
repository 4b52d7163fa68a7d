"""`gpuyard down`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuyard.local.paths import YardPaths
    from gpuyard.runs.run import Run
    from gpuyard.runs.services.service import Service
    from gpuyard.runs.target import Target


@click.command(
    "down",
    epilog="""\b
Examples:
  gpuyard down           # refuses while runs are alive
  gpuyard down --keep    # their processes go on; the next `up` finds them again
  gpuyard down --stop    # stops them first
""",
)
@click.option("--keep", is_flag=True, help="Leave the processes of runs alone.")
@click.option("--stop", "stop_runs", is_flag=True, help="Stop every run first.")
def command(keep: bool, stop_runs: bool) -> None:
    """Stop this machine's yard."""
    import os

    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.local import lifecycle
    from gpuyard.local.paths import find_paths
    from gpuyard.local.proxy_process import end_proxies
    from gpuyard.runs.notices import Notice
    from gpuyard.runs.run import has_ended, list_runs
    from gpuyard.runs.services.service import list_services
    from gpuyard.runs.target import YARD

    if keep and stop_runs:
        raise click.UsageError("--keep and --stop contradict each other.")
    paths = find_paths(os.environ)

    async def find_alive(target: Target) -> tuple[list[Run], list[Service]]:
        runs = await list_runs(target, all_namespaces=True)
        services = await list_services(target, all_namespaces=True)
        return [run for run in runs if not has_ended(run)], [one for one in services if one.alive]

    if not lifecycle.daemon_pid(paths):
        _was_down(paths, stop_runs)
        return
    if pid := lifecycle.wake(paths):
        print_notice(Notice(f"the yard (pid {pid}) was stopped; it goes on, to end in order"))
    if not keep:
        try:
            runs, services = call(find_alive, context=YARD)
        except errors.YardStopped:
            runs, services = [], []
        alive = [*(run.name for run in runs), *(service.name for service in services)]
        if alive and not stop_runs:
            what, them = "service" if not runs else "run", "them" if len(alive) > 1 else "it"
            raise errors.YardError(
                f"{len(alive)} {what}{'s are' if len(alive) > 1 else ' is'} not over: {', '.join(alive)}",
                remedy=f"`gpuyard down --keep` leaves {them} running, `gpuyard down --stop` ends {them}",
            )
        if alive:
            call(lambda target: _end_all(target, runs, services), context=YARD)
    _end_daemon(paths)
    if not keep:
        end_proxies(paths)


async def _end_all(target: Target, runs: Sequence[Run], services: Sequence[Service]) -> None:
    from dataclasses import replace

    from gpuyard.cli.output.notices import print_notice
    from gpuyard.runs.services.stopping import stop_service, wait_until_stopped
    from gpuyard.runs.stopping import stop_run, wait_until_ended

    def there(run: Run) -> Target:
        return replace(target, namespace=run.job["metadata"]["namespace"])

    for service in services:
        await stop_service(target, service)
    # Those that wait come first: they would start on the GPUs that the others give back.
    for run in sorted(runs, key=lambda run: run.state.state != "pending"):
        await stop_run(there(run), run.name)
    for run in runs:
        await wait_until_ended(there(run), run.name, print_notice)
        click.echo(f"Stopped {run.name}.")
    for service in services:
        await wait_until_stopped(replace(target, namespace=service.namespace), service, print_notice)
        click.echo(f"Stopped {service.name}.")


def _was_down(paths: YardPaths, stop_runs: bool) -> None:
    from gpuyard.local.proxy_process import end_proxies
    from gpuyard.local.survivors import survivors_text

    going_on = survivors_text(paths)
    if going_on and stop_runs:
        raise errors.YardError(
            f"the yard was down already, but {going_on}",
            remedy="`gpuyard up && gpuyard down --stop` finds and stops them",
        )
    if not going_on:
        end_proxies(paths)
    click.echo(
        f"The yard was down already, but {going_on}; `gpuyard up` finds them again."
        if going_on
        else "The yard was down already."
    )


def _end_daemon(paths: YardPaths) -> None:
    from gpuyard.cli.output.results import StatusLine
    from gpuyard.local import lifecycle

    line = StatusLine()
    try:
        was_up = lifecycle.stop(paths, line.show)
    finally:
        line.clear()
    click.echo("The yard is down." if was_up else "The yard was down already.")
