"""One HTTP request, parsed once: path, query, headers and body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from gpuyard import errors
from gpuyard.client.api import PatchType
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.http.negotiation import Accepted, parse_accept
from gpuyard.local.objects.kinds.kind import KindSpec, Subresource
from gpuyard.local.objects.kinds.registry import Kinds
from gpuyard.local.objects.parameters import number_parameter

Message = MutableMapping[str, Any]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

#: What kube-apiserver takes too (`MaxRequestBodyBytes`).
MAX_BODY_BYTES = 3 * 1024 * 1024
BODY_TIMEOUT_S = 60.0

_PROTOBUF = "application/vnd.kubernetes.protobuf"
_BODY_TYPES = ("application/json", _PROTOBUF)
_TRUE = ("true", "1", "t", "T", "True", "TRUE")
_PATCH_TYPES = {kind.value: kind for kind in PatchType}


@dataclass(frozen=True)
class Request:
    """What handlers see of a request. `headers` has lower-case names; of repeated ones the last."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    receive: Receive
    raw_query: bytes = b""

    def words(self, name: str) -> list[str]:
        """The values of a query parameter that may be repeated, in order."""
        raw = self.raw_query.decode("latin-1")
        pairs = parse_qsl(raw, keep_blank_values=True, errors="surrogateescape")
        return [value for key, value in pairs if key == name]

    def flag(self, name: str) -> bool:
        """A boolean query parameter."""
        return self.query.get(name, "") in _TRUE

    def number(self, name: str) -> int | None:
        """A whole-number query parameter that isn't negative; None when absent."""
        return number_parameter(self.query, name)

    def accepted(self) -> tuple[Accepted, ...]:
        """The entries of the Accept header, best first."""
        return parse_accept(self.headers.get(b"accept", b"*/*").decode("latin-1"))

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            TooLarge: it is over 3 MiB.
        """
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            raise _too_large()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._received()
        except TimeoutError:
            raise errors.BadRequest(
                f"the body of the request didn't come within {BODY_TIMEOUT_S:.0f} s"
            ) from None

    async def _received(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > MAX_BODY_BYTES:
                raise _too_large()
            if not message.get("more_body"):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def json(self, *, optional: bool = False) -> Any:
        """The body as JSON would have it; None for an empty one when it is optional.

        Raises:
            UnsupportedMediaType: it says that it is something else.
            BadRequest: it isn't JSON, or isn't the protobuf that it says it is.
        """
        body = await self.body()
        if optional and not body:
            return None
        _require_media_type(self.media_type, _BODY_TYPES)
        if self.media_type == _PROTOBUF:
            # Its library and its descriptors are loaded for those who send it.
            from gpuyard.local.http.protobuf import read_protobuf

            return read_protobuf(body)
        return _parsed(body)

    async def patch(self) -> tuple[Any, PatchType]:
        """The body as a patch and how to read it."""
        _require_media_type(self.media_type, tuple(_PATCH_TYPES))
        return _parsed(await self.body()), _PATCH_TYPES[self.media_type]

    @property
    def media_type(self) -> str:
        """The body's media type without parameters; JSON when it isn't said."""
        text = self.headers.get(b"content-type", b"application/json").decode("latin-1")
        return text.partition(";")[0].strip().lower()


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True)
class ResourcePath:
    """What a resource path names: a collection (empty `name`), an object or its subresource.

    `namespace` is None for all namespaces and for cluster-scoped kinds.
    """

    spec: KindSpec
    namespace: str | None
    name: str = ""
    subresource: Subresource | None = None

    @property
    def key(self) -> ObjectKey:
        """The object's key."""
        return ObjectKey(self.namespace or "", self.name)


def parse_request(scope: Scope, receive: Receive) -> Request:
    """Reads an ASGI scope."""
    raw = scope["query_string"]
    query = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}
    return Request(scope["method"], scope["path"], query, dict(scope["headers"]), receive, raw)


def parse_target(path: str, kinds: Kinds) -> ResourcePath | None:
    """Reads `/api/v1/…` and `/apis/GROUP/VERSION/…`; None when nothing is served there."""
    parts = path.split("/")[1:]
    if parts[-1:] == [""]:
        parts.pop()
    if parts[:1] == ["api"]:
        group, rest = "", parts[1:]
    elif parts[:1] == ["apis"] and len(parts) > 1:
        group, rest = parts[1], parts[2:]
    else:
        return None
    if len(rest) < 2 or "" in rest:
        return None
    version, rest = rest[0], rest[1:]
    namespace: str | None = None
    spec = kinds.find(group, version, rest[0])
    # What follows a namespace is one of its own subresources, or a collection in it.
    own = spec is not None and len(rest) == 3 and spec.subresource(rest[2]) is not None
    if rest[0] == "namespaces" and len(rest) > 2 and not own:
        namespace, rest = rest[1], rest[2:]
        spec = kinds.find(group, version, rest[0])
    if spec is None or len(rest) > 3 or (namespace is not None and not spec.resource.namespaced):
        return None
    if len(rest) > 1 and (spec.review is not None or (spec.resource.namespaced and namespace is None)):
        return None
    if len(rest) < 3:
        return ResourcePath(spec, namespace, rest[1] if len(rest) == 2 else "")
    part = spec.subresource(rest[2])
    return None if part is None else ResourcePath(spec, namespace, rest[1], part)


def _require_media_type(given: str, served: tuple[str, ...]) -> None:
    if given not in served:
        raise errors.UnsupportedMediaType(
            f"the body of the request was in an unknown format ({given}) - accepted media types include: "
            + ", ".join(served)
        )


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.BadRequest(f"the body of the request is not valid JSON: {error}") from error


def _too_large() -> errors.TooLarge:
    return errors.TooLarge(f"Request entity too large: limit is {MAX_BODY_BYTES}")
