"""`gpuyard rm`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import run_arguments, target_options


@click.command(
    "rm",
    epilog="""\b
Examples:
  gpuyard rm train-x7k2q
  gpuyard rm --ended          # every run that has ended
""",
)
@run_arguments(required=False, metavar="[NAME...]")
@target_options
@click.option("--ended", is_flag=True, help="Every run that has ended.")
@click.option(
    "--force",
    is_flag=True,
    help="Also runs that have not ended; they get SIGTERM, and SIGKILL after the grace period.",
)
def command(
    names: tuple[str, ...], context: str | None, namespace: str | None, ended: bool, force: bool
) -> None:
    """Remove runs with their logs and exit codes, and services with all that belongs to them."""
    from gpuyard import errors
    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.runs.meant import Meant, find_all_meant
    from gpuyard.runs.run import Run, has_ended, list_runs
    from gpuyard.runs.stopping import remove_run
    from gpuyard.runs.target import Target

    if bool(names) == ended:
        raise click.UsageError("Name the runs to remove, or say --ended.")

    async def work(target: Target) -> None:
        found: list[Meant]
        if ended:
            found = [run for run in await list_runs(target) if has_ended(run)]
        else:
            found = await find_all_meant(target, names)
        alive = [one.name for one in found if _is_alive(one)]
        if alive and not force:
            raise errors.UsageError(
                f"{', '.join(alive)} {'has' if len(alive) == 1 else 'have'} not ended",
                remedy=f"stop first: `{target.command('stop', *alive)}`, or end and remove: --force",
            )
        for one in found:
            if isinstance(one, Run):
                await remove_run(target, one, print_notice)
            else:
                from gpuyard.runs.services.stopping import remove_service

                await remove_service(target, one, print_notice)
            click.echo(f"Removed {one.name}.")
        if not found:
            click.echo("Nothing to remove.", err=True)

    def _is_alive(one: Meant) -> bool:
        return not has_ended(one) if isinstance(one, Run) else bool(one.alive)

    call(work, context=context, namespace=namespace)
