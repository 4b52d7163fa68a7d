"""`gpuyard volume rm`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import complete_claims, target_options


@click.command(
    "rm",
    epilog="""\b
Examples:
  gpuyard volume rm ckpt
""",
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_claims)
@target_options
def command(names: tuple[str, ...], context: str | None, namespace: str | None) -> None:
    """Remove claims that no run uses, with all that is in them where their class says so, as on the yard."""
    from gpuyard.cli.call import call
    from gpuyard.runs.target import Target
    from gpuyard.runs.volumes import remove_claims

    async def work(target: Target) -> None:
        async for name in remove_claims(target, names):
            click.echo(f"Removed {name}.")

    call(work, context=context, namespace=namespace)
