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
    """Stop runs and services: SIGTERM, and SIGKILL after the grace period.

    Logs and exit codes of runs stay until `gpuyard rm`. A service has no replica then, and keeps its address:
    `gpuyard scale NAME N` brings it back.
    """
    from signal import Signals

    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.runs.meant import Meant, find_all_meant
    from gpuyard.runs.run import Run
    from gpuyard.runs.stopping import stop_run, wait_until_ended
    from gpuyard.runs.target import Target
    from gpuyard.workloads.stopping import StopOptions

    name = signal and "SIG" + signal.upper().removeprefix("SIG")
    if name and name not in Signals.__members__:
        raise click.UsageError(f"{signal!r} is no signal; name one such as INT, USR1 or HUP.")
    options = StopOptions(grace_s, name)

    async def work(target: Target) -> None:
        found = await find_all_meant(target, names)
        # All are asked before any is waited for: their grace periods run side by side.
        asked = [(one, await ask(target, one)) for one in found]
        for one, was_alive in asked:
            if not was_alive:
                click.echo(f"{one.name} {'has ended' if isinstance(one, Run) else 'is stopped'} already.")
                continue
            if no_wait:
                click.echo(f"Asked {one.name} to end.")
                continue
            if isinstance(one, Run):
                await wait_until_ended(target, one.name, print_notice)
            else:
                from gpuyard.runs.services.stopping import wait_until_stopped

                await wait_until_stopped(target, one, print_notice)
            click.echo(f"Stopped {one.name}.")

    async def ask(target: Target, one: Meant) -> bool:
        if isinstance(one, Run):
            return await stop_run(target, one.name, options)
        from gpuyard.runs.services.stopping import stop_service

        if options != StopOptions():
            raise click.UsageError("A service's replicas end as service.drain says: no --grace, no --signal.")
        return await stop_service(target, one)

    call(work, context=context, namespace=namespace)
