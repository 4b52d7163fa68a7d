"""`gpuyard logs`."""

from __future__ import annotations

import click

from gpuyard.cli.options import complete_runs, target_options


@click.command(
    "logs",
    epilog="""\b
Examples:
  gpuyard logs train-x7k2q
  gpuyard logs -f --tail 20 train-x7k2q    # Ctrl-C detaches; the run goes on
""",
)
@click.argument("names", metavar="NAME", nargs=-1, required=True, shell_complete=complete_runs)
@target_options
@click.option("-f", "--follow", is_flag=True, help="Wait for more, to the end of the run.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
def command(
    names: tuple[str, ...], context: str | None, namespace: str | None, follow: bool, tail: int | None
) -> None:
    """Print what a run's processes wrote; with several attempts, one after the other."""
    import sys

    from gpuyard.cli.call import call
    from gpuyard.cli.follow import attached, follow_to_exit, print_logs
    from gpuyard.runs.run import find_run
    from gpuyard.runs.target import Target

    if len(names) > 1:
        raise click.UsageError(f"One run at a time: gpuyard logs {names[0]}, then gpuyard logs {names[1]}.")
    (name,) = names

    async def work(target: Target) -> int:
        run = await find_run(target, name)
        if not follow:
            await print_logs(target, run, tail_lines=tail)
            return 0
        return await attached(target, name, follow_to_exit(target, name, tail_lines=tail), ours=False)

    sys.exit(call(work, context=context, namespace=namespace))
