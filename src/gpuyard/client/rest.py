"""The Kubernetes API over HTTP, for a yard's unix socket and for any cluster of a kubeconfig."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import orjson

from gpuyard import errors
from gpuyard.client.api import ObjectList, PatchType, Propagation, WatchEvent
from gpuyard.client.connection import Connection
from gpuyard.kube.objects import Manifest, Resource
from gpuyard.kube.status import error_of

_FIELD_MANAGER = "gpuyard"
_LOG_OFFSET = "gpuyard-log-offset"
#: The server ends a watch after this long and the caller resumes it: a connection that died silently
#: is noticed within that time plus the read timeout.
_WATCH_S = 300
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_STREAM_TIMEOUT = httpx.Timeout(None, connect=5.0)


class RestApi:
    """Implements `client.api.KubeApi` over one pooled HTTP client; use as an async context manager.

    Besides ApiError for refusals it raises ConnectionFailed when nobody answers at the address.
    `server` is where it goes, for people; `server_headers` are those of the last answer, by lower-case name.
    """

    def __init__(self, connection: Connection | None = None, *, unix_socket: Path | None = None) -> None:
        if (connection is None) == (unix_socket is None):
            raise TypeError("give a connection or a unix socket")
        self.server = str(unix_socket) if unix_socket else str(connection and connection.server)
        self.server_headers: Mapping[str, str] = {}
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
                    f"can't connect to {connection.server!r}: {reason}",
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
        async with self._stream(resource.path(namespace), params) as response:
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
        on_offset: Callable[[int], None] = lambda offset: None,
    ) -> AsyncIterator[bytes]:
        """A container's output as it was written, in pieces; ends with the container when following.

        `on_offset` is told, before the first piece, where in the log that piece begins; only a yard says so.
        """
        params = {"container": container} if container else {}
        if follow:
            params["follow"] = "true"
        if previous:
            params["previous"] = "true"
        if tail_lines is not None:
            params["tailLines"] = str(tail_lines)
        async with self._stream(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", params) as response:
            if (offset := response.headers.get(_LOG_OFFSET, "")).isdecimal():
                on_offset(int(offset))
            async for piece in response.aiter_bytes():
                yield piece

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
            response = await self._http.request(method, path, content=content, headers=headers, params=params)
        except httpx.InvalidURL as error:
            raise _unfit_path(path, error) from error
        except httpx.HTTPError as error:
            raise self._connection_failed(error) from error
        self.server_headers = response.headers
        answer = _decode(response.content)
        if response.status_code >= 400:
            raise error_of(answer, response.status_code)
        return answer

    @asynccontextmanager
    async def _stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream("GET", path, params=params, timeout=_STREAM_TIMEOUT) as response:
                self.server_headers = response.headers
                if response.status_code >= 400:
                    raise error_of(_decode(await response.aread()), response.status_code)
                yield response
        except httpx.InvalidURL as error:
            raise _unfit_path(path, error) from error
        except httpx.HTTPError as error:
            raise self._connection_failed(error) from error

    def _event(self, line: str) -> Any:
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError as error:
            # Such as the page of a proxy that lost the server.
            raise errors.ConnectionFailed(
                f"the API at {self.server} sends what is no event: {error}"
            ) from error

    def _connection_failed(self, error: httpx.HTTPError) -> errors.ConnectionFailed:
        reason = str(error) or type(error).__name__
        return errors.ConnectionFailed(f"the API at {self.server} doesn't answer: {reason}")


def _unfit_path(path: str, error: httpx.InvalidURL) -> errors.UsageError:
    return errors.UsageError(
        f"{path!r} can't be asked for: {error}", remedy="mend the name in it; names have no odd characters"
    )


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    params = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in params.items() if value}


def _decode(content: bytes) -> Manifest:
    """The JSON object in an answer; a proxy's HTML page or plain text becomes the message."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        answer = None
    if isinstance(answer, dict):
        return answer
    return {"message": content[:200].decode(errors="replace").strip()}
