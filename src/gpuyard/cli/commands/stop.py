"""`gpuyard stop`."""

from __future__ import annotations

import click

from gpuyard.cli.options import complete_runs, target_options


@click.command("stop", epilog="\b\nExample:\n  gpuyard stop train-x7k2q\n")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_runs)
@target_options
@click.option("--no-wait", is_flag=True, help="Return once asked for, not once ended.")
def command(names: tuple[str, ...], context: str | None, namespace: str | None, no_wait: bool) -> None:
    """Stop runs: SIGTERM, and SIGKILL after the grace period.

    Logs and exit codes stay until `gpuyard rm`.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.notices import print_notice
    from gpuyard.runs.run import find_runs
    from gpuyard.runs.stopping import stop_run, wait_until_ended
    from gpuyard.runs.target import Target

    async def work(target: Target) -> None:
        runs = await find_runs(target, names)
        # All are asked before any is waited for: their grace periods run side by side.
        asked = {run.name: await stop_run(target, run.name) for run in runs}
        for name, was_alive in asked.items():
            if not was_alive:
                click.echo(f"{name} has ended already.")
                continue
            if not no_wait:
                await wait_until_ended(target, name, print_notice)
            click.echo(f"Stopped {name}.")

    call(work, context=context, namespace=namespace)
