"""A shell in a terminal, and a run that is there for it alone.

The run's own command does nothing, and the shell is a program beside it, as `exec` starts them: so it is the
same on a yard and on a cluster, whose containers learn nothing of a terminal that went away. Who has the
terminal writes onto the pod that it is there (annotation gpuyard.io/terminal), and the launcher ends a run of
which nobody has said so for five minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from gpuyard import errors
from gpuyard.client.streams.remote_command import Channel
from gpuyard.kube.objects import PODS
from gpuyard.kube.wellknown import ANNOTATION_TERMINAL
from gpuyard.runs.following.pod_log import Output
from gpuyard.runs.following.run_events import Event
from gpuyard.runs.interactive.command import Console, exec_in
from gpuyard.runs.interactive.live_pod import LivePod
from gpuyard.runs.target import Target
from gpuyard.workloads.names import generate_name
from gpuyard.workloads.spec.run_spec import RunSpec

#: Every image has it, and it ends at SIGTERM.
IDLES = ("tail", "-f", "/dev/null")
_HERE_S = 60.0
_KILLED, _LAST_WORDS_S = 128, 3.0
#: The user's own shell on a yard; images rarely name one.
_SHELL = 'export TERM="$1"; exec "${SHELL:-$(command -v bash || command -v sh)}"'


def shell_spec(spec: RunSpec) -> RunSpec:
    """The spec of a run that is there for a shell; its command is IDLES."""
    return replace(spec, terminal=True, name=spec.name or generate_name("shell", random.SystemRandom()))


async def serve_shell(
    target: Target, pod: LivePod, console: Console, said: AsyncGenerator[Event, None]
) -> int:
    """Runs the shell to its end; gives its exit code.

    Args:
        target: where the run is.
        pod: of the run.
        console: the terminal.
        said: the run's events from now on; what its launcher prints is shown, such as a warning.

    Raises:
        GpuyardError: it can't be started, or the connection was cut.
    """
    term = os.environ.get("TERM") or "xterm"
    sides = [
        asyncio.create_task(_say_here(target, pod), name="say that the terminal is here"),
        asyncio.create_task(_show(said, console), name="show what the run says"),
    ]
    try:
        code = await exec_in(target, pod, ("sh", "-c", _SHELL, "sh", term), console)
        if code > _KILLED:  # perhaps with its run, which is about to say why
            await asyncio.wait(sides[1:], timeout=_LAST_WORDS_S)
        return code
    finally:
        for side in sides:
            side.cancel()
        await asyncio.gather(*sides, return_exceptions=True)


async def _say_here(target: Target, pod: LivePod) -> None:
    """Again and again; what fails is tried again. Who may not write to pods loses the shell after 5 min."""
    number = 0
    while True:
        number += 1
        patch = {"metadata": {"annotations": {ANNOTATION_TERMINAL: str(number)}}}
        with contextlib.suppress(errors.GpuyardError):
            await target.api.patch(PODS, pod.name, patch, target.namespace)
        await asyncio.sleep(_HERE_S)


async def _show(said: AsyncGenerator[Event, None], console: Console) -> None:
    """Lines of a raw terminal begin where they are told to."""
    async with aclosing(said):
        async for event in said:
            if isinstance(event, Output):
                text = bytes(event.data).strip(b"\r\n").replace(b"\n", b"\r\n")
                await console.write(Channel.STDERR, b"\r\n" + text + b"\r\n")
