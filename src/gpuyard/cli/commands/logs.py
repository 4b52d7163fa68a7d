"""`gpuyard logs`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import Span, run_arguments, target_options


@click.command(
    "logs",
    epilog="""\b
Examples:
  gpuyard logs train-x7k2q
  gpuyard logs -f --tail 20 train-x7k2q    # Ctrl-C detaches; the run goes on
  gpuyard logs -f --rank 0 train-x7k2q    # of several pods the first
  gpuyard logs --since 10m --timestamps train-x7k2q
""",
)
@run_arguments(metavar="NAME")
@target_options
@click.option("-f", "--follow", is_flag=True, help="Wait for more, to the end of the run.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@click.option(
    "--since",
    "since_s",
    type=Span(),
    metavar="TIME",
    help="Only what is newer, such as 90s or 10m.",
)
@click.option(
    "--rank",
    "ranks",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="K",
    help="Of several pods, only this one's, from 0; can be repeated.",
)
@click.option(
    "--timestamps", is_flag=True, help="Each line with its time; a yard's are exact to a fifth of a second."
)
def command(
    names: tuple[str, ...],
    context: str | None,
    namespace: str | None,
    follow: bool,
    tail: int | None,
    since_s: int | None,
    timestamps: bool,
    ranks: tuple[int, ...],
) -> None:
    """Print what the processes of a run or service wrote; with several attempts, one after the other; that
    of several pods in the order of time, and with -f what is new as it comes."""
    import sys

    from gpuyard.cli.attachment import attached
    from gpuyard.cli.call import call
    from gpuyard.cli.follow import follow_to_exit, print_logs
    from gpuyard.client.log_place import LogOptions
    from gpuyard.runs.meant import find_meant
    from gpuyard.runs.run import Run, check_ranks
    from gpuyard.runs.target import Target

    if len(names) > 1:
        raise click.UsageError(f"One run at a time: gpuyard logs {names[0]}, then gpuyard logs {names[1]}.")
    (name,) = names
    options = LogOptions(tail, since_s, timestamps)

    async def work(target: Target) -> int:
        run = await find_meant(target, name)
        if not isinstance(run, Run):
            from gpuyard.cli.service_output import follow_replicas, print_replicas

            if ranks:
                raise click.UsageError("A service's replicas have no ranks.")
            if not follow:
                await print_replicas(target, run, options)
                return 0
            return await attached(target, run.name, follow_replicas(target, run.name, options), ours=False)
        check_ranks(run, ranks)
        if not follow:
            await print_logs(target, run, options, ranks)
            return 0
        following = follow_to_exit(target, run.name, options, ranks=ranks)
        return await attached(target, run.name, following, ours=False)

    sys.exit(call(work, context=context, namespace=namespace))
