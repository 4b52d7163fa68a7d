"""`gpuyard events`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import output_option, run_argument, target_options

if TYPE_CHECKING:
    from gpuyard.kube.objects import Manifest

_COLUMNS = ("TIME", "TYPE", "REASON", "OBJECT", "MESSAGE")
#: Of a table that is printed line by line, as far as MESSAGE.
_WIDTHS = (10, 7, 20, 28)


@click.command(
    "events",
    epilog="""\b
Examples:
  gpuyard events train-x7k2q
  gpuyard events -w @                  # the run that was submitted last, as it goes
  gpuyard events -o json train-x7k2q | jq -r '.[] | select(.type == "Warning").message'
  gpuyard events -w -o json train-x7k2q | jq --unbuffered -r .reason
""",
)
@run_argument
@target_options
@click.option("-w", "--watch", is_flag=True, help="Go on with new ones, until Ctrl-C.")
@output_option()
def command(name: str, context: str | None, namespace: str | None, watch: bool, output: str | None) -> None:
    """Show what Kubernetes did with a run: events of its Job, pods and claims, oldest first.

    An event that came again shows when last, and how often. Times are UTC. An API keeps events for an hour.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import print_json, print_table
    from gpuyard.runs.object_events import event_json, follow_events, read_events
    from gpuyard.runs.run import find_meant_run
    from gpuyard.runs.target import Target

    async def follow(target: Target) -> None:
        is_first = True
        async for event in follow_events(target, await find_meant_run(target, name, ask_nodes=False)):
            if output == "json":
                _print_line(event)
                continue
            for row in (_COLUMNS, _row(event)) if is_first else (_row(event),):
                _print_row(row)
            is_first = False

    async def read(target: Target) -> list[Manifest]:
        return await read_events(target, await find_meant_run(target, name, ask_nodes=False))

    if watch:
        try:
            call(follow, context=context, namespace=namespace)
        except KeyboardInterrupt:
            click.echo(err=True)  # What follows isn't to stand beside ^C.
        return
    events = call(read, context=context, namespace=namespace)
    if output == "json":
        print_json([event_json(event) for event in events])
    elif events:
        print_table(_COLUMNS, [_row(event) for event in events], drop=("TYPE",))
    else:
        click.echo("No events: an API keeps them for an hour.", err=True)


def _row(event: Manifest) -> tuple[str, ...]:
    from gpuyard.runs.object_events import event_count, last_seen, object_text

    count = event_count(event)
    return (
        last_seen(event)[11:19],
        str(event.get("type") or ""),
        str(event.get("reason") or ""),
        object_text(event),
        str(event.get("message") or "").strip() + (f" (×{count})" if count > 1 else ""),
    )


def _print_row(row: tuple[str, ...]) -> None:
    *cells, message = row
    start = " ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    click.echo(f"{start} {message}".replace("\n", " "))


def _print_line(event: Manifest) -> None:
    import json

    from gpuyard.runs.object_events import event_json

    click.echo(json.dumps(event_json(event)))
