"""What a log request asks for."""

from __future__ import annotations

from typing import Any

from gpuyard.kube.timestamps import LONGEST_S
from gpuyard.local.http.request import Request, parse_request
from gpuyard.local.http.resources import parse_log_options


def request(query: str) -> Request:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody reads the body")

    return parse_request(
        {"method": "GET", "path": "/", "query_string": query.encode(), "headers": []}, receive
    )


def test_the_last_seconds_are_at_most_a_hundred_years() -> None:
    assert parse_log_options(request("sinceSeconds=30")).since_s == 30
    assert parse_log_options(request("sinceSeconds=999999999999999")).since_s == LONGEST_S
    assert parse_log_options(request("")).since_s is None
