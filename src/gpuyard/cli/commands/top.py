"""`gpuyard top`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import output_option, target_options

if TYPE_CHECKING:
    from gpuyard.runs.nodes.fleet import Fleet
    from gpuyard.runs.target import Target

_REDRAW_S = 1.0
SORTS = ("node", "util", "memory", "power", "temp")


@click.command(
    "top",
    epilog="""\b
Examples:
  gpuyard top
  gpuyard top --sort util
  gpuyard top --once | grep unhealthy
  gpuyard top -o json | jq '.runs[] | select(.utilisation_percent < 10) | .name'

\b
Ctrl-C or q ends it.
""",
)
@target_options
@click.option("--once", is_flag=True, help="Print what there is now, and end; so it is in a pipe, too.")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="node",
    help="What comes first: by name (default), or what is busiest, fullest, draws most, is hottest.",
)
@output_option()
def command(context: str | None, namespace: str | None, once: bool, sort: str, output: str | None) -> None:
    """Show what nodes, GPUs and runs do: utilisation, memory, power, temperature, and who else is there.

    On a terminal it goes on, and shows what is new every other second.
    """
    import sys
    from contextlib import suppress

    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import print_json, terminal_columns
    from gpuyard.cli.output.top_frame import top_lines
    from gpuyard.runs.nodes.fleet import read_fleet

    is_live = not once and output is None and sys.stdout.isatty()
    if is_live:
        with suppress(KeyboardInterrupt):
            call(lambda target: _show_live(target, sort), context=context, namespace=namespace)
        return
    fleet: Fleet = call(read_fleet, context=context, namespace=namespace)
    if output == "json":
        print_json(fleet.to_json())
        return
    columns = terminal_columns(sys.stdout) if sys.stdout.isatty() else 1000
    for line in top_lines(fleet, sort, columns).lines:
        click.echo(line)


async def _show_live(target: Target, sort: str) -> None:
    import asyncio
    from contextlib import suppress

    from gpuyard.cli.output.live_screen import LiveScreen
    from gpuyard.cli.output.top_frame import top_lines
    from gpuyard.runs.nodes.fleet import follow_fleet

    async with follow_fleet(target) as see:
        with LiveScreen() as screen:
            while not screen.is_left.is_set():
                columns, rows = screen.size
                frame = top_lines(see(), sort, columns, rows)
                screen.draw(frame.lines, frame.headers)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_REDRAW_S):
                        await screen.is_left.wait()
