"""The HTTP front: an ASGI application that finds the handler and sends what it answers.

Plain ASGI, without a framework: a durable create must cost little more than its commit.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable

from gpuyard import __version__, errors
from gpuyard.local.http.answers import Response, Stream, Upgrade, failure
from gpuyard.local.http.documents import Documents
from gpuyard.local.http.request import (
    ClientGone,
    Message,
    Receive,
    Request,
    Scope,
    parse_request,
    parse_target,
)
from gpuyard.local.http.resources import Answered, Resources
from gpuyard.local.http.watches import BOOKMARK_S, Watches
from gpuyard.local.objects.kinds.kind import ServedApi
from gpuyard.local.objects.kinds.registry import Kinds
from gpuyard.local.objects.kinds.reviews import REVIEWS
from gpuyard.local.objects.pod_logs import PodLogs
from gpuyard.local.objects.pod_streams import PodStreams
from gpuyard.local.objects.verbs import ObjectApi

log = logging.getLogger(__name__)

Send = Callable[[Message], Awaitable[None]]
#: What the exporter says of the GPUs.
ReadMetrics = Callable[[], Awaitable[bytes]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

METRICS_PATH = "/metrics"
_VERSION_HEADER = (b"gpuyard-version", __version__.encode())
#: Kubernetes' own sentence comes first: clients look for it.
_KUBERNETES = "the server could not find the requested resource"
#: What begins so names a user, a group or a uid. Done as the yard's own user, one with it would be done
#: with rights that nobody meant.
_IMPERSONATION = b"impersonate-"


class ApiApp:
    """Serves an ObjectApi. Who may call it is decided by who listens (see `server`)."""

    def __init__(
        self,
        api: ObjectApi,
        *,
        logs: PodLogs | None = None,
        streams: PodStreams | None = None,
        read_metrics: ReadMetrics | None = None,
        bookmark_s: float = BOOKMARK_S,
    ) -> None:
        self._kinds = Kinds((*api.kinds, *REVIEWS))
        self._documents = Documents(self._kinds)
        served = ServedApi(self._kinds, self._documents.paths)
        self._resources = Resources(api, Watches(api, bookmark_s=bookmark_s), logs, streams, served)
        self._read_metrics = read_metrics
        self._streams: set[asyncio.Task[None]] = set()
        self._closing = False

    def close(self) -> None:
        """Ends every watch and log stream, as a server does that goes away; new ones are refused."""
        self._closing = True
        for stream in self._streams:
            stream.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = parse_request(scope, receive)
        try:
            answered = await self._answer(request)
        except ClientGone:
            return
        if isinstance(answered, Upgrade):
            await self._upgrade(answered, scope)
        elif isinstance(answered, Stream):
            await self._send_stream(answered, receive, send)
        else:
            await send_response(answered, send)

    async def _answer(self, request: Request) -> Answered:
        try:
            return await self._route(request)
        except errors.ApiError as error:
            return failure(error)
        except errors.StoreFull as error:
            return failure(errors.StorageFull(error.message, remedy=error.remedy))
        except errors.StoreError as error:
            return failure(errors.ServiceUnavailable(error.message, remedy=error.remedy))
        except RecursionError:
            return failure(errors.BadRequest("the body of the request is nested too deeply"))
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - one request's bug must not take the server down
            log.error("%s %s failed: %s", request.method, request.path, describe_bug(error))
            return failure(errors.InternalError("Internal error occurred: see the yard's log"))

    async def _route(self, request: Request) -> Answered:
        path = request.path
        for name, value in request.headers.items():
            if name.startswith(_IMPERSONATION):
                raise errors.Forbidden(_not_lent(name, value))
        target = parse_target(path, self._kinds)
        if target is not None:
            return await self._resources.answer(target, request)
        document = self._documents.find(request)
        if document is None and path == METRICS_PATH and self._read_metrics and request.method == "GET":
            return Response(200, await self._read_metrics(), b"text/plain; version=0.0.4; charset=utf-8")
        if document is None:
            raise errors.NotFound(not_served(path, self._kinds))
        if request.method != "GET":
            raise errors.MethodNotAllowed("the server does not allow this method on the requested resource")
        return document

    async def _upgrade(self, upgrade: Upgrade, scope: Scope) -> None:
        """Has the connection speak another protocol until that ends or the server closes."""
        task = asyncio.create_task(upgrade.run(scope), name="upgraded")
        self._streams.add(task)
        if self._closing:
            task.cancel()
        try:
            await asyncio.wait((task,))
        finally:
            self._streams.discard(task)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, Exception):
            log.error("a stream failed: %s", describe_bug(result))

    async def _send_stream(self, stream: Stream, receive: Receive, send: Send) -> None:
        """Sends pieces until they end, the client leaves or the server closes; then lets go of the source.

        A stream that failed gets no last chunk. So the server cuts the connection, and the client learns that
        it has less than the whole.
        """
        headers = [(b"content-type", stream.media_type), _VERSION_HEADER, *stream.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        pump = asyncio.create_task(_pump(stream, send), name="stream")
        gone = asyncio.create_task(_until_gone(receive), name="stream-client")
        self._streams.add(pump)
        if self._closing:
            pump.cancel()
        try:
            await asyncio.wait((pump, gone), return_when=asyncio.FIRST_COMPLETED)
            left = gone.done()
        finally:
            self._streams.discard(pump)
            pump.cancel()
            gone.cancel()
            results = await asyncio.gather(pump, gone, return_exceptions=True)
            await stream.pieces.aclose()
        failures = [result for result in results if isinstance(result, Exception)]
        for failure_ in failures:
            log.error("a stream failed: %s", describe_bug(failure_))
        if not left and not failures:
            await send({"type": "http.response.body", "body": b""})


async def _pump(stream: Stream, send: Send) -> None:
    # An empty piece sends the headers off, however long the first event or line may take.
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    async for piece in stream.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        # Others have their turn, and this task learns that its client has left before it writes on.
        await asyncio.sleep(0)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(response: Response, send: Send) -> None:
    """Sends a whole answer."""
    headers = [
        (b"content-type", response.media_type),
        (b"content-length", b"%d" % len(response.body)),
        (b"cache-control", b"no-cache, private"),
        _VERSION_HEADER,
    ]
    headers += [(b"warning", _warning(text)) for text in response.warnings]
    if response.status == 413:
        # What is left of the body won't be read.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _not_lent(header: bytes, value: bytes) -> str:
    whom = f'{header.removeprefix(_IMPERSONATION).decode("latin-1")} "{value.decode("latin-1")}"'
    return f"{whom} is forbidden: this gpuyard yard has one user, whom nobody can impersonate"


def _warning(text: str) -> bytes:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    # A field's name may hold anything; a header may not.
    return re.sub(r"[\x00-\x1f\x7f]", "?", f'299 - "{quoted}"').encode("ascii", "replace")


def describe_bug(error: BaseException) -> str:
    """An unforeseen exception in one line, with the place that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}: {error}{where}".replace("\n", " ")


def not_served(path: str, kinds: Kinds) -> str:
    """The message for a path at which nothing is served."""
    words = [word for word in path.split("/") if word]
    if words[:1] not in (["api"], ["apis"]):
        return _KUBERNETES
    by_plural = {kind.resource.plural: kind for kind in kinds if kind.review is None}
    spec = next((by_plural[word] for word in reversed(words) if word in by_plural), None)
    place = words.index(spec.resource.plural) if spec and spec.resource.plural in words else -1
    if spec is not None and spec.resource.plural != "namespaces" and len(words) - place == 3:
        served = ", ".join(sub.name for sub in spec.subresources)
        but = f", but {served}" if served else ""
        return f"{_KUBERNETES}: this gpuyard yard serves no {words[-1]} of {words[place]}{but}"
    return f"{_KUBERNETES}: this gpuyard yard serves {', '.join(sorted(by_plural))}"
