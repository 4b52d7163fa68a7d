"""`gpuyard shell`."""

from __future__ import annotations

import copy
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.commands.run import command as run_command
from gpuyard.cli.commands.run import start_yard
from gpuyard.cli.options.shared import target_options
from gpuyard.cli.options.spec import SpecOption, flags_of

if TYPE_CHECKING:
    from datetime import timedelta

    from gpuyard.runs.target import Target
    from gpuyard.workloads.resolved_run import ResolvedRun

_DEFAULT_IDLE = "30m"
_ENDING = (signal.SIGHUP, signal.SIGTERM)
#: Options of `run` that a shell has, too.
_KEYS = (
    *("name", "resources.gpus", "resources.cpus", "resources.memory", "resources.shm", "env", "workdir"),
    *(
        "image",
        "image_pull_secrets",
        "volumes",
        "timeout",
        "idle",
        "priority",
        "node_selector",
        "tolerations",
    ),
)

#: Where the help of `run` speaks of what a shell has not.
_HELP = {
    "name": "Name of the run (default: shell- and five characters).",
    "workdir": "Folder to start in (default: this one).",
    "volumes": "Mount a claim that is there, or on the yard a folder (./ckpt), at PATH.",
}


def _own(option: SpecOption) -> SpecOption:
    copied = copy.copy(option)
    copied.help = _HELP.get(option.key, option.help)
    return copied


@click.command(
    "shell",
    params=[
        _own(option)
        for option in run_command.params
        if isinstance(option, SpecOption) and option.key in _KEYS
    ],
    epilog="""\b
Examples:
  gpuyard shell --gpus 1
  gpuyard shell --gpus 1g.10gb --idle 2h
  gpuyard shell --gpus 8 --image nvcr.io/nvidia/pytorch:25.09-py3 --volume /data=imagenet:ro

\b
Exit code: that of the shell; 124 where its run has used up its --timeout.
""",
)
@target_options
def command(context: str | None, namespace: str | None) -> None:
    """Open a shell on a GPU, in a run of its own that ends with the terminal.

    It ends, too, when the GPUs have been idle for 30 minutes (--idle), after a warning in the terminal; and
    within minutes where this command was killed or its machine is gone. On a yard it is your own $SHELL.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.options.registry import registry_environ
    from gpuyard.runs.interactive.shell import IDLES, shell_spec
    from gpuyard.runs.submitting.resolve import check_for_cluster, resolve
    from gpuyard.runs.target import check_namespace, goes_to_yard, namespace_of
    from gpuyard.workloads.spec.overrides import Flag
    from gpuyard.workloads.spec.run_spec import load_spec

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("A shell needs a terminal. `gpuyard run` takes commands without one.")
    check_namespace(namespace)
    flags = flags_of(click.get_current_context())
    set_keys = {flag.path for flag in flags}
    if ("resources", "gpus") in set_keys and ("idle",) not in set_keys:
        flags.append(Flag("the default", ("idle",), _DEFAULT_IDLE))
    flags.append(Flag("the command", ("run",), IDLES))
    spec = shell_spec(load_spec(None, "the command line", flags, os.environ))
    if not goes_to_yard(context):
        check_for_cluster(spec)
    run = resolve(spec, Path(), os.environ, namespace=namespace_of(context, namespace))
    if goes_to_yard(context):
        start_yard()
    environ = registry_environ((), None)
    sys.exit(call(lambda target: _serve(target, run, environ), context=context, namespace=namespace))


async def _serve(target: Target, run: ResolvedRun, environ: dict[str, str]) -> int:
    """Submits the run, waits for it, and ends it with the terminal."""
    import asyncio

    from gpuyard.cli.output.notices import print_notice
    from gpuyard.runs.interactive.command import check_may_exec
    from gpuyard.runs.stopping import stop_run
    from gpuyard.runs.submitting.submit import submit

    await check_may_exec(target)
    await submit(target, run, print_notice, environ=environ)
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def leave() -> None:
        if not task.cancelling():
            task.cancel()

    for number in _ENDING:
        loop.add_signal_handler(number, leave)
    left = None
    try:
        code, is_left = await _wait_and_open(target, run.name, run.spec.idle)
        left = code if is_left else None
        return code
    finally:
        # A terminal that is closed sends several, and none may disturb the stop.
        for number in _ENDING:
            loop.add_signal_handler(number, lambda: None)
        await stop_run(target, run.name, shell_exit=left)


async def _wait_and_open(target: Target, name: str, idle: timedelta | None) -> tuple[int, bool]:
    """The exit code, and whether it is that of a shell that its user left."""
    from gpuyard.cli.attachment import say_end
    from gpuyard.cli.follow import Screen, outcome_text
    from gpuyard.cli.terminal import open_console
    from gpuyard.runs.following.run_events import AttemptBegan, Ended, follow
    from gpuyard.runs.interactive.command import end_of_killed
    from gpuyard.runs.interactive.live_pod import live_pod
    from gpuyard.runs.interactive.shell import serve_shell
    from gpuyard.runs.run import exit_code_of, find_run
    from gpuyard.workloads.outcome import Reason
    from gpuyard.workloads.spec.time_spans import format_span

    unless = f", or once its GPUs have been idle for {format_span(idle)}" if idle else ""
    click.echo(f"{name} is there for this shell, and ends with it{unless}.", err=True)
    screen, said = Screen(target), follow(target, name, refresh_s=1.0, is_new=True)
    try:
        async for event in said:
            screen.show(event)
            if isinstance(event, Ended):
                click.echo(outcome_text(event.run), err=True)
                return exit_code_of(event.run), False
            if isinstance(event, AttemptBegan):
                break
    finally:
        screen.end()
    pod = live_pod(target, await find_run(target, name, ask_nodes=False), None)
    async with open_console() as console:
        code = await serve_shell(target, pod, console, said)
    end = await end_of_killed(target, pod, code)
    if end is None:
        return code, True
    say_end(end, tty=True)
    return 124 if end.run.state.reason is Reason.DEADLINE_EXCEEDED else code, False
