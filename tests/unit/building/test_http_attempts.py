from __future__ import annotations

import httpx
import pytest

from gpuyard import errors
from gpuyard.building.http_attempts import with_attempts

REQUEST = httpx.Request("GET", "http://a.invalid/x")


def answered(status: int) -> Exception:
    return httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(status, request=REQUEST))


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        (answered(500), 4),
        (answered(429), 4),
        (answered(404), 1),
        (httpx.ConnectError("nobody there"), 4),
        (httpx.InvalidURL("no host"), 1),
    ],
)
@pytest.mark.parametrize("succeeds_at", [4, 5])
async def test_what_may_pass_is_tried_four_times(fault: Exception, attempts: int, succeeds_at: int) -> None:
    tried = 0

    async def work() -> str:
        nonlocal tried
        tried += 1
        if tried == succeeds_at:
            return "there"
        raise fault

    def given_up(error: Exception, status: int) -> errors.BuildError:
        return errors.BuildError(f"{status} {error is fault}")

    if attempts >= succeeds_at:
        assert await with_attempts(work, 0, given_up) == "there"
        return
    status = fault.response.status_code if isinstance(fault, httpx.HTTPStatusError) else 0
    with pytest.raises(errors.BuildError, match=f"{status} True"):
        await with_attempts(work, 0, given_up)
    assert tried == attempts
