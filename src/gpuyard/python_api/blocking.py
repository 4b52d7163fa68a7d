"""The same for scripts and notebooks: each call waits for its answer. The work is done by `asynchronous`.

Its loop runs on a thread of its own, since in a notebook the caller's thread has a loop that runs already.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from gpuyard import errors
from gpuyard.python_api.asynchronous import AsyncRun, AsyncYard, log_notice
from gpuyard.runs.explaining import Answer
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
        """Ends the connection; runs go on. Once is enough, and twice does no harm."""
        if self._loop.is_open:
            self._loop.wait_for(self._yard.__aexit__(None, None, None))
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
        self, *, follow: bool = False, tail_lines: int | None = None, timestamps: bool = False
    ) -> Iterator[str]:
        """See `AsyncRun.logs`."""
        return self._loop.iterate(self._run.logs(follow=follow, tail_lines=tail_lines, timestamps=timestamps))

    def wait(self) -> RunState:
        """See `AsyncRun.wait`."""
        return self._loop.wait_for(self._run.wait())

    def explain(self) -> Answer:
        """See `AsyncRun.explain`."""
        return self._loop.wait_for(self._run.explain())

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
    """An event loop on a thread of its own, for callers that wait."""

    def __init__(self) -> None:
        """Starts the thread, which doesn't hold the program up when that ends without `close`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gpuyard", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it takes work."""
        return not self._loop.is_closed()

    def wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What the work returns or raises. Ctrl-C, or whatever else ends the waiting, cancels it.

        Raises:
            UsageError: the connection was closed.
        """
        if not self.is_open:
            work.close()
            raise errors.UsageError("this connection was closed", remedy="call `gpuyard.connect()` again")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[Result, None]) -> Iterator[Result]:
        """The items, each awaited when it is asked for."""
        ended = object()
        try:
            while (item := self.wait_for(_next(items, ended))) is not ended:
                yield item  # type: ignore[misc]
        finally:
            self.wait_for(items.aclose())

    def close(self) -> None:
        """Ends what still runs on the loop, and the loop."""
        self.wait_for(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(items: AsyncGenerator[Result, None], ended: object) -> Result | object:
    return await anext(items, ended)


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
