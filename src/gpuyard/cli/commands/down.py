"""`gpuyard down`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard import errors

if TYPE_CHECKING:
    from gpuyard.local.paths import YardPaths


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
    from dataclasses import replace

    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.local import lifecycle
    from gpuyard.local.paths import find_paths
    from gpuyard.runs.notices import Notice
    from gpuyard.runs.run import Run, has_ended, list_runs
    from gpuyard.runs.stopping import stop_run, wait_until_ended
    from gpuyard.runs.target import YARD, Target

    if keep and stop_runs:
        raise click.UsageError("--keep and --stop contradict each other.")
    paths = find_paths(os.environ)

    async def alive_runs(target: Target) -> list[Run]:
        return [run for run in await list_runs(target, all_namespaces=True) if not has_ended(run)]

    async def end(target: Target) -> None:
        def there(run: Run) -> Target:
            return replace(target, namespace=run.job["metadata"]["namespace"])

        # Those that wait come first: they would start on the GPUs that the others give back.
        for run in sorted(alive, key=lambda run: run.state.state != "pending"):
            await stop_run(there(run), run.name)
        for run in alive:
            await wait_until_ended(there(run), run.name, print_notice)
            click.echo(f"Stopped {run.name}.")

    if not lifecycle.daemon_pid(paths):
        _was_down(paths, stop_runs)
        return
    if pid := lifecycle.wake(paths):
        print_notice(Notice(f"the yard (pid {pid}) was stopped; it goes on, to end in order"))
    if not keep:
        try:
            alive = call(alive_runs, context=YARD)
        except errors.YardStopped:
            alive = []
        if alive and not stop_runs:
            names, them = ", ".join(run.name for run in alive), "them" if len(alive) > 1 else "it"
            raise errors.YardError(
                f"{len(alive)} run{'s are' if len(alive) > 1 else ' is'} not over: {names}",
                remedy=f"`gpuyard down --keep` leaves {them} running, `gpuyard down --stop` ends {them}",
            )
        if alive:
            call(end, context=YARD)
    _end_daemon(paths)


def _was_down(paths: YardPaths, stop_runs: bool) -> None:
    from gpuyard.local.survivors import survivors_text

    going_on = survivors_text(paths)
    if going_on and stop_runs:
        raise errors.YardError(
            f"the yard was down already, but {going_on}",
            remedy="`gpuyard up && gpuyard down --stop` finds and stops them",
        )
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
