"""The same for scripts and notebooks: each call waits for its answer. The work is done by `asynchronous`.

Its loop runs on a thread of its own, since in a notebook the caller's thread has a loop that runs already.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Collection, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

from gpuyard import errors
from gpuyard.python_api.asynchronous import AsyncRun, AsyncYard, log_notice
from gpuyard.runs.explaining.explanation import Answer
from gpuyard.runs.interactive.command import CommandResult
from gpuyard.runs.interactive.copying import CopyResult
from gpuyard.runs.notices import Notify
from gpuyard.workloads.run_state import RunState

Result = TypeVar("Result")


class Yard:
    """A connection to this machine's yard or to a cluster; use it in `with`, or end it with `close`."""

    def __init__(
        self, context: str | None = None, namespace: str | None = None, notify: Notify = log_notice
    ) -> None:
        """Connects; see `connect`."""
        self._yard = AsyncYard(context, namespace, notify)
        self._loop = LoopThread()
        try:
            self._loop.wait_for(self._yard.__aenter__())
        except BaseException:
            self._loop.close()
            raise

    def __enter__(self) -> Yard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; runs go on. Twice does no harm."""
        try:
            if self._loop.is_open:
                self._loop.wait_for(self._yard.__aexit__(None, None, None))
        finally:
            self._loop.close()

    @property
    def namespace(self) -> str:
        """See `AsyncYard.namespace`."""
        return self._yard.namespace

    def run(
        self,
        command: str | Sequence[str] | None = None,
        *,
        file: str | os.PathLike[str] | None = None,
        gpus: int | str | None = None,
        env: Mapping[str, str | None] | None = None,
        replace: bool = False,
        wait: bool = False,
        **keys: Any,
    ) -> Run:
        """See `AsyncYard.run`."""
        run = self._yard.run(command, file=file, gpus=gpus, env=env, replace=replace, wait=wait, **keys)
        return Run(self._loop, self._loop.wait_for(run))

    def find(self, name: str) -> Run:
        """See `AsyncYard.find`."""
        return Run(self._loop, self._loop.wait_for(self._yard.find(name)))

    def runs(self) -> list[RunState]:
        """See `AsyncYard.runs`."""
        return self._loop.wait_for(self._yard.runs())


class Run:
    """One run, by its name; what it is by now is asked for at each call."""

    def __init__(self, loop: LoopThread, run: AsyncRun) -> None:
        """For `Yard`."""
        self.name = run.name
        self._loop = loop
        self._run = run

    def __repr__(self) -> str:
        return repr(self._run)

    def state(self) -> RunState:
        """See `AsyncRun.state`."""
        return self._loop.wait_for(self._run.state())

    def logs(
        self,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
        timestamps: bool = False,
        ranks: Collection[int] = (),
    ) -> Iterator[str]:
        """See `AsyncRun.logs`."""
        return self._loop.iterate(
            self._run.logs(follow=follow, tail_lines=tail_lines, timestamps=timestamps, ranks=ranks)
        )

    def wait(self) -> RunState:
        """See `AsyncRun.wait`."""
        return self._loop.wait_for(self._run.wait())

    def explain(self) -> Answer:
        """See `AsyncRun.explain`."""
        return self._loop.wait_for(self._run.explain())

    def exec(self, command: Sequence[str], *, stdin: bytes = b"", rank: int = 0) -> CommandResult:
        """See `AsyncRun.exec`."""
        return self._loop.wait_for(self._run.exec(command, stdin=stdin, rank=rank))

    def copy_from(self, path: str, local: str | os.PathLike[str] = ".", *, rank: int = 0) -> CopyResult:
        """See `AsyncRun.copy_from`."""
        return self._loop.wait_for(self._run.copy_from(path, local, rank=rank))

    def copy_to(self, local: str | os.PathLike[str], path: str, *, rank: int = 0) -> CopyResult:
        """See `AsyncRun.copy_to`."""
        return self._loop.wait_for(self._run.copy_to(local, path, rank=rank))

    def stop(self) -> RunState:
        """See `AsyncRun.stop`."""
        return self._loop.wait_for(self._run.stop())

    def remove(self) -> None:
        """See `AsyncRun.remove`."""
        self._loop.wait_for(self._run.remove())


def connect(context: str | None = None, namespace: str | None = None, *, notify: Notify = log_notice) -> Yard:
    """Connects to this machine's yard, which is started if need be, or to a cluster.

    Args:
        context: a context of the kubeconfig, or "yard"; None for what `gpuyard use` chose.
        namespace: None for the context's own.
        notify: hears of what one may not expect, on another thread; by default the logger `gpuyard` does.

    Raises:
        UsageError: there is no such context.
        YardError: the yard can't be started.
        ConnectionFailed: nobody answers.
    """
    return Yard(context, namespace, notify)


class LoopThread:
    """An event loop on a thread of its own, for callers that wait; any thread but its own may call."""

    def __init__(self) -> None:
        """Starts the thread, which doesn't hold the program up when that ends without `close`."""
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self.is_open = True
        self._thread = threading.Thread(target=self._loop.run_forever, name="gpuyard", daemon=True)
        self._thread.start()

    @property
    def is_own(self) -> bool:
        """Whether the calling thread is this one, as in a callback for notices."""
        return threading.current_thread() is self._thread

    def wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What the work returns or raises.

        Ctrl-C, or whatever else ends the waiting, cancels the work and waits until that has ended.

        Raises:
            UsageError: the connection was closed, or this is a callback of it.
        """
        if self.is_own:
            work.close()
            raise errors.UsageError(
                "a callback can't wait for the connection that called it",
                remedy="remember what it was told, and act on it outside",
            )
        with self._lock:
            if not self.is_open:
                work.close()
                raise _closed()
            waiting = _Work(self._loop, work)
        try:
            return waiting.result()
        except asyncio.CancelledError as error:
            raise _closed() from error

    def iterate(self, items: AsyncGenerator[Result, None]) -> Iterator[Result]:
        """The items, each awaited when it is asked for."""
        reading = _ItemByItem(items)
        try:
            while (item := self.wait_for(reading.next())) is not _END:
                yield item  # type: ignore[misc]
        finally:
            # A closed loop has closed its generators, and on its own thread one is closed by the loop.
            if self.is_open and not self.is_own:
                self.wait_for(reading.close())

    def close(self) -> None:
        """Ends what still runs on the loop, and the loop; callers that wait get a UsageError."""
        with self._lock:
            if not self.is_open:
                return
            self.is_open = False
        _Work(self._loop, _end_others()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Work(Generic[Result]):
    """Work on another thread's loop, and its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Result]) -> None:
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[Result] | None = None
        self._ended = threading.Event()
        loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._work, name="gpuyard call")
        self._task.add_done_callback(lambda task: self._ended.set())

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def result(self) -> Result:
        """What it returns or raises, once it has ended."""
        try:
            self._ended.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(self._cancel)
            self._ended.wait()
            raise
        assert self._task is not None
        return self._task.result()


_END = object()


class _ItemByItem(Generic[Result]):
    """A generator that is read item by item, and closed whatever it is doing."""

    def __init__(self, items: AsyncGenerator[Result, None]) -> None:
        self._items = items
        self._task: asyncio.Task[Any] | None = None

    async def next(self) -> Result | object:
        """The next item, or `_END`."""
        self._task = asyncio.current_task()
        try:
            return await anext(self._items, _END)
        finally:
            self._task = None

    async def close(self) -> None:
        """An interrupt may come before the caller waits: the item that it asked for is then still awaited."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._items.aclose()


def _closed() -> errors.UsageError:
    return errors.UsageError("this connection was closed", remedy="call `gpuyard.connect()` again")


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
