"""`gpuyard stop`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import Span, run_arguments, target_options


@click.command(
    "stop",
    epilog="""\b
Examples:
  gpuyard stop train-x7k2q
  gpuyard stop --grace 5m --signal INT train-x7k2q    # on a yard
""",
)
@run_arguments()
@target_options
@click.option("--no-wait", is_flag=True, help="Return once asked for, not once ended.")
@click.option(
    "--grace",
    "grace_s",
    type=Span(),
    metavar="TIME",
    help="On a yard: how long until SIGKILL, such as 90s or 5m (default: the run's own --grace, else 30s).",
)
@click.option("--signal", metavar="NAME", default="", help="On a yard: in the place of SIGTERM, such as INT.")
def command(
    names: tuple[str, ...],
    context: str | None,
    namespace: str | None,
    no_wait: bool,
    grace_s: int | None,
    signal: str,
) -> None:
    """Stop runs: SIGTERM, and SIGKILL after the grace period.

    Logs and exit codes stay until `gpuyard rm`.
    """
    from signal import Signals

    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.runs.run import find_runs
    from gpuyard.runs.stopping import stop_run, wait_until_ended
    from gpuyard.runs.target import Target
    from gpuyard.workloads.stopping import StopOptions

    name = signal and "SIG" + signal.upper().removeprefix("SIG")
    if name and name not in Signals.__members__:
        raise click.UsageError(f"{signal!r} is no signal; name one such as INT, USR1 or HUP.")
    options = StopOptions(grace_s, name)

    async def work(target: Target) -> None:
        runs = await find_runs(target, names)
        # All are asked before any is waited for: their grace periods run side by side.
        asked = {run.name: await stop_run(target, run.name, options) for run in runs}
        for name, was_alive in asked.items():
            if not was_alive:
                click.echo(f"{name} has ended already.")
                continue
            if no_wait:
                click.echo(f"Asked {name} to end.")
                continue
            await wait_until_ended(target, name, print_notice)
            click.echo(f"Stopped {name}.")

    call(work, context=context, namespace=namespace)
