"""A watch as HTTP sends it: one JSON event per line."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Callable
from datetime import datetime

import orjson

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.kube.status import status_of
from gpuyard.local.http.answers import Stream, event_object
from gpuyard.local.http.negotiation import Form
from gpuyard.local.http.request import Request, ResourcePath
from gpuyard.local.objects.kinds.fields import forbidden, invalid_options
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.parameters import parse_version
from gpuyard.local.objects.selection import parse_selection
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.objects.view import View

#: Kubernetes' own: bookmarks about once a minute, and a watch without a timeout ends after 30 to 60 minutes.
BOOKMARK_S = 60.0
_SHORTEST_S = 1800.0

_FRAME = b'{"type":"%s","object":%s}\n'


class Watches:
    """Opens watches; `bookmark_s` is the time between two bookmarks."""

    def __init__(self, api: ObjectApi, *, bookmark_s: float = BOOKMARK_S) -> None:
        self._api = api
        self._bookmark_s = bookmark_s

    def open(self, target: ResourcePath, request: Request, form: Form) -> Stream:
        """Starts where the request says.

        Raises:
            BadRequest, Invalid: a query parameter is wrong or asks for something that isn't served.
        """
        query = request.query
        _refuse_unserved(request)
        fields = query.get("fieldSelector", "")
        if target.name:
            fields = f"{fields},metadata.name={target.name}"
        selection = parse_selection(target.spec, query.get("labelSelector", ""), fields)
        version = query.get("resourceVersion", "")
        after = parse_version(version) if version else 0
        existing: list[bytes] = []
        if after == 0:
            # Without a version, and for "0", a watch begins with what is there.
            items, after = self._api.list_raw(target.spec, target.namespace, selection)
            existing = [item.value for item in items]
        writer = _FrameWriter(target.spec, form, query.get("includeObject", ""), self._api.clock)
        timeout_s = request.number("timeoutSeconds") or _SHORTEST_S * (1 + random.random())  # noqa: S311
        bookmark_s = self._bookmark_s if request.flag("allowWatchBookmarks") else math.inf
        try:
            view = self._api.view(target.spec, target.namespace, after, selection)
        except errors.Gone as error:
            return Stream(_gone(error))
        return Stream(_frames(writer, existing, view, timeout_s, bookmark_s))


def _refuse_unserved(request: Request) -> None:
    if "sendInitialEvents" in request.query:
        detail = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        raise invalid_options("ListOptions", forbidden("sendInitialEvents", detail))
    if request.query.get("resourceVersionMatch"):
        detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise invalid_options("ListOptions", forbidden("resourceVersionMatch", detail))


class _FrameWriter:
    """Encodes events in one form. Of Tables only the first describes its columns."""

    def __init__(self, spec: KindSpec, form: Form, include: str, clock: Callable[[], datetime]) -> None:
        self._spec = spec
        self._form = form
        self._include = include
        self._clock = clock
        self._described = False

    def event(self, type_: str, value: bytes) -> bytes:
        if self._form is not Form.PLAIN:
            value = event_object(
                self._spec, value, self._form, self._include, self._clock(), describe=not self._described
            )
            self._described = True
        return _FRAME % (type_.encode(), value)

    def bookmark(self, revision: int) -> bytes:
        resource = self._spec.resource
        bare: Manifest = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(revision), "creationTimestamp": None},
        }
        if self._form is Form.TABLE:
            bare = {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": str(revision)},
                "columnDefinitions": None,
                "rows": [],
            }
        return _FRAME % (b"BOOKMARK", orjson.dumps(bare))


async def _frames(
    writer: _FrameWriter, existing: list[bytes], view: View, timeout_s: float, bookmark_s: float
) -> AsyncGenerator[bytes, None]:
    for value in existing:
        yield writer.event("ADDED", value)
    now = asyncio.get_running_loop().time
    end, next_bookmark = now() + timeout_s, now() + bookmark_s
    while now() < end:
        try:
            async with asyncio.timeout_at(min(end, next_bookmark)):
                seen = await anext(view)
        except TimeoutError:
            if bookmark_s < math.inf:
                yield writer.bookmark(view.revision)
                next_bookmark = now() + bookmark_s
            continue
        except StopAsyncIteration:
            return
        except errors.Gone as error:
            yield _error_frame(error)
            return
        yield writer.event(seen.type, seen.value)


async def _gone(error: errors.Gone) -> AsyncGenerator[bytes, None]:
    yield _error_frame(error)


def _error_frame(error: errors.ApiError) -> bytes:
    return _FRAME % (b"ERROR", orjson.dumps(status_of(error)))
