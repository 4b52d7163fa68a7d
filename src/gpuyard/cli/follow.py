"""Following a run on a terminal: one status line while it waits, its output, and how it ended."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from gpuyard.cli.output.log_output import LogOutput
from gpuyard.cli.output.results import StatusLine, duration
from gpuyard.client.log_place import Gap, LogOptions
from gpuyard.runs.following.pod_log import Away, Back, Output
from gpuyard.runs.following.ranks import OfRank
from gpuyard.runs.following.run_events import (
    WHOLE_LOG,
    AttemptBegan,
    CutShort,
    Ended,
    Event,
    Waits,
    follow,
    read_logs,
)
from gpuyard.runs.run import ENDED, Run, exit_code_of, oom_text, state_text
from gpuyard.runs.target import Target

if TYPE_CHECKING:
    from gpuyard.runs.following.waiting import Waiting
from gpuyard.workloads.outcome import Reason

#: How often a line that is rewritten is made anew.
_REFRESH_S = 2.0


class Screen:
    """Prints events: output of the processes to standard output unchanged, everything of ours to standard
    error."""

    def __init__(self, target: Target, *, one_rank: bool = False) -> None:
        """`target` is for the commands that it tells of; `one_rank` says that no other rank is printed."""
        self._one_rank = one_rank
        self._attempts: set[tuple[int, int]] = set()
        self.line = StatusLine()
        self._target = target
        self._output = LogOutput()
        self._advice: set[tuple[str, ...]] = set()

    def show(self, event: Event) -> None:
        """Prints one event."""
        match event:
            case Output(data):
                self.line.clear()
                self._output.write(data)
            case OfRank():
                self._show_rank(event)
            case Gap(text):
                self.line.clear()
                self._output.say(text)
            case AttemptBegan(number, is_only):
                self.line.clear()
                if not is_only:
                    self._output.say(f"── attempt {number} ──")
            case CutShort(attempt):
                self.line.clear()
                self._output.say(f"── {attempt.word} here: {attempt.message}; the next attempt follows ──")
            case Away(text):
                self._output.end_line()
                self.line.show(text)
            case Waits(run, waiting):
                self._output.end_line()
                self._show_waiting(run, waiting)
            case Back():
                self.line.clear()
            case Ended():
                self.end()

    def _show_rank(self, of_rank: OfRank) -> None:
        """As `show`, of one among several; who asked for one alone needn't be told which it is."""
        rank, event, attempt = of_rank.rank, of_rank.event, of_rank.attempt
        if (rank, attempt) not in self._attempts:
            self._attempts.add((rank, attempt))
            if attempt > 1:
                self.line.clear()
                self._output.say(
                    f"── {'task' if of_rank.values else 'rank'} {of_rank.label}: attempt {attempt} ──"
                )
        match event:
            case None:
                self._output.end_rank(rank, of_rank.label)
            case Output(data) if not self._one_rank:
                self.line.clear()
                self._output.write_rank(rank, data, of_rank.label)
            case _:
                self.show(event)

    def end(self) -> None:
        """Leaves the screen so that other lines can follow."""
        self.line.clear()
        self._output.end_line()

    def _show_waiting(self, run: Run, waiting: Waiting | None) -> None:
        if waiting is None:
            self.line.show(state_text(run))
            return
        if waiting.advice and waiting.advice not in self._advice:
            self._advice.add(waiting.advice)
            self.line.clear()
            click.echo("\n  ".join(waiting.advice), err=True)
        # In a file no line is written again, so how long it has waited would be wrong.
        began = run.state.submitted_at if self.line.live else None
        waited = f"; waiting {duration(datetime.now(UTC) - began)}" if began else ""
        explain = self._target.command("explain", run.name)
        self.line.show(f"{run.name}: {run.state.state}: {waiting.why}{waited} [{explain}]")


async def print_logs(target: Target, run: Run, options: LogOptions, ranks: Collection[int] = ()) -> None:
    """What the run has printed so far, or these ranks of it; where that is nothing, it says so."""
    screen = Screen(target, one_rank=len(ranks) == 1)
    has_begun = False
    async with aclosing(read_logs(target, run, options, ranks)) as events:
        async for event in events:
            has_begun = True
            screen.show(event)
    screen.end()
    if not has_begun:
        none = "There is no output." if run.state.state in ENDED else "No output yet; -f waits for it."
        click.echo(f"{state_text(run).rstrip('.')}. {none}", err=True)
    if lost := oom_text(run):
        click.echo(lost, err=True)


def outcome_text(run: Run) -> str:
    """How it ended, in one line."""
    state = run.state
    if state.state == "succeeded":
        return f"{state.name} succeeded" + (f": {state.message}" if state.message else "")
    detail = "by you" if state.reason == Reason.STOPPED_BY_USER else state.message or state.reason
    # Those two messages are the exit code in words.
    if state.exit_code is not None and state.reason not in (Reason.EXIT_CODE, Reason.SIGNAL):
        detail += f" (exit code {state.exit_code})"
    colon = "" if detail.startswith("by you") else ":"
    return f"{state.name} {state.state}{colon} {detail}"


async def follow_to_exit(
    target: Target,
    name: str,
    options: LogOptions = WHOLE_LOG,
    *,
    is_new: bool = False,
    ranks: Collection[int] = (),
) -> int:
    """Follows, says how the run ended and gives the exit code; see `follow`."""
    screen = Screen(target, one_rank=len(ranks) == 1)
    refresh_s = _REFRESH_S if screen.line.live else None
    try:
        following = follow(target, name, options, refresh_s=refresh_s, is_new=is_new, ranks=ranks)
        async with aclosing(following) as events:
            async for event in events:
                screen.show(event)
    finally:
        screen.line.clear()
    assert isinstance(event, Ended)
    run = event.run
    if run.state.tasks is not None:
        from gpuyard.runs.tasks import with_tasks

        run = await with_tasks(target, run)
    click.echo(outcome_text(run), err=True)
    if lost := oom_text(run):
        click.echo(lost, err=True)
    if run.state.state == "failed":
        from gpuyard.cli.output.diagnoses import first_cause
        from gpuyard.runs.explaining.diagnosis import diagnose_run

        if cause := first_cause(await diagnose_run(target, run)):
            click.echo(cause, err=True)
    return exit_code_of(run)
