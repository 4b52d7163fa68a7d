"""`gpuyard forward`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import complete_runs, rank_option, target_options


@click.command(
    "forward",
    epilog="""\b
Examples:
  gpuyard forward notebook-x7k2q 8888          # then open the address that it prints
  gpuyard forward @ 9000:8888 6006             # port 8888 as 9000 here, and TensorBoard
  gpuyard forward --rank 1 train-x7k2q :5678   # any free port here

\b
Ctrl-C ends it; so does the run's end.
""",
)
@click.argument("name", metavar="NAME", shell_complete=complete_runs)
@click.argument("ports", metavar="[LOCAL:]REMOTE...", nargs=-1, required=True)
@target_options
@rank_option
def command(
    name: str, ports: tuple[str, ...], context: str | None, namespace: str | None, rank: int | None
) -> None:
    """Make ports of a run reachable from this machine, and from no other: on 127.0.0.1 and ::1.

    NAME is a run that goes on, its beginning, or @ for the last one. Connections that were cut don't come
    back, but the next one works again: after a network's failure, and also when the run got a new pod.

    Runs of a yard share this machine's network: there port 8888 of this machine is the run's own, and
    `forward NAME 8888` takes the next free one.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.runs.interactive.forwarding import PortPair, forward
    from gpuyard.runs.run import find_meant_run
    from gpuyard.runs.target import Target

    pairs = [PortPair.parse(text) for text in ports]

    async def work(target: Target) -> None:
        run = await find_meant_run(target, name, ask_nodes=False)
        await forward(target, run.name, rank, pairs, print_notice)

    try:
        call(work, context=context, namespace=namespace)
    except KeyboardInterrupt:
        click.echo(err=True)  # What follows isn't to stand beside ^C.
