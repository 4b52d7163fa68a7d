"""What a URL means."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard import errors
from gpuyard.local.http.request import Request, parse_request, parse_target
from gpuyard.local.objects.kinds.served import yard_kinds


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/pods", ("pods", None, "", "")),
        ("/api/v1/namespaces/a/pods", ("pods", "a", "", "")),
        ("/api/v1/namespaces/a/pods/", ("pods", "a", "", "")),
        ("/api/v1/namespaces/a/pods/p", ("pods", "a", "p", "")),
        ("/api/v1/namespaces/a/pods/p/log", ("pods", "a", "p", "log")),
        ("/apis/batch/v1/namespaces/a/jobs/j/status", ("jobs.batch", "a", "j", "status")),
        ("/api/v1/namespaces", ("namespaces", None, "", "")),
        ("/api/v1/namespaces/a", ("namespaces", None, "a", "")),
        ("/api/v1/namespaces/a/status", ("namespaces", None, "a", "status")),
        ("/api/v1/namespaces/a/finalize", ("namespaces", None, "a", "finalize")),
        ("/api/v1/nodes/n/status", ("nodes", None, "n", "status")),
        ("/apis/scheduling.k8s.io/v1/priorityclasses", ("priorityclasses.scheduling.k8s.io", None, "", "")),
    ],
)
def test_paths_of_resources(path: str, expected: tuple[str, str | None, str, str]) -> None:
    target = parse_target(path, yard_kinds())
    assert target is not None
    part = target.subresource.name if target.subresource else ""
    assert (target.spec.resource.qualified, target.namespace, target.name, part) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/", "", "/api", "/api/v1", "/apis", "/apis/batch", "/apis/batch/v1", "/api/v2/pods", "/apis/v1/pods",
        "/api/v1/pods/p", "/api/v1/nodes/n/log", "/api/v1/namespaces/a/nodes", "/api/v1/namespaces/a/nodes/n",
        "/api/v1/namespaces/a/pods/p/log/x", "/api/v1/namespaces//pods", "/api/v1/namespaces/a/deployments",
        "/apis/batch/v1/namespaces/a/pods", "//api/v1/pods", "/metrics",
    ],
)  # fmt: skip
def test_paths_of_nothing(path: str) -> None:
    assert parse_target(path, yard_kinds()) is None


def request(query: str = "", method: str = "GET") -> Request:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody reads the body")

    scope = {"method": method, "path": "/", "query_string": query.encode(), "headers": []}
    return parse_request(scope, receive)


def test_query_parameters() -> None:
    made = request("watch=1&limit=500&labelSelector=a%3Db%2Cc&empty=")
    assert made.flag("watch")
    assert not made.flag("follow")
    assert made.number("limit") == 500
    assert made.number("empty") is None
    assert made.query["labelSelector"] == "a=b,c"
    with pytest.raises(errors.BadRequest, match="query parameter limit: '-1' is not a whole number"):
        request("limit=-1").number("limit")
