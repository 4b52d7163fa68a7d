"""A terminal attached to a run: Ctrl-C detaches it, and a failure of ours isn't the run's."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from gpuyard import errors
from gpuyard.runs.target import Target

if TYPE_CHECKING:
    from gpuyard.runs.interactive.command import PodEnd


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


def say_end(end: PodEnd, *, tty: bool = False) -> None:
    """Says on a line of its own how a pod ended that somebody was in; `tty`: the cursor may be anywhere."""
    from gpuyard.cli.follow import outcome_text
    from gpuyard.runs.run import has_ended
    from gpuyard.workloads.outcome import why_failed

    if has_ended(end.run):
        text = outcome_text(end.run)
    else:
        pod = end.pod or None
        succeeded = pod is not None and pod["status"].get("phase") == "Succeeded"
        how = "succeeded" if succeeded else f"ended: {why_failed(pod)[1]}"
        text = f"{pod['metadata']['name'] if pod else 'the pod'} of {end.run.name} {how}"
    click.echo(("\n" if tty else "") + text, err=True)


async def attached(
    target: Target,
    name: str,
    work: Coroutine[Any, Any, int],
    *,
    ours: bool,
    again: Sequence[str] = ("logs", "-f"),
) -> int:
    """Awaits work on a run that is there, and gives its exit code.

    Ctrl-C, or who cancels, detaches with 0 and says how to attach again.

    Args:
        target: where the run is.
        name: the run.
        work: awaited to its end, or cancelled.
        ours: this command submitted the run, so that its own failure from here on is code 125.
        again: the command that does it.
    """
    try:
        with detach_on_interrupt():
            return await work
    except asyncio.CancelledError:
        attach, stop = target.command(*again, name), target.command("stop", name)
        click.echo(f"\nDetached: {name} goes on. Attach again: {attach}\nEnd it: {stop}", err=True)
        return 0
    except OSError as error:
        if not ours or isinstance(error, BrokenPipeError):
            raise
        failed = errors.GpuyardError(
            f"can't write the output of {name}: {error.strerror or error}",
            remedy=f"the run goes on, and its output is kept: {target.command('logs', name)}",
        )
        failed.exit_code = 125
        raise failed from error
    except errors.GpuyardError as error:
        if ours:
            error.exit_code = 125
            error.remedy = error.remedy or f"the run may go on: {target.command('show', name)}"
        raise
