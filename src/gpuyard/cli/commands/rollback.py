"""`gpuyard rollback`."""

from __future__ import annotations

import sys

import click

from gpuyard.cli.options.shared import complete_runs, target_options


@click.command(
    "rollback",
    epilog="""\b
Examples:
  gpuyard rollback digits                   # to the revision before
  gpuyard rollback digits --to-revision 3
""",
)
@click.argument("name", metavar="NAME", shell_complete=complete_runs)
@click.option(
    "--to-revision", type=click.IntRange(min=1), metavar="N", help="Which (default: the one before)."
)
@click.option("-d", "--detach", is_flag=True, help="Return once it is under way.")
@target_options
def command(
    name: str, to_revision: int | None, detach: bool, context: str | None, namespace: str | None
) -> None:
    """Take a service back to an earlier revision, without losing a request.

    It has the program, the image and the needs that it had then; how many replicas it has stays. The code of
    a folder is what it is now, unless it was served with --snapshot.
    """
    from gpuyard.cli.attachment import attached
    from gpuyard.cli.call import call
    from gpuyard.cli.rollouts import follow_to_ready
    from gpuyard.runs.services.rollback import rollback_service
    from gpuyard.runs.target import Target

    async def work(target: Target) -> int:
        revision = await rollback_service(target, name, to_revision)
        click.echo(f"{name} goes back to revision {revision}.", err=True)
        if detach:
            return 0
        return await attached(target, name, follow_to_ready(target, name), ours=True, again=("show",))

    sys.exit(call(work, context=context, namespace=namespace))
