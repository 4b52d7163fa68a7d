"""When a server of files is asked again: one rule for wheels and system packages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gpuyard import errors

_ATTEMPTS = 4
#: Of a client's faults those that pass: a timeout, and too many requests.
_PASSES = (408, 429)

_Found = TypeVar("_Found")


async def with_attempts(
    work: Callable[[], Awaitable[_Found]],
    pause_s: float,
    given_up: Callable[[Exception, int], errors.GpuyardError],
) -> _Found:
    """Does it again where that may help.

    Args:
        work: one attempt, from the beginning; raises what httpx raises.
        pause_s: before the second attempt; it doubles with each further one.
        given_up: makes an error of what the last attempt raised and of the answer's status, 0 without one.
    """
    import httpx  # Few builds fetch anything.

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await work()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0
            lasts = isinstance(error, httpx.InvalidURL) or (400 <= status < 500 and status not in _PASSES)
            if attempt == _ATTEMPTS or lasts:
                raise given_up(error, status) from error
        await asyncio.sleep(pause_s * 2 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")
