"""`gpuyard scale`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import run_argument, target_options


@click.command(
    "scale",
    epilog="""\b
Examples:
  gpuyard scale train-x7k2q --nodes 3
  gpuyard scale @ --nodes 4          # the run that was submitted last
""",
)
@run_argument
@target_options
@click.option("--nodes", type=click.IntRange(min=1), required=True, metavar="N", help="How many pods.")
def command(name: str, context: str | None, namespace: str | None, nodes: int) -> None:
    """Give an elastic run (--nodes 2..4) more pods, or fewer.

    Fewer ends those of the highest ranks, with grace.
    """
    from gpuyard.cli.call import call
    from gpuyard.runs.run import find_meant_run
    from gpuyard.runs.scaling import scale_run
    from gpuyard.runs.target import Target

    async def work(target: Target) -> None:
        run = await find_meant_run(target, name, ask_nodes=False)
        before = await scale_run(target, run, nodes)
        click.echo(
            f"{run.name} has {nodes} pods."
            if before == nodes
            else f"Scaled {run.name}: {before} to {nodes} pods."
        )

    call(work, context=context, namespace=namespace)
