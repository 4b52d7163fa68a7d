"""A yard or a cluster, and runs on it, for programs that have an event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Any

from gpuyard import errors
from gpuyard.client.log_place import Gap, LogOptions
from gpuyard.local import lifecycle
from gpuyard.local.paths import find_paths
from gpuyard.python_api.spec_keys import flags_of
from gpuyard.python_api.wording import name_arguments, speaks_python
from gpuyard.runs.explaining.explanation import Answer, explain_with_output
from gpuyard.runs.following import run_events as following
from gpuyard.runs.following.pod_log import Output
from gpuyard.runs.following.ranks import OfRank
from gpuyard.runs.following.run_watch import watch_to_end
from gpuyard.runs.interactive.command import CommandResult, run_in
from gpuyard.runs.interactive.copying import CopyResult, copy_from, copy_to
from gpuyard.runs.interactive.live_pod import LivePod, live_pod
from gpuyard.runs.notices import Notice, NoticeKind, Notify
from gpuyard.runs.run import find_run, list_runs
from gpuyard.runs.stopping import remove_run, stop_run
from gpuyard.runs.submitting.resolve import check_ends, check_for_cluster, resolve
from gpuyard.runs.submitting.spec_file import read_spec_file, unexpanded
from gpuyard.runs.submitting.submit import submit
from gpuyard.runs.target import Target, goes_to_yard, open_target
from gpuyard.workloads.run_state import RunState
from gpuyard.workloads.spec.run_spec import load_spec

_LOGGER = logging.getLogger("gpuyard")


def log_notice(notice: Notice) -> None:
    """Gives a notice to the logger `gpuyard`: the default of `connect`."""
    level = logging.INFO if notice.kind is NoticeKind.NOTE else logging.WARNING
    _LOGGER.log(level, "%s", notice.text)


@speaks_python
class AsyncYard:
    """A connection to this machine's yard or to a cluster; use it as an async context manager."""

    def __init__(
        self, context: str | None = None, namespace: str | None = None, notify: Notify = log_notice
    ) -> None:
        """See `connect_async`."""
        self._context = context
        self._namespace = namespace
        self._notify = notify
        self._stack = AsyncExitStack()
        self._target: Target | None = None

    async def __aenter__(self) -> AsyncYard:
        """Connects.

        Raises:
            UsageError: there is no such context.
            YardError: the yard can't be started.
            ConnectionFailed: nobody answers.
        """
        if goes_to_yard(self._context):
            await asyncio.to_thread(lifecycle.start, find_paths(os.environ))
        target = open_target(self._context, self._namespace, self._notify)
        self._target = await self._stack.enter_async_context(target)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._target = None

    @property
    def namespace(self) -> str:
        """The namespace that names are looked up in."""
        return self.target.namespace

    @property
    def target(self) -> Target:
        """What the connection goes to.

        Raises:
            UsageError: it isn't open.
        """
        if self._target is None:
            raise errors.UsageError(
                "this connection isn't open", remedy="write `async with gpuyard.connect_async() as yard:`"
            )
        return self._target

    async def run(
        self,
        command: str | Sequence[str] | None = None,
        *,
        file: str | os.PathLike[str] | None = None,
        gpus: int | str | None = None,
        env: Mapping[str, str | None] | None = None,
        replace: bool = False,
        wait: bool = False,
        **keys: Any,
    ) -> AsyncRun:
        """Submits a run; returns once the API has it.

        Args:
            command: a script such as "train.py", a command line, or a list of words.
            file: a spec file; the arguments win over it.
            gpus: how many, or MODEL:N.
            env: variables; a value of None takes this process's own. Values are taken as they are.
            replace: remove a run of this name first.
            wait: submit also what no node could run as things are.
            keys: any other key of a spec file by its name: image="…", retries=2, cpus="4", memory="16Gi".

        Raises:
            SpecError: with every mistake in the arguments and the file.
            UsageError: something that it needs isn't there, no node could ever run it, or the name is taken.
        """
        target = self.target
        path = Path(file) if file is not None else None
        flags = flags_of(run=command, gpus=gpus, env=env, **keys)
        for notice in unexpanded(flags):
            self._notify(notice)
        source = str(path) if path else "this call"
        try:
            spec = load_spec(read_spec_file(path) if path else None, source, flags, os.environ)
        except errors.SpecError as error:
            raise name_arguments(error) from None
        check_ends(spec)
        if spec.build is not None:
            raise errors.UsageError(
                "an image that has to be built first isn't built from Python",
                remedy=f"build it with `gpuyard build -f {source}`, and give its reference as image=…",
            )
        if not target.is_yard:
            check_for_cluster(spec)
        base = path.parent if path else Path()
        resolved = await asyncio.to_thread(resolve, spec, base, os.environ, namespace=target.namespace)
        await submit(target, resolved, self._notify, environ=os.environ, replace=replace, wait=wait)
        return AsyncRun(self, resolved.name)

    async def find(self, name: str) -> AsyncRun:
        """The run of this name.

        Raises:
            UsageError: there is none; the message has the nearest name.
        """
        return AsyncRun(self, (await find_run(self.target, name)).name)

    async def runs(self) -> list[RunState]:
        """The state of every run of the namespace, oldest first."""
        return [run.state for run in await list_runs(self.target)]


@speaks_python
class AsyncRun:
    """One run, by its name; what it is by now is asked for at each call."""

    def __init__(self, yard: AsyncYard, name: str) -> None:
        """`name` is that of a run that is there."""
        self.name = name
        self._yard = yard

    def __repr__(self) -> str:
        return f"<run {self.name}>"

    async def state(self) -> RunState:
        """What state it is in, and why.

        Raises:
            UsageError: it was removed.
        """
        return (await find_run(self._yard.target, self.name)).state

    async def logs(
        self,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
        timestamps: bool = False,
        ranks: Collection[int] = (),
    ) -> AsyncGenerator[str, None]:
        """Its output line by line, without the newlines, attempt after attempt.

        Of a run of several pods the lines come in the order of time, with `follow` new ones as they are
        printed, each after its rank: `[1] loss 0.4`.
        A line in parentheses stands where bytes are missing that are no longer kept.

        Args:
            follow: go on to the end of the run; also waits for its start.
            tail_lines: begin with so many last lines.
            timestamps: begin each line with its time; a yard's are exact to a fifth of a second.
            ranks: of several pods, those whose output is wanted; empty for all.

        Raises:
            GpuyardError: it was removed, or waits for nothing that could come.
            ConnectionFailed: the API has been away for a minute.
        """
        target = self._yard.target
        options = LogOptions(tail_lines=tail_lines, timestamps=timestamps)
        if follow:
            events: AsyncGenerator[Any, None] = following.follow(target, self.name, options, ranks=ranks)
        else:
            events = following.read_logs(target, await find_run(target, self.name), options, ranks)
        async with aclosing(events):
            async for line in _lines(events):
                yield line

    async def wait(self) -> RunState:
        """Waits for its end; the state has the exit code.

        Raises:
            GpuyardError: somebody removed it.
            ConnectionFailed: the API has been away for a minute.
        """
        return (await watch_to_end(self._yard.target, self.name)).state

    async def explain(self) -> Answer:
        """Why it waits or failed; `str()` of it is what `gpuyard explain` prints, in Python's words."""
        target = self._yard.target
        return await explain_with_output(target, await find_run(target, self.name))

    async def exec(self, command: Sequence[str], *, stdin: bytes = b"", rank: int = 0) -> CommandResult:
        """Runs a command beside its own process, and collects what it writes.

        Args:
            command: its words.
            stdin: its input.
            rank: of several pods, in which one.

        Raises:
            UsageError: it has no such rank.
            GpuyardError: it doesn't run, or the command can't be started.
            ConnectionFailed: the connection was cut.
        """
        return await run_in(self._yard.target, await self._pod(rank), command, stdin)

    async def copy_from(self, path: str, local: str | os.PathLike[str] = ".", *, rank: int = 0) -> CopyResult:
        """Copies a file or a folder of it here: into a folder that is there, or to a new name.

        Raises:
            UsageError: there is no place for it.
            GpuyardError: it isn't there, can't be read, or the connection was cut; then nothing has changed.
        """
        pod = await self._pod(rank)
        return await copy_from(self._yard.target, pod, path, Path(local), lambda done, size: None)

    async def copy_to(self, local: str | os.PathLike[str], path: str, *, rank: int = 0) -> CopyResult:
        """Copies a file or a folder of this machine into it; else as `copy_from`."""
        pod = await self._pod(rank)
        return await copy_to(self._yard.target, pod, Path(local), path, lambda done, size: None)

    async def _pod(self, rank: int) -> LivePod:
        target = self._yard.target
        return live_pod(target, await find_run(target, self.name, ask_nodes=False), rank)

    async def stop(self) -> RunState:
        """Asks its processes to end, and waits until they have; its logs and exit code stay."""
        await stop_run(self._yard.target, self.name)
        return await self.wait()

    async def remove(self) -> None:
        """Forgets it, with its logs; what still runs is stopped first."""
        target = self._yard.target
        await remove_run(target, await find_run(target, self.name))


def connect_async(
    context: str | None = None, namespace: str | None = None, *, notify: Notify = log_notice
) -> AsyncYard:
    """`async with connect_async() as yard:` connects to this machine's yard, which is started if need be.

    Args:
        context: a context of the kubeconfig, or "yard"; None for what `gpuyard use` chose.
        namespace: None for the context's own.
        notify: hears of what one may not expect; by default the logger `gpuyard` does.
    """
    return AsyncYard(context, namespace, notify)


async def _lines(events: AsyncIterator[following.Event]) -> AsyncGenerator[str, None]:
    """Whole lines; those of several ranks each with its rank before it, as on a terminal."""
    begun: dict[str, list[bytes]] = {}

    def line(prefix: str, end: bytes = b"") -> str:
        return prefix + b"".join((*begun.pop(prefix, ()), end)).decode(errors="replace")

    async for event in events:
        of_log: following.Event | None = event
        prefix = ""
        if isinstance(event, OfRank):
            prefix, of_log = f"[{event.label}] ", event.event
        match of_log:
            case Output(data):
                *whole, rest = data.split(b"\n")
                for end in whole:
                    yield line(prefix, end)
                if rest:
                    begun.setdefault(prefix, []).append(rest)
            case Gap(text):
                if prefix in begun:
                    yield line(prefix)
                yield prefix + text
            case None | following.AttemptBegan() | following.Ended() if prefix in begun:
                yield line(prefix)
    for prefix in list(begun):
        yield line(prefix)
