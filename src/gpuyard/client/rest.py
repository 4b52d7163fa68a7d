"""The Kubernetes API over HTTP, for a yard's unix socket and for any cluster of a kubeconfig."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gpuyard import errors
from gpuyard.client.api import ObjectList, PatchType, Propagation, WatchEvent
from gpuyard.client.http.direct_http import DirectHttp, SocketEndpoint
from gpuyard.client.http.exchange import (
    ANSWER_TIMEOUT_S,
    MAX_ANSWER_BYTES,
    MAX_EVENT_BYTES,
    MAX_REFUSAL_BYTES,
    ClientRequest,
    ClientResponse,
    Http,
    Wire,
)
from gpuyard.kube.objects import Manifest, Resource, with_kind
from gpuyard.kube.status import error_of

if TYPE_CHECKING:
    from gpuyard.client.connection.kubeconfig import Connection

_FIELD_MANAGER = "gpuyard"
#: The server ends a watch after this long and the caller resumes it.
_WATCH_S = 300
#: A connection that died silently is noticed after this long without a word.
_WATCH_TIMEOUT_S = _WATCH_S + ANSWER_TIMEOUT_S
_LOG_TIMEOUT_S = 120.0
#: A server that asks to be left alone for a while is asked again so often; source: client-go's rest.Request.
_MAX_RETRIES = 10


class RestApi:
    """Implements `client.api.KubeApi` over one pooled HTTP client; use as an async context manager.

    Besides ApiError for refusals it raises ConnectionFailed when nobody answers at the address.
    `server` is where it goes, for people; `server_headers` are those of the last answer, by lower-case name.
    """

    def __init__(
        self,
        connection: Connection | None = None,
        *,
        unix_socket: Path | None = None,
        http: Http | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`http` carries requests to the socket, in the place of `DirectHttp`; `clock` tells whether
        credentials that were refused have expired."""
        if (connection is None) == (unix_socket is None):
            raise TypeError("give a connection or a unix socket")
        self._connection = connection
        self._clock = clock
        self.server_headers: Mapping[str, str] = {}
        self._http: Http
        if connection is None:
            assert unix_socket is not None
            self.server = str(unix_socket)
            self._http = http or DirectHttp(SocketEndpoint(unix_socket))
            # On this machine no connection dies silently.
            self._log_timeout_s = None
        else:
            from gpuyard.client.connection.credentials import masked
            from gpuyard.client.http.cluster_http import http_to

            self.server = masked(connection.server)
            self._http = http_to(connection)
            self._log_timeout_s = _LOG_TIMEOUT_S

    async def __aenter__(self) -> RestApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._http.aclose()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest:
        """See `KubeApi.get`."""
        return await self._json("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList:
        """See `KubeApi.list`; reads page after page of 500."""
        items: list[Manifest] = []
        params = _selectors(label_selector, field_selector) | {"limit": "500"}
        while True:
            page = await self._json("GET", resource.path(namespace), params=params)
            found, metadata = page.get("items") or [], page.get("metadata") or {}
            if not (isinstance(metadata, dict) and _are_objects(found)):
                raise errors.ConnectionFailed(f"the API at {self.server} sends what is no list")
            items += [with_kind(resource, item) for item in found]
            place = metadata.get("continue")
            if not place or place == params.get("continue"):
                return ObjectList(items, metadata.get("resourceVersion", ""))
            params["continue"] = place

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """See `KubeApi.watch`."""
        params = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(_WATCH_S),
        }
        async with self._stream(resource.path(namespace), params, _WATCH_TIMEOUT_S) as answer:
            async for line in answer.lines(MAX_EVENT_BYTES):
                yield self._event(line)

    async def create(
        self, resource: Resource, manifest: Mapping[str, Any], namespace: str | None = None
    ) -> Manifest:
        """See `KubeApi.create`."""
        namespace = namespace or manifest["metadata"].get("namespace")
        return await self._json(
            "POST", resource.path(namespace), body=manifest, params={"fieldManager": _FIELD_MANAGER}
        )

    async def update(
        self, resource: Resource, manifest: Mapping[str, Any], *, subresource: str = ""
    ) -> Manifest:
        """See `KubeApi.update`."""
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        return await self._json("PUT", path, body=manifest, params={"fieldManager": _FIELD_MANAGER})

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> Manifest:
        """See `KubeApi.patch`."""
        return await self._json(
            "PATCH",
            resource.path(namespace, name, subresource),
            body=patch,
            content_type=patch_type.value,
            params={"fieldManager": _FIELD_MANAGER},
        )

    async def apply(self, resource: Resource, manifest: Mapping[str, Any]) -> Manifest:
        """Creates or changes an object so that it has what the manifest says (server-side apply).

        Fields that the manifest doesn't name stay as they are, unless an earlier apply of ours set them;
        those that another has set otherwise become ours.
        """
        metadata = manifest["metadata"]
        return await self._json(
            "PATCH",
            resource.path(metadata.get("namespace"), metadata["name"]),
            body=manifest,
            content_type="application/apply-patch+yaml",
            params={"fieldManager": _FIELD_MANAGER, "force": "true"},
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_period_s: int | None = None,
        propagation: Propagation | None = None,
        uid: str | None = None,
    ) -> None:
        """See `KubeApi.delete`."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        if propagation is not None:
            options["propagationPolicy"] = propagation.value
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self._json("DELETE", resource.path(namespace, name), body=options)

    async def bind(self, namespace: str, name: str, node: str, *, uid: str = "") -> None:
        """See `KubeApi.bind`."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace} | ({"uid": uid} if uid else {}),
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._json("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/binding", body=binding)

    async def stream_log(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        follow: bool = False,
        tail_lines: int | None = None,
        previous: bool = False,
        timestamps: bool = False,
        since_time: str = "",
        since_s: int | None = None,
        accept: str = "*/*",
        on_begin: Callable[[Mapping[str, str]], None] = lambda headers: None,
    ) -> AsyncGenerator[bytes, None]:
        """A container's output as it was written, in pieces; ends with the container when following.

        The first piece is empty and says that the stream has begun, perhaps long before the first output.

        When following, a stream that says nothing for minutes ends as well: what lies between may have
        dropped it without a word. `on_begin` is told the answer's headers before the first piece.
        `accept` asks for another media type than plain text.
        """
        params = {"container": container} if container else {}
        if follow:
            params["follow"] = "true"
        if previous:
            params["previous"] = "true"
        if tail_lines is not None:
            params["tailLines"] = str(tail_lines)
        if timestamps:
            params["timestamps"] = "true"
        if since_time:
            params["sinceTime"] = since_time
        if since_s is not None:
            params["sinceSeconds"] = str(since_s)
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            async with self._stream(path, params, self._log_timeout_s, accept) as answer:
                on_begin(answer.headers)
                yield b""
                async for piece in answer.pieces:
                    yield piece
        except errors.Stalled:
            if not follow:
                raise

    @asynccontextmanager
    async def upgraded(
        self, path: str, params: Mapping[str, str | Sequence[str]], headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[Wire, Mapping[str, str]]]:
        """The connection of a request that asks for another protocol, and the headers of the answer.

        Raises:
            ApiError: the server refuses.
            ConnectionFailed: nobody answers, or not with that protocol.
        """
        async with self._answer(ClientRequest("GET", path, params, upgrade=headers)) as answer:
            if answer.wire is None:
                content = await answer.beginning(MAX_REFUSAL_BYTES)
                if answer.status >= 400:
                    raise self._refusal(answer, content, _object(content))
                raise self._not_an_api(answer, content)
            yield answer.wire, answer.headers

    async def get_path(self, path: str) -> Manifest:
        """Reads a path that isn't an object's, such as /version."""
        return await self._json("GET", path)

    async def get_text(self, path: str, *, silence_timeout_s: float, most_bytes: int) -> str:
        """Reads what isn't JSON, such as metrics behind the API server's proxy."""
        async with self._stream(path, {}, silence_timeout_s) as answer:
            return (await answer.read(most_bytes)).decode(errors="replace")

    async def _json(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Manifest:
        request = ClientRequest(method, path, params or {}, _encoded(body), content_type)
        async with self._answer(request) as answer:
            if answer.status >= 400:
                content = await answer.beginning(MAX_REFUSAL_BYTES)
            else:
                content = await answer.read(MAX_ANSWER_BYTES)
        found = _object(content)
        if answer.status >= 400:
            raise self._refusal(answer, content, found)
        if found is None:
            raise self._not_an_api(answer, content)
        return found

    @asynccontextmanager
    async def _answer(self, request: ClientRequest) -> AsyncIterator[ClientResponse]:
        """Sends it, again when the server is too busy and says when to, whatever it is. As a rule it hasn't
        been done then; who creates something copes with finding it there."""
        for left in reversed(range(_MAX_RETRIES + 1)):
            async with self._http.send(request) as answer:
                self.server_headers = answer.headers
                pause_s = answer.pause_s
                if pause_s is None or not left:
                    yield answer
                    return
            await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def _stream(
        self, path: str, params: Mapping[str, str], silence_timeout_s: float | None, accept: str = "*/*"
    ) -> AsyncIterator[ClientResponse]:
        request = ClientRequest("GET", path, params, accept=accept, silence_timeout_s=silence_timeout_s)
        async with self._answer(request) as answer:
            if answer.status >= 400:
                content = await answer.beginning(MAX_REFUSAL_BYTES)
                raise self._refusal(answer, content, _object(content))
            yield answer

    def _not_an_api(self, answer: ClientResponse, content: bytes) -> errors.GpuyardError:
        from gpuyard.client.http.failures import not_an_api

        return not_an_api(self.server, answer, content, self._connection)

    def _refusal(self, answer: ClientResponse, content: bytes, found: Manifest | None) -> errors.GpuyardError:
        """The error that an answer stands for."""
        from gpuyard.client.http.failures import refusal

        return refusal(self.server, answer, content, found, self._connection, self._clock())

    def _event(self, line: bytes) -> WatchEvent:
        """One line of a watch.

        Raises:
            ConnectionFailed: it is no event, but for example the page of a proxy that lost the server.
            ApiError: the server ends the watch with this error.
        """
        try:
            match json.loads(line):
                case {"type": "ERROR", "object": dict(status)}:
                    raise error_of(status, int(status.get("code") or 500))
                case {
                    "type": "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" as kind,
                    "object": dict(manifest),
                }:
                    return WatchEvent(kind, manifest)
        except (ValueError, TypeError, RecursionError) as error:
            raise errors.ConnectionFailed(
                f"the API at {self.server} sends what is no event: {error}"
            ) from error
        raise errors.ConnectionFailed(f"the API at {self.server} sends what is no event: {line[:200]!r}")


def _are_objects(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(item, dict) for item in found)


def _encoded(body: object) -> bytes | None:
    if body is None:
        return None
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise errors.UsageError(
            f"what is to be sent can't be: {error}",
            remedy="values, PATH and other variables of your shell included, have to be text in UTF-8",
        ) from error


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    params = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in params.items() if value}


def _object(content: bytes) -> Manifest | None:
    """The JSON object in an answer, None when there is something else in it."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
