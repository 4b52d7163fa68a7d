"""`gpuyard top`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import complete_runs, output_option, target_options

if TYPE_CHECKING:
    from gpuyard.runs.nodes.fleet import Fleet
    from gpuyard.runs.run import Run
    from gpuyard.runs.target import Target

_REDRAW_S = 1.0
SORTS = ("node", "util", "memory", "power", "temp")


@click.command(
    "top",
    epilog="""\b
Examples:
  gpuyard top
  gpuyard top train-x7k2q              # the GPUs of one run, by rank
  gpuyard top --sort util
  gpuyard top --once | grep unhealthy
  gpuyard top -o json | jq '.runs[] | select(.utilisation_percent < 10) | .name'

\b
Ctrl-C or q ends it.
""",
)
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_runs)
@target_options
@click.option("--once", is_flag=True, help="Print what there is now, and end; so it is in a pipe, too.")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="node",
    help="What comes first: by name (default), or what is busiest, fullest, draws most, is hottest.",
)
@output_option()
def command(
    name: str | None, context: str | None, namespace: str | None, once: bool, sort: str, output: str | None
) -> None:
    """Show what nodes, GPUs and runs do: utilisation, memory, power, temperature, and who else is there.

    On a terminal it goes on, and shows what is new every other second. NAME is a run, its beginning, or @ for
    the last one: then it is about that run's GPUs alone.
    """
    import sys
    from contextlib import suppress

    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import print_json, terminal_columns
    from gpuyard.cli.output.top_frame import top_lines
    from gpuyard.runs.nodes.fleet import read_fleet

    async def read(target: Target) -> Fleet:
        run = await _find(target, name)
        fleet = await read_fleet(target)
        return fleet.of_run(run) if run else fleet

    is_live = not once and output is None and sys.stdout.isatty()
    if is_live:
        with suppress(KeyboardInterrupt):
            call(lambda target: _show_live(target, name, sort), context=context, namespace=namespace)
        return
    fleet = call(read, context=context, namespace=namespace)
    if output == "json":
        print_json(fleet.to_json())
        return
    columns = terminal_columns(sys.stdout) if sys.stdout.isatty() else 1000
    for line in top_lines(fleet, sort, columns).lines:
        click.echo(line)


async def _find(target: Target, name: str | None) -> Run | None:
    """The run that is meant, if one is.

    Raises:
        GpuyardError: it has no GPUs now.
    """
    from gpuyard import errors
    from gpuyard.runs.run import find_meant_run, has_ended, state_and_reason

    if name is None:
        return None
    run = await find_meant_run(target, name, ask_nodes=False)
    if has_ended(run):
        raise errors.GpuyardError(
            f"{run.name} has ended ({run.state.state}): it has no GPUs any more",
            remedy=f"what it used of them: {target.command('show', run.name)}",
        )
    if not run.state.gpus:
        raise errors.GpuyardError(f"{run.name} has no GPUs: it didn't ask for any")
    if not any(pod["spec"].get("nodeName") for pod in run.pods):
        raise errors.GpuyardError(
            f"{run.name} has no GPUs yet: {run.state.message or state_and_reason(run.state)}",
            remedy=f"why it waits: {target.command('explain', run.name)}",
        )
    return run


async def _show_live(target: Target, name: str | None, sort: str) -> None:
    import asyncio
    from contextlib import suppress

    from gpuyard.cli.output.live_screen import LiveScreen
    from gpuyard.cli.output.top_frame import top_lines
    from gpuyard.runs.nodes.fleet import follow_fleet

    run = await _find(target, name)
    async with follow_fleet(target) as see:
        with LiveScreen() as screen:
            while not screen.is_left.is_set():
                columns, rows = screen.size
                fleet = see().of_run(run) if run else see()
                frame = top_lines(fleet, sort, columns, rows)
                screen.draw(frame.lines, frame.headers)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_REDRAW_S):
                        await screen.is_left.wait()
