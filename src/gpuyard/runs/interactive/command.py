"""A command in a run's pod, and the run's own process: bytes go in and come out, an exit code is the end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpuyard import errors
from gpuyard.client.streams.remote_command import Channel, RemoteCommand, Streams, open_attach, open_exec
from gpuyard.client.streams.websocket import Bytes
from gpuyard.kube.objects import Manifest
from gpuyard.runs.interactive.live_pod import NO_POD, LivePod, check_right
from gpuyard.runs.run import Run, exit_code_of, has_ended, is_alive
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import exit_code, is_stopped

#: As shells have it: no such program, and one that isn't a program.
_NO_PROGRAM, _NOT_EXECUTABLE = 127, 126
#: What a command ends with that ends with its container: by SIGHUP, SIGKILL and SIGTERM.
_KILLED = (129, 137, 143)
#: For what the API says of an end a little after it, and of one that somebody has asked for.
_CLOSING_S, _STOPPING_S = 3.0, 15.0
_ENDED_BADLY = 125


class Console(Protocol):
    """Where a process's input comes from, and its output goes to.

    Attributes:
        streams: what of the process is connected.
    """

    streams: Streams

    async def read(self) -> bytes:
        """The next input; empty at its end."""
        ...

    async def write(self, channel: Channel, data: Bytes) -> None:
        """Takes output."""
        ...

    async def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal: at once the first time, then when they change."""
        ...


@dataclass(frozen=True)
class CommandResult:
    """What a command did.

    Attributes:
        exit_code: its own; 128+n for signal n.
        stdout, stderr: what it wrote.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


async def check_may_exec(target: Target) -> None:
    """Raises Forbidden where the user may run no commands in pods; see `check_right`."""
    if not target.is_yard:
        opening = open_exec(target.api, target.namespace, NO_POD, "main", ("true",), Streams())
        await check_right(opening)


async def exec_in(target: Target, pod: LivePod, command: Sequence[str], console: Console) -> int:
    """Runs a command beside the pod's own process; gives its exit code.

    Raises:
        GpuyardError: it can't be started, or nobody knows how it ended.
    """
    with _worded(pod, command):
        opened = open_exec(target.api, target.namespace, pod.name, pod.container, command, console.streams)
        async with opened as process:
            return await _serve(process, console)


async def attach_to(target: Target, pod: LivePod, console: Console) -> None:
    """Connects to the pod's own process, until that ends; `end_of` says how it did.

    Raises:
        GpuyardError: it can't be reached.
    """
    opened = open_attach(target.api, target.namespace, pod.name, pod.container, console.streams)
    async with opened as process:
        # Kubernetes ends the connection without a word of how the process did.
        await _serve(process, console)


@dataclass(frozen=True)
class PodEnd:
    """How a pod ended that somebody was in.

    Attributes:
        run: its run, which may go on.
        pod: as it was last.
    """

    run: Run
    pod: Manifest

    @property
    def exit_code(self) -> int:
        """That of its process, unless that says success and the run, or the pod, had none."""
        failed = self.pod.get("status", {}).get("phase") != "Succeeded"
        code = exit_code(self.pod)
        if not code and has_ended(self.run):
            return exit_code_of(self.run)
        return code or (_ENDED_BADLY if failed else 0)


async def end_of(target: Target, pod: LivePod, within_s: float = math.inf) -> PodEnd | None:
    """Waits for the pod's end, and for its run's where that follows; None when it goes on for longer.

    Raises:
        GpuyardError: the run was removed, or the API is away.
    """
    from gpuyard.runs.following.run_watch import RunWatch

    watch, loop, end = RunWatch(target, pod.run), asyncio.get_running_loop(), None
    began = loop.time()
    due = began + within_s
    async with watch.watching():
        while True:
            if watch.is_synced:
                run, gone = watch.run, watch.gone
                closing_s = _STOPPING_S if is_stopped(run.job) else _CLOSING_S
                if end is None:
                    due = max(due, began + closing_s)
                found = next((one for one in (*run.pods, *gone) if one["metadata"]["name"] == pod.name), {})
                if not found or found in gone or not is_alive(found):
                    # The Job's controller is about to close it, or to make the next attempt.
                    due = due if end else min(due, loop.time() + closing_s)
                    end = PodEnd(run, found)
                if has_ended(run):
                    return end
            if not await watch.change(due - loop.time()):
                return end


async def end_of_killed(target: Target, pod: LivePod, code: int) -> PodEnd | None:
    """How the pod ended with a command in it that was killed; None where it goes on, or nobody knows."""
    if code not in _KILLED:
        return None
    with contextlib.suppress(errors.GpuyardError):
        return await end_of(target, pod, _CLOSING_S)
    return None


async def run_in(target: Target, pod: LivePod, command: Sequence[str], stdin: bytes = b"") -> CommandResult:
    """Runs a command with this input, and collects what it writes.

    Raises:
        GpuyardError: as `exec_in`.
    """
    console = _Collecting(stdin)
    code = await exec_in(target, pod, command, console)
    return CommandResult(code, b"".join(console.out), b"".join(console.err))


class _Collecting:
    """Implements `Console` for a program."""

    def __init__(self, stdin: bytes) -> None:
        self.streams = Streams(stdin=bool(stdin))
        self.out: list[bytes] = []
        self.err: list[bytes] = []
        self._due = [stdin]

    async def read(self) -> bytes:
        """See `Console`."""
        return self._due.pop() if self._due else b""

    async def write(self, channel: Channel, data: Bytes) -> None:
        """See `Console`."""
        (self.err if channel is Channel.STDERR else self.out).append(bytes(data))

    async def size(self) -> tuple[int, int]:
        """See `Console`."""
        raise AssertionError("there is no terminal")


async def _serve(process: RemoteCommand, console: Console) -> int:
    """Carries everything both ways to the end of the process."""
    output = asyncio.create_task(_show(process, console), name="output")
    tasks = {output}
    if console.streams.tty:
        tasks.add(asyncio.create_task(_resize(process, console), name="terminal's size"))
    if console.streams.stdin:
        tasks.add(asyncio.create_task(_feed(process, console), name="standard input"))
    waiting = tasks
    try:
        while not output.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for side in done - {output}:
                # A process that ends doesn't read to the end of its input.
                if (failure := side.exception()) and not isinstance(failure, errors.ConnectionFailed):
                    raise failure
        output.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if process.exit_code is None:
        raise errors.ConnectionFailed(
            "the connection ended, and nobody says how the command did",
            remedy="it may go on; try again",
        )
    return process.exit_code


async def _show(process: RemoteCommand, console: Console) -> None:
    async for channel, data in process.output():
        await console.write(channel, data)


async def _feed(process: RemoteCommand, console: Console) -> None:
    while data := await console.read():
        await process.write(data)
    await process.close_input()


async def _resize(process: RemoteCommand, console: Console) -> None:
    while True:
        await process.resize(*await console.size())


@contextlib.contextmanager
def _worded(pod: LivePod, command: Sequence[str] = ()) -> Iterator[None]:
    """Says in our words what a node says of a command that can't be started."""
    try:
        yield
    except (errors.InternalError, errors.BadRequest) as error:
        text = error.message
        program = command[0] if command else ""
        if "executable file not found" in text or "no such file or directory" in text.lower():
            said = f"there is no program {program!r} in pod {pod.name}"
            raise _not_started(said, _NO_PROGRAM, _instead(pod, command)) from error
        if "permission denied" in text.lower() or "exec format error" in text.lower():
            raise _not_started(
                f"{program!r} can't be run in pod {pod.name}: {text}", _NOT_EXECUTABLE
            ) from error
        raise


def _instead(pod: LivePod, command: Sequence[str]) -> str:
    """What to do where there is no such program."""
    if len(command) == 1 and " " in command[0]:
        return f"a line for a shell is one word of it: sh -c {shlex.quote(command[0])}"
    if command and command[0] == "nvidia-smi":
        return f"what its GPUs do: gpuyard top {pod.run}"
    return _LACKING if pod.has_image else "give its path, or install it: the run has this machine's programs"


_LACKING = "an image has only what its maker put into it"


def _not_started(message: str, code: int, remedy: str = _LACKING) -> errors.GpuyardError:
    error = errors.GpuyardError(message, remedy=remedy)
    error.exit_code = code
    return error
