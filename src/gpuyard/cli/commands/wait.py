"""`gpuyard wait`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import Span, output_option, run_arguments, target_options

if TYPE_CHECKING:
    from gpuyard.runs.run import Run

_SAY_AFTER_S = 1.0


@click.command(
    "wait",
    epilog="""\b
Examples:
  gpuyard wait train-x7k2q && gpuyard run evaluate.py
  gpuyard wait --timeout 8h train-a train-b
  gpuyard wait -o json train-x7k2q | jq '.[].state'

\b
Exit code: 0 when all succeeded, else what `gpuyard run` would end with
for the first that didn't; 124 when the time is over. Ctrl-C ends the
waiting alone.
""",
)
@run_arguments()
@target_options
@click.option("--timeout", "timeout_s", type=Span(), metavar="TIME", help="Wait no longer than 90s, 10m, 8h.")
@output_option()
def command(
    names: tuple[str, ...],
    context: str | None,
    namespace: str | None,
    timeout_s: int | None,
    output: str | None,
) -> None:
    """Wait until runs have ended, and say how each did."""
    import sys

    from gpuyard.cli.call import call
    from gpuyard.cli.follow import outcome_text
    from gpuyard.cli.output.results import print_json
    from gpuyard.runs.following.run_watch import watch_to_end
    from gpuyard.runs.run import exit_code_of, find_runs, make_run, simulated_nodes
    from gpuyard.runs.target import Target
    from gpuyard.runs.tasks import with_tasks

    async def work(target: Target) -> int:
        runs = await find_runs(target, names)
        code = 0
        shown = _WaitingLine(runs)
        waiting = [
            asyncio.create_task(watch_to_end(target, run.name, shown.saw), name=f"wait for {run.name}")
            for run in runs
        ]
        try:
            for ended in asyncio.as_completed(waiting, timeout=timeout_s):
                run = await ended
                shown.drop(run)
                if output is None:
                    click.echo(outcome_text(await with_tasks(target, run)))
                shown.show()
                code = code or exit_code_of(run)
        except TimeoutError:
            if all(task.done() for task in waiting):
                raise
            left = [task.get_name().removeprefix("wait for ") for task in waiting if not task.done()]
            shown.close()
            click.echo(f"Still not over: {', '.join(left)}", err=True)
            code = 124
        finally:
            shown.close()
        if output == "json":
            simulated = await simulated_nodes(target)
            # Who waits follows runs alone; what GPUs are on a cluster its nodes say.
            told = (make_run(run.job, run.pods, simulated) for run in shown.runs.values())
            print_json([run.state.to_json() for run in told])
        return code

    sys.exit(call(work, context=context, namespace=namespace))


class _WaitingLine:
    """Says what is still waited for, once that takes over a second."""

    def __init__(self, runs: Iterable[Run]) -> None:
        """`runs` are those that it waits for; they are kept as they were seen last."""
        from gpuyard.cli.output.results import StatusLine

        self._line = StatusLine()
        self.runs = {run.name: run for run in runs}
        self._due = False
        self._timer = asyncio.get_running_loop().call_later(_SAY_AFTER_S, self._begin)

    def saw(self, run: Run) -> None:
        """Something of it has changed."""
        self.runs[run.name] = run
        self.show()

    def drop(self, run: Run) -> None:
        """It has ended; other output follows."""
        self.runs[run.name] = run
        self._line.clear()

    def show(self) -> None:
        """Shows the line, if it is time to."""
        from gpuyard.runs.run import has_ended, state_and_reason

        alive = [run for run in self.runs.values() if not has_ended(run)]
        if self._due and alive:
            states = (f"{run.name}: {state_and_reason(run.state)}" for run in alive)
            self._line.show(f"Waiting for {'; '.join(states)}")

    def close(self) -> None:
        """Takes the line away for good."""
        self._timer.cancel()
        self._due = False
        self._line.clear()

    def _begin(self) -> None:
        self._due = True
        self.show()
