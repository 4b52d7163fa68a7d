"""Waiting for what somebody else does: `until` in plain tests, `until_async` where a loop runs.

Both look again and again and give what they saw once it is right. Otherwise they fail, with what they waited
for and what they saw last. The limits only end a test that hangs: they don't say how long a thing may take.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
#: One exception, or several, that mean "not yet".
NotYet = type[Exception] | tuple[type[Exception], ...]


def until(
    look: Callable[[], T],
    what: str,
    holds: Callable[[T], object] = bool,
    *,
    not_yet: NotYet = (),
    timeout_s: float = 60.0,
    pause_s: float = 0.03,
) -> T:
    """Looks until `holds` of what it sees, and gives that.

    Args:
        look: what is looked at.
        what: the sentence that says what is waited for.
        holds: whether it is as wanted.
        not_yet: exceptions of `look` that mean that it has to look again.
        timeout_s: when to give up.
        pause_s: between two looks.

    Raises:
        AssertionError: It wasn't so in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen: object
        try:
            seen = found = look()
            if holds(found):
                return found
        except not_yet as error:
            seen = error
        assert time.monotonic() < deadline, _failure(what, timeout_s, seen)
        time.sleep(pause_s)


@overload
async def until_async(
    look: Callable[[], Awaitable[T]],
    what: str,
    holds: Callable[[T], object] = bool,
    *,
    not_yet: NotYet = (),
    timeout_s: float = 60.0,
) -> T: ...


@overload
async def until_async(
    look: Callable[[], T],
    what: str,
    holds: Callable[[T], object] = bool,
    *,
    not_yet: NotYet = (),
    timeout_s: float = 60.0,
) -> T: ...


async def until_async(
    look: Callable[[], Any],
    what: str,
    holds: Callable[[Any], object] = bool,
    *,
    not_yet: NotYet = (),
    timeout_s: float = 60.0,
) -> Any:
    """The same where a loop runs; `look` may be a coroutine function.

    A `look` that itself never answers is ended as well.

    Raises:
        AssertionError: It wasn't so in time.
    """
    seen: object = "nothing"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    found = look()
                    seen = found = await found if inspect.isawaitable(found) else found
                    if holds(found):
                        return found
                except not_yet as error:
                    seen = error
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(_failure(what, timeout_s, seen)) from None


def _failure(what: str, timeout_s: float, seen: object) -> str:
    return f"{what}: not so within {timeout_s:.0f} s; seen last: {seen!r}"
