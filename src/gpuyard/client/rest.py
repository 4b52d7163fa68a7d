"""The Kubernetes API over HTTP, for a yard's unix socket and for any cluster of a kubeconfig."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import orjson

from gpuyard import errors
from gpuyard.client.api import ObjectList, PatchType, Propagation, WatchEvent
from gpuyard.client.connection import Connection
from gpuyard.client.failures import (
    ANSWER_S,
    CONNECT_S,
    connection_failed,
    is_page,
    not_an_api,
    readable,
)
from gpuyard.client.origin import masked, why_unauthorized
from gpuyard.kube.objects import Manifest, Resource
from gpuyard.kube.status import error_of

_FIELD_MANAGER = "gpuyard"
#: The server ends a watch after this long and the caller resumes it.
_WATCH_S = 300
_TIMEOUT = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
#: A connection that died silently is noticed after this long without a word; on this machine none does.
_WATCH_TIMEOUT = httpx.Timeout(_WATCH_S + ANSWER_S, connect=CONNECT_S)
_LOG_TIMEOUT = httpx.Timeout(120.0, connect=CONNECT_S)
_SOCKET_LOG_TIMEOUT = httpx.Timeout(None, connect=CONNECT_S)
#: A server that asks to be left alone for a while is asked again so often, and not after a longer pause.
_ATTEMPTS = 5
_LONGEST_PAUSE_S = 10.0


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
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`clock` tells whether credentials that were refused have expired."""
        if (connection is None) == (unix_socket is None):
            raise TypeError("give a connection or a unix socket")
        self.server = str(unix_socket) if connection is None else masked(connection.server)
        self._connection = connection
        self._clock = clock
        name = connection.tls_server_name if connection else None
        self._extensions = {"sni_hostname": name} if name else {}
        self.server_headers: Mapping[str, str] = {}
        self._log_timeout = _SOCKET_LOG_TIMEOUT if unix_socket else _LOG_TIMEOUT
        if unix_socket is not None:
            transport = httpx.AsyncHTTPTransport(uds=str(unix_socket), verify=False)
            self._http = httpx.AsyncClient(
                transport=transport, base_url="http://localhost", timeout=_TIMEOUT, trust_env=False
            )
        elif connection is not None:
            try:
                self._http = httpx.AsyncClient(
                    base_url=connection.server,
                    verify=connection.tls if connection.tls is not None else True,
                    headers=connection.headers,
                    timeout=_TIMEOUT,
                    proxy=connection.proxy,
                )
            except (httpx.InvalidURL, ValueError) as error:
                # A header's text may be a token: not in the message.
                reason = "the token isn't ASCII" if isinstance(error, UnicodeError) else str(error)
                raise errors.UsageError(
                    f"can't connect to {self.server!r}: {reason}",
                    remedy="mend `server`, `proxy-url` or the token in the kubeconfig",
                ) from error

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
            items += [
                item | {"apiVersion": resource.api_version, "kind": resource.kind}
                for item in page.get("items") or ()
            ]
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return ObjectList(items, metadata.get("resourceVersion", ""))
            params["continue"] = metadata["continue"]

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
        async with self._stream(resource.path(namespace), params, _WATCH_TIMEOUT) as response:
            async for line in response.aiter_lines():
                if not line:
                    continue
                event = self._event(line)
                if event["type"] == "ERROR":
                    raise error_of(event["object"], int(event["object"].get("code") or 500))
                yield WatchEvent(event["type"], event["object"])

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
        accept: str = "",
        on_begin: Callable[[Mapping[str, str]], None] = lambda headers: None,
    ) -> AsyncGenerator[bytes, None]:
        """A container's output as it was written, in pieces; ends with the container when following.

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
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            async with self._stream(path, params, self._log_timeout, accept) as response:
                on_begin(response.headers)
                async for piece in response.aiter_bytes():
                    yield piece
        except errors.ConnectionFailed as error:
            if not (follow and isinstance(error.__cause__, httpx.ReadTimeout)):
                raise

    async def get_path(self, path: str) -> Manifest:
        """Reads a path that isn't an object's, such as /version."""
        return await self._json("GET", path)

    async def _json(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Manifest:
        try:
            content = orjson.dumps(body) if body is not None else None
        except TypeError as error:
            raise errors.UsageError(
                f"what is to be sent can't be: {error}",
                remedy="values, PATH and other variables of your shell included, have to be text in UTF-8",
            ) from error
        headers = {"Content-Type": content_type} if content is not None else {}
        try:
            request = self._http.build_request(
                method, path, content=content, headers=headers, params=params, extensions=self._extensions
            )
        except httpx.InvalidURL as error:
            raise _unfit_path(path, error) from error
        response = await self._send(request)
        answer = _object(response)
        if response.status_code >= 400:
            raise self._refusal(response, answer)
        if answer is None:
            raise not_an_api(self.server, response, self._connection)
        return answer

    async def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """Sends it, again when the server is too busy and says when to: it hasn't done it then."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                response = await self._http.send(request, stream=stream)
            except httpx.HTTPError as error:
                raise connection_failed(self.server, error, self._connection) from error
            self.server_headers = response.headers
            pause_s = _pause(response)
            if pause_s is None or not left:
                break
            await response.aclose()
            await asyncio.sleep(pause_s)
        return response

    @asynccontextmanager
    async def _stream(
        self, path: str, params: Mapping[str, str], timeout: httpx.Timeout, accept: str = ""
    ) -> AsyncIterator[httpx.Response]:
        headers = {"Accept": accept} if accept else {}
        try:
            request = self._http.build_request(
                "GET",
                path,
                params=params,
                headers=headers,
                timeout=timeout,
                extensions=self._extensions,
            )
        except httpx.InvalidURL as error:
            raise _unfit_path(path, error) from error
        response = await self._send(request, stream=True)
        try:
            if response.status_code >= 400:
                await response.aread()
                raise self._refusal(response, _object(response))
            yield response
        except httpx.HTTPError as error:
            raise connection_failed(self.server, error, self._connection) from error
        finally:
            await response.aclose()

    def _refusal(self, response: httpx.Response, answer: Manifest | None) -> errors.GpuyardError:
        """The error that an answer stands for."""
        code = response.status_code
        if answer is None and is_page(response) and code in (404, 405):
            return not_an_api(self.server, response, self._connection)
        text = f"the API at {self.server} answered {code}: {readable(response.content)}".rstrip(": ")
        error = error_of(answer if answer is not None else {"message": text}, code)
        origin = self._connection.origin if self._connection else None
        if code == 401 and origin:
            cause, remedy = why_unauthorized(origin, self._http.headers, self._clock())
            return errors.Unauthorized(f"the API at {self.server} says Unauthorized: {cause}", remedy=remedy)
        if code == 400 and "HTTP request to an HTTPS server" in error.message:
            return errors.ConnectionFailed(
                f"the API at {self.server} speaks TLS only",
                remedy="write https:// in `server`" + (f" of {origin.cluster_text}" if origin else ""),
            )
        if (pause_s := response.headers.get("retry-after", "")).isdecimal():
            error.remedy = f"it is too busy, and asks to try again in {pause_s} s"
        elif code in (502, 503, 504) and answer is None:
            error.remedy = "it may be starting, or what is before it has lost it: try again in a while"
        return error

    def _event(self, line: str) -> Any:
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError as error:
            # Such as the page of a proxy that lost the server.
            raise errors.ConnectionFailed(
                f"the API at {self.server} sends what is no event: {error}"
            ) from error


def _unfit_path(path: str, error: httpx.InvalidURL) -> errors.UsageError:
    return errors.UsageError(
        f"{path!r} can't be asked for: {error}", remedy="mend the name in it; names have no odd characters"
    )


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    params = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in params.items() if value}


def _object(response: httpx.Response) -> Manifest | None:
    """The JSON object in an answer, None when there is something else in it."""
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _pause(response: httpx.Response) -> float | None:
    """For how long a busy server asks to be left alone, in seconds; None when it isn't busy or doesn't say.

    Source: client-go's rest.WithRetry, which repeats any request that was answered with 429 or 5xx and
    Retry-After.
    """
    after = response.headers.get("retry-after", "")
    if (response.status_code == 429 or response.status_code >= 500) and after.isdecimal():
        return float(after) if float(after) <= _LONGEST_PAUSE_S else None
    return None
