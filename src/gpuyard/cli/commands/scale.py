"""`gpuyard scale`."""

from __future__ import annotations

import click

from gpuyard import errors
from gpuyard.cli.options.shared import run_argument, target_options


@click.command(
    "scale",
    epilog="""\b
Examples:
  gpuyard scale train-x7k2q --nodes 3
  gpuyard scale @ --nodes 4          # the run that was submitted last
  gpuyard scale digits 5             # a service
""",
)
@run_argument
@click.argument("replicas", metavar="[REPLICAS]", type=click.IntRange(min=0), required=False)
@target_options
@click.option("--nodes", type=click.IntRange(min=1), metavar="N", help="How many pods a run is to have.")
def command(
    name: str, replicas: int | None, context: str | None, namespace: str | None, nodes: int | None
) -> None:
    """Give an elastic run (--nodes 2..4) or a service more pods, or fewer.

    Fewer ends those of the highest ranks, with grace; of a service those that have done the least, once they
    have finished what they have.
    """
    from gpuyard.cli.call import call
    from gpuyard.runs.meant import find_meant
    from gpuyard.runs.run import Run
    from gpuyard.runs.scaling import scale_run
    from gpuyard.runs.target import Target

    if (nodes is None) == (replicas is None):
        raise click.UsageError("Say how many: --nodes N for a run, or just the number for a service.")

    async def work(target: Target) -> None:
        found = await find_meant(target, name)
        if isinstance(found, Run):
            if nodes is None:
                raise _other_words(
                    found.name, "run", target.command("scale", found.name, "--nodes", str(replicas))
                )
            _say(found.name, await scale_run(target, found, nodes), nodes, "pods")
            return
        from gpuyard.runs.services.replicas import scale_service

        if replicas is None:
            raise _other_words(found.name, "service", target.command("scale", found.name, str(nodes)))
        _say(found.name, await scale_service(target, found.name, replicas), replicas, "replicas")

    call(work, context=context, namespace=namespace)


def _other_words(name: str, kind: str, words: str) -> errors.UsageError:
    return errors.UsageError(f"{name} is a {kind}", remedy=f"say: `{words}`")


def _say(name: str, before: int, wanted: int, pods: str) -> None:
    has = f"{name} has {wanted} {pods}."
    click.echo(has if before == wanted else f"Scaled {name}: {before} to {wanted} {pods}.")
