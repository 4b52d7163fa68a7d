from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gpuyard import errors
from gpuyard.runs.interactive.live_pod import check_right


@asynccontextmanager
async def refusing(error: errors.GpuyardError) -> AsyncIterator[None]:
    raise error
    yield


@pytest.mark.parametrize(
    ("error", "is_said"),
    [
        (errors.NotFound("no such pod"), False),
        (errors.BadRequest("no such container"), False),
        (errors.Forbidden("you may not"), True),
        (errors.ConnectionFailed("nobody there"), True),
    ],
)
async def test_only_what_a_real_pod_would_meet_is_said(error: errors.GpuyardError, is_said: bool) -> None:
    found: errors.GpuyardError | None = None
    try:
        await check_right(refusing(error))
    except errors.GpuyardError as raised:
        found = raised
    assert found is (error if is_said else None)
