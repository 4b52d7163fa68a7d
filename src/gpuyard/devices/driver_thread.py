"""The one thread that calls into the driver, since a driver can hang in any call.

A call that doesn't come back keeps this thread and no other: whoever wants the next one is told at once, and
the calls that have to come after it, such as closing, are made once it has come back.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from gpuyard import errors

#: The slowest answer of a driver that works, with all of a node's GPUs waking up.
CALL_LIMIT_S = 20.0
#: What is left to be done at an end may hold that up for so long.
_FINISH_LIMIT_S = 5.0
_T = TypeVar("_T")


class DriverThread:
    """Makes calls one after another, in the order in which they were asked for.

    It belongs to one event loop. The thread starts with the first call, and doesn't keep the process alive.

    Args:
        limit_s: a call that takes longer hangs.
        driver: its name.
        tool: the program that asks it, too.
        name: of the thread.
    """

    def __init__(
        self,
        limit_s: float = CALL_LIMIT_S,
        *,
        driver: str = "NVIDIA",
        tool: str = "nvidia-smi",
        name: str = "gpu driver",
    ) -> None:
        self._limit_s = limit_s
        self._driver = driver
        self._tool = tool
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[_CallResult]] | None]
        self._calls = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: asyncio.Future[_CallResult] | None = None
        self._hangs_in = ""

    async def call(self, function: Callable[..., _T], *args: Any, limit_s: float | None = None) -> _T:
        """What the function returns or raises.

        Args:
            function, args: what is called.
            limit_s: another limit for this call.

        When cancelled it doesn't wait for the call; `finish` does.

        Raises:
            DriverHangs: it, or a call before it, hasn't come back in time.
        """
        if self._hangs_in and self._last is not None and not self._last.done():
            raise self._hangs()
        self._hangs_in = ""
        outcome = self._put(lambda: function(*args))
        await asyncio.wait([outcome], timeout=limit_s or self._limit_s)
        if not outcome.done():
            self._hangs_in = _name(function)
            raise self._hangs()
        answer: _T = outcome.result().get()
        return answer

    async def finish(self, function: Callable[..., object], *args: Any) -> None:
        """Makes a call that has to be made in any case; doesn't wait for it where the driver hangs."""
        outcome = self._put(lambda: function(*args))
        if not self._hangs_in:
            await asyncio.wait([outcome], timeout=min(_FINISH_LIMIT_S, self._limit_s))
            if not outcome.done():
                self._hangs_in = _name(function)

    async def idle(self) -> None:
        """Waits, without a limit, until all calls have come back."""
        if self._last is not None:
            await asyncio.wait([self._last])
        self._hangs_in = ""

    def end(self) -> None:
        """Ends the thread once the calls so far have come back."""
        self._calls.put(None)
        self._thread = None

    def _hangs(self) -> errors.DriverHangs:
        return errors.DriverHangs(
            f"the {self._driver} driver doesn't answer (in {self._hangs_in})",
            remedy=f"see whether {self._tool} answers, and the kernel log; such a driver needs a reboot",
        )

    def _put(self, call: Callable[[], Any]) -> asyncio.Future[_CallResult]:
        self._last = asyncio.get_running_loop().create_future()
        self._calls.put((call, self._last))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return self._last

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            call, outcome = asked
            try:
                found = _CallResult(answer=call())
            except Exception as error:  # noqa: BLE001 - goes to whoever asked
                found = _CallResult(error=error)
            # Without a loop nobody waits any more.
            with suppress(RuntimeError):
                outcome.get_loop().call_soon_threadsafe(outcome.set_result, found)


class _CallResult:
    """Of one call. An error is kept as a value: a future would complain of one that nobody asks for."""

    def __init__(self, answer: Any = None, error: Exception | None = None) -> None:
        self._answer = answer
        self._error = error

    def get(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._answer


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", "a call").strip("_")
