"""What handlers answer, and how objects are written into it: as they are, as a Table, or metadata only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.kube.status import status_of
from gpuyard.local.http.negotiation import Form
from gpuyard.local.http.request import Scope
from gpuyard.local.http.tables import metadata_only, table
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.metadata import details

JSON = b"application/json"


@dataclass(frozen=True)
class Response:
    """A whole answer; `body` is a finished document of `media_type`."""

    status: int
    body: bytes
    media_type: bytes = JSON
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stream:
    """An answer that goes on until the generator ends or the client leaves."""

    pieces: AsyncGenerator[bytes, None]
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Upgrade:
    """An answer in another protocol: `run` has the connection (`scope["upgrade"]`) until it ends."""

    run: Callable[[Scope], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Page:
    """One answer to a list; `remaining` is the number of objects behind it, None when it isn't known."""

    values: Sequence[bytes]
    revision: int
    continuation: str = ""
    remaining: int | None = None


def failure(error: errors.ApiError) -> Response:
    """The Status of an error."""
    return Response(error.code, orjson.dumps(status_of(error)))


def success(spec: KindSpec, name: str, uid: str, status: int = 200) -> Response:
    """The Status of a write that left no object to show."""
    named = {**details(spec, name), "uid": uid} if uid else details(spec, name)
    body: Manifest = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": named,
    }
    if status == 201:
        body["code"] = 201
        del body["details"]
    return Response(status, orjson.dumps(body))


def object_body(spec: KindSpec, value: bytes, form: Form, include: str, now: datetime) -> bytes:
    """One object in the form asked for."""
    if form is Form.PLAIN:
        return value
    return event_object(spec, value, form, include, now, describe=True)


def event_object(
    spec: KindSpec, value: bytes, form: Form, include: str, now: datetime, *, describe: bool
) -> bytes:
    """One object as a Table (which describes its columns or not) or as metadata."""
    manifest = orjson.loads(value)
    if form is Form.METADATA:
        return orjson.dumps(metadata_only(manifest))
    shown = table(spec, [manifest], now, include)
    shown["metadata"] = {"resourceVersion": manifest["metadata"].get("resourceVersion", "")}
    if not describe:
        shown["columnDefinitions"] = None
    return orjson.dumps(shown)


def list_body(spec: KindSpec, page: Page, form: Form, include: str, now: datetime) -> bytes:
    """A list in the form asked for."""
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
    if page.continuation:
        metadata["continue"] = page.continuation
        if page.remaining is not None:
            metadata["remainingItemCount"] = page.remaining
    if form is Form.TABLE:
        shown = table(spec, [orjson.loads(value) for value in page.values], now, include)
        return orjson.dumps({**shown, "metadata": metadata})
    if form is Form.METADATA:
        items: Iterable[bytes] = (orjson.dumps(metadata_only(orjson.loads(value))) for value in page.values)
        kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
    else:
        items = page.values
        kind, api_version = f"{spec.resource.kind}List", spec.resource.api_version
    head = orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    return b'%s,"items":[%s]}' % (head[:-1], b",".join(items))
