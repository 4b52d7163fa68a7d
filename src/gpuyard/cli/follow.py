"""Following a run: one status line while it waits, then its output, attempt after attempt, to its end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import click

from gpuyard import errors
from gpuyard.cli.diagnosis import say_cause
from gpuyard.cli.log_output import LogOutput
from gpuyard.cli.output import StatusLine
from gpuyard.cli.pod_log import AWAY_S, PodLog, away_text, start_of
from gpuyard.cli.waiting import LASTING, PASSING, find_waiting
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import JOBS, PODS, Manifest, uid_of
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.run import ENDED, Run, has_ended, make_run, state_and_reason
from gpuyard.runs.target import Target

_CHECK_S = 1.0
_SETTLE_S = 1.0
#: How often a line that is rewritten is made anew.
_REFRESH_S = 2.0


class Watched:
    """A run that is kept current by watches; `changed` wakes whoever waits for its next state."""

    def __init__(self, target: Target, name: str, line: StatusLine) -> None:
        """`line` says so while the API is away."""
        selector = f"{LABEL_RUN}={name}"
        self._name = name
        self._line = line
        self._away_text = away_text(target, name)
        self._jobs = Informer(target.api, JOBS, namespace=target.namespace, label_selector=selector)
        self._pods = Informer(target.api, PODS, namespace=target.namespace, label_selector=selector)
        self._changed = asyncio.Event()
        self._away_since: float | None = None
        for informer in (self._jobs, self._pods):
            informer.add_handler(lambda old, new: self._changed.set())

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keeps the run current inside the block."""
        # No TaskGroup: it would wrap what the block raises into an ExceptionGroup.
        informers = (self._jobs, self._pods)
        tasks = [asyncio.create_task(i.run(), name=f"watch {i.resource.plural}") for i in informers]
        try:
            for informer in informers:
                await self._first_list(informer)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _first_list(self, informer: Informer) -> None:
        synced = asyncio.create_task(informer.synced(), name="first list")
        while not (await asyncio.wait([synced], timeout=_CHECK_S))[0]:
            self._check_api()

    def _check_api(self) -> None:
        """Says that the API is away; raises when it has been for too long, or refuses."""
        now = asyncio.get_running_loop().time()
        failure = self._jobs.failure or self._pods.failure
        if failure is None:
            if self._away_since is not None:
                # Whoever waits looks again, and says what it waits for in the place of this.
                self._away_since = None
                self._line.clear()
                self._changed.set()
            return
        if isinstance(failure, errors.Unauthorized | errors.Forbidden):
            raise failure
        self._away_since = self._away_since or now
        self._line.show(self._away_text)
        if now - self._away_since > AWAY_S:
            raise failure

    @property
    def run(self) -> Run:
        """The run as it is now.

        Raises:
            GpuyardError: somebody removed it.
        """
        for job in self._jobs.objects.values():
            return make_run(job, list(self._pods.objects.values()))
        raise errors.GpuyardError(f"{self._name} was removed while it was followed")

    async def change(self, within_s: float = math.inf) -> bool:
        """Waits for the next change; False when there was none in time.

        Raises:
            ConnectionFailed: the API has been away for a minute.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + within_s
        while not self._changed.is_set():
            self._check_api()
            left = due - loop.time()
            if left <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, _CHECK_S))
        self._changed.clear()
        return True


async def follow(target: Target, name: str, *, tail_lines: int | None = None, quiet: bool = False) -> Run:
    """Prints the run's output to its end and returns it as it ended.

    Output of the processes goes to standard output unchanged; everything of ours to standard error.
    """
    line = StatusLine()
    output = LogOutput()
    watched = Watched(target, name, line)
    logs: dict[str, PodLog] = {}
    printed: set[tuple[str, int]] = set()
    told: set[tuple[str, ...]] = set()
    async with watched.watching():
        while True:
            run = watched.run
            due = _next_log(run, printed)
            if due is not None:
                pod, start = due
                line.clear()
                if uid_of(pod) not in logs:
                    if not quiet and (logs or len(_with_output(run)) > 1):
                        output.say(f"── attempt {len(logs) + 1} ──")
                    logs[uid_of(pod)] = PodLog(target, pod, output, tail_lines=tail_lines)
                await logs[uid_of(pod)].follow(start, line)
                printed.add((uid_of(pod), start))
                continue
            if has_ended(run):
                line.clear()
                output.end_line()
                return run
            if run.state.reason == "Running":  # its output is over, and its pod is about to say how it ended
                await watched.change()
                continue
            output.end_line()
            await _show_state(target, watched, line, told)


def _next_log(run: Run, printed: set[tuple[str, int]]) -> tuple[Manifest, int] | None:
    """The first pod that has output of a start which hasn't been printed, and that start."""
    for pod in run.pods:
        start, uid = start_of(pod), uid_of(pod)
        if start is None or (uid, start) in printed:
            continue
        # While it waits to be started again there is nothing new.
        if start >= 0 or not any(uid == other for other, _ in printed):
            return pod, start
    return None


def _with_output(run: Run) -> list[Manifest]:
    return [pod for pod in run.pods if start_of(pod) is not None]


async def _show_state(target: Target, watched: Watched, line: StatusLine, told: set[tuple[str, ...]]) -> None:
    """Shows what the run waits for, until something about it changes; advice that it gave goes into `told`.

    Raises:
        GpuyardError: it waits for nothing that could come.
    """
    run = watched.run
    # On a terminal the line is rewritten; in a file only what lasts is worth a line.
    if not line.live and await watched.change(within_s=_SETTLE_S):
        return
    if run.state.reason in PASSING:
        line.show(state_text(run))
        # Most runs start within that time, and asking why takes some of it.
        if await watched.change(within_s=_REFRESH_S):
            return
    if run.state.reason not in PASSING | LASTING:
        line.show(state_text(run))
        await watched.change()
        return
    waiting = await find_waiting(target, run, since=line.live)
    if waiting.final:
        line.clear()
        remove = target.command("rm", "--force", run.name)
        raise errors.GpuyardError(
            "\n  ".join(waiting.advice),
            remedy=f"it never starts, and keeps its place until you remove it: {remove}",
        )
    if waiting.advice and waiting.advice not in told:
        told.add(waiting.advice)
        line.clear()
        click.echo("\n  ".join(waiting.advice), err=True)
    line.show(waiting.text)
    # What others hold, and what events say, changes without any change of the run's own.
    await watched.change(within_s=_REFRESH_S if line.live else math.inf)


def state_text(run: Run) -> str:
    """The state with its reason and message, in one line."""
    state = run.state
    text = f"{state.name}: {state_and_reason(state)}"
    if state.message:
        text += f": {state.message}"
    return text


async def print_logs(target: Target, run: Run, *, tail_lines: int | None) -> None:
    """What the run has printed so far, attempt after attempt; with `tail_lines` of the last one only."""
    pods = _with_output(run)
    if not pods:
        none = "There is no output." if run.state.state in ENDED else "No output yet; -f waits for it."
        click.echo(f"{state_text(run).rstrip('.')}. {none}", err=True)
    output = LogOutput()
    for number, pod in enumerate(pods, 1):
        if tail_lines is not None and number < len(pods):
            continue
        if len(pods) > 1 and tail_lines is None:
            output.say(f"── attempt {number} ──")
        await PodLog(target, pod, output, tail_lines=tail_lines).print()
    output.end_line()


def exit_code_of(run: Run) -> int:
    """What `gpuyard run` ends with: the process's own code, 125 when it has none."""
    if run.state.state == "succeeded":
        return 0
    return 125 if run.state.exit_code is None else run.state.exit_code


def outcome_text(run: Run) -> str:
    """How it ended, in one line."""
    state = run.state
    if state.state == "succeeded":
        return f"{state.name} succeeded"
    detail = "by you" if state.reason == "StoppedByUser" else state.message or state.reason
    # Those two messages are the exit code in words.
    if state.exit_code is not None and state.reason not in ("ExitCode", "Signal"):
        detail += f" (exit code {state.exit_code})"
    colon = "" if detail.startswith("by you") else ":"
    return f"{state.name} {state.state}{colon} {detail}"


@contextlib.contextmanager
def detach_on_interrupt() -> Iterator[None]:
    """Inside the block Ctrl-C cancels the current task, so that it can say goodbye."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def attached(target: Target, name: str, work: Coroutine[Any, Any, int], *, ours: bool) -> int:
    """Awaits work on a run that is there, and gives its exit code.

    Ctrl-C detaches with 0 and says how to attach again.

    Args:
        target: where the run is.
        name: the run.
        work: awaited to its end, or cancelled.
        ours: this command submitted the run, so that its own failure from here on is code 125.
    """
    try:
        with detach_on_interrupt():
            return await work
    except asyncio.CancelledError:
        attach, stop = target.command("logs", "-f", name), target.command("stop", name)
        click.echo(f"\nDetached: {name} goes on. Attach again: {attach}\nEnd it: {stop}", err=True)
        return 0
    except errors.GpuyardError as error:
        if ours:
            error.exit_code = 125
            error.remedy = error.remedy or f"the run may go on: {target.command('show', name)}"
        raise


async def follow_to_exit(target: Target, name: str, *, tail_lines: int | None = None) -> int:
    """Follows, says how the run ended and gives the exit code."""
    run = await follow(target, name, tail_lines=tail_lines)
    click.echo(outcome_text(run), err=True)
    if run.state.state == "failed":
        await say_cause(target, run)
    return exit_code_of(run)
