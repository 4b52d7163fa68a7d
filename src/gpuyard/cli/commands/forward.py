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
  gpuyard forward diffusion                    # a service, at its own port

\b
Ctrl-C ends it; so does the run's end.
""",
)
@click.argument("name", metavar="NAME", shell_complete=complete_runs)
@click.argument("ports", metavar="[LOCAL:]REMOTE...", nargs=-1)
@target_options
@rank_option
def command(
    name: str, ports: tuple[str, ...], context: str | None, namespace: str | None, rank: int | None
) -> None:
    """Make ports of a run or service reachable from this machine, and from no other: on 127.0.0.1 and ::1.

    NAME is a run that goes on or a service, its beginning, or @ for the last one. A service has a port of
    its own where none is named, and connections go to its ready replicas in turn. Connections that were cut
    don't come back, but the next one works again: after a network's failure, and also when the run got a new
    pod.

    Runs of a yard share this machine's network: there port 8888 of this machine is the run's own, and
    `forward NAME 8888` takes the next free one.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.runs.interactive.forwarding import PortPair, forward
    from gpuyard.runs.meant import find_meant
    from gpuyard.runs.run import Run
    from gpuyard.runs.target import Target

    pairs = [PortPair.parse(text) for text in ports]

    async def work(target: Target) -> None:
        found = await find_meant(target, name)
        if isinstance(found, Run):
            if not pairs:
                raise click.UsageError(f"Name a port: gpuyard forward {name} 8888.")
            await forward(target, found.name, rank, pairs, print_notice)
            return
        from gpuyard.runs.services.service_forwarding import forward_service

        if rank is not None:
            raise click.UsageError("A service's replicas have no ranks: connections go to each in turn.")
        await forward_service(target, found, pairs, print_notice)

    try:
        call(work, context=context, namespace=namespace)
    except KeyboardInterrupt:
        click.echo(err=True)  # What follows isn't to stand beside ^C.
