"""`gpuyard wait`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import Span, complete_runs, target_options


@click.command(
    "wait",
    epilog="""\b
Examples:
  gpuyard wait train-x7k2q && gpuyard run evaluate.py
  gpuyard wait --timeout 8h train-a train-b

\b
Exit code: 0 when all succeeded, else that of the first that ended
otherwise; 124 when the time is over. Ctrl-C ends the waiting alone.
""",
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_runs)
@target_options
@click.option("--timeout", "timeout_s", type=Span(), metavar="TIME", help="Wait no longer than 90s, 10m, 8h.")
def command(
    names: tuple[str, ...], context: str | None, namespace: str | None, timeout_s: int | None
) -> None:
    """Wait until runs have ended, and say how each did."""
    import asyncio
    import sys

    from gpuyard.cli.call import call
    from gpuyard.cli.follow import outcome_text
    from gpuyard.runs.following.run_watch import watch_to_end
    from gpuyard.runs.run import exit_code_of, find_runs
    from gpuyard.runs.target import Target

    async def work(target: Target) -> int:
        await find_runs(target, names)
        code = 0
        waiting = [
            asyncio.create_task(watch_to_end(target, name), name=f"wait for {name}")
            for name in dict.fromkeys(names)
        ]
        try:
            for ended in asyncio.as_completed(waiting, timeout=timeout_s):
                run = await ended
                click.echo(outcome_text(run))
                code = code or exit_code_of(run)
        except TimeoutError:
            if all(task.done() for task in waiting):
                raise
            left = [task.get_name().removeprefix("wait for ") for task in waiting if not task.done()]
            click.echo(f"Still not over: {', '.join(left)}", err=True)
            return 124
        return code

    sys.exit(call(work, context=context, namespace=namespace))
