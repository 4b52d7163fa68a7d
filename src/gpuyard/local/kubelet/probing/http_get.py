"""GET of a page on this machine: who answers, with which status, and no more.

What goes wrong is told in the words of Go's net/http, since events and those who read them have these.
Source: kubernetes `pkg/probe/http` (DoHTTPProbe, RedirectChecker, NewRequestForHTTPGetAction).
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import httptools

from gpuyard.local.kubelet.probing.answer import MAX_ANSWER_BYTES, ProbeAnswer, ProbeResult, failure

USER_AGENT = "kube-probe/1.37"
_MAX_HEAD_BYTES = 1 << 20
_MAX_REDIRECTS = 10
_PIECE_BYTES = 1 << 16
_CLOSE_S = 1.0
_TIMED_OUT = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
_TIMED_OUT_LATE = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
#: As they may stand in a path with a query. Source: RFC 3986, section 3.3.
_PATH_CHARACTERS = "/?%:@!$&'()*+,;=-._~"
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class _GetError(Exception):
    """Why there is no answer."""


@dataclass(frozen=True)
class HttpGet:
    """One `httpGet`.

    Attributes:
        url: that is asked.
        headers: names and values, in order.
    """

    url: str
    headers: Sequence[tuple[str, str]] = ()

    @classmethod
    def parse(cls, raw: Mapping[str, Any], host: str, port: int) -> HttpGet:
        """Reads `httpGet`, with the host and the port that it means here."""
        path = quote(raw.get("path", "/").partition("#")[0], safe=_PATH_CHARACTERS)
        at = f"[{host}]" if ":" in host else host
        url = f"{raw.get('scheme', 'HTTP').lower()}://{at}:{port}/{path.removeprefix('/')}"
        given = [(one["name"], one.get("value", "")) for one in raw.get("httpHeaders") or ()]
        return cls(url, given)

    async def ask(self, timeout_s: float | None) -> ProbeAnswer:
        """Gets it, on the way of redirects that stay on its host."""
        url, response = self.url, _HttpAnswer()
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(_MAX_REDIRECTS):
                    response = _HttpAnswer()
                    await _get(url, self.headers, response)
                    next_url = _redirected(url, response.location)
                    if urlsplit(next_url).hostname != urlsplit(self.url).hostname:
                        return response.judge()
                    url = next_url
                raise _GetError(f"stopped after {_MAX_REDIRECTS} redirects")
        except TimeoutError:
            if response.has_head:
                return ProbeAnswer(ProbeResult.UNKNOWN, _TIMED_OUT_LATE)
            return failure(f'Get "{self.url}": {_TIMED_OUT}')
        except _GetError as error:
            return failure(f'Get "{self.url}": {error}')


class _HttpAnswer:
    """What `httptools` tells of one response."""

    def __init__(self) -> None:
        self.status = 0
        self.location = ""
        self.has_head = self.is_complete = False
        self.body = bytearray()
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self.location = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        # What comes before the response proper, such as 103 Early Hints, is none.
        self.has_head = self.status >= 200
        if self.status not in (301, 302, 303, 307, 308):
            self.location = ""

    def on_body(self, piece: bytes) -> None:
        self.body += piece[: MAX_ANSWER_BYTES + 1 - len(self.body)]

    def on_message_complete(self) -> None:
        self.is_complete = self.has_head

    @property
    def is_enough(self) -> bool:
        """Whether nothing more of it counts."""
        return self.is_complete or len(self.body) > MAX_ANSWER_BYTES

    def judge(self) -> ProbeAnswer:
        """Of a status from 200 to 399 that it is well; what a page says isn't told where that went wrong."""
        if not 200 <= self.status < 400:
            return failure(f"HTTP probe failed with statuscode: {self.status}")
        said = bytes(self.body[:MAX_ANSWER_BYTES]).decode(errors="replace")
        if self.status >= 300:
            return ProbeAnswer(ProbeResult.WARNING, f"Probe terminated redirects, Response body: {said}")
        return ProbeAnswer(ProbeResult.SUCCESS, said)


async def _get(url: str, headers: Sequence[tuple[str, str]], response: _HttpAnswer) -> None:
    """Fills the response in.

    Raises:
        _GetError: there is none.
    """
    where = _split(url)
    request = _request(where, headers)
    port = where.port or (443 if where.scheme == "https" else 80)
    reader, writer = await _connect(where.hostname or "", port, tls=where.scheme == "https")
    try:
        writer.write(request)
        await writer.drain()
        await _read(reader, response)
    except OSError as error:
        raise _GetError(f"read tcp {where.netloc}: {_said_by_go(error)}") from error
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, response: _HttpAnswer) -> None:
    size = 0
    while not response.is_enough and (piece := await reader.read(_PIECE_BYTES)):
        size += len(piece)
        try:
            response.parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # What comes after it is nobody's, such as a page with a status that has none.
            if not response.is_enough:
                why = f"HTTP/1.x transport connection broken: malformed HTTP response: {error}"
                raise _GetError(f"net/http: {why}") from error
        if size > _MAX_HEAD_BYTES and not response.has_head:
            limit = f"net/http: server response headers exceeded {_MAX_HEAD_BYTES} bytes; aborted"
            raise _GetError(limit)
    if not response.has_head:
        raise _GetError("EOF")


async def _connect(host: str, port: int, *, tls: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return await asyncio.open_connection(host, port, ssl=context)
    except (OSError, ValueError) as error:
        raise _GetError(dial_error(host, port, error)) from error


def dial_error(host: str, port: int, error: OSError | ValueError) -> str:
    """Why there is no connection, as Go says it; a ValueError is of a host that no name server could know."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return f"dial tcp: lookup {host}: no such host"
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}"
    if error.errno is None or error.errno < 0:
        return f"dial tcp {at}: {error}"
    return f"dial tcp {at}: connect: {_said_by_go(error)}"


def _said_by_go(error: OSError) -> str:
    # The text of several tries in asyncio's own words says no more than the number.
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


def _split(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        _GetError: its host or port is none.
    """
    try:
        found = urlsplit(url)
        _ = found.port
    except ValueError as error:
        raise _GetError(f'parse "{url}": {error}') from error
    return found


def _request(where: SplitResult, headers: Sequence[tuple[str, str]]) -> bytes:
    if where.scheme not in ("http", "https"):
        raise _GetError(f'unsupported protocol scheme "{where.scheme}"')
    names = {name.lower() for name, _ in headers}
    own = {"Host": where.netloc, "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    lines = [f"GET {where.path or '/'}{'?' + where.query if where.query else ''} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in own.items() if name.lower() not in names]
    for name, value in headers:
        if not _HEADER_VALUE.fullmatch(value):
            raise _GetError(f'net/http: invalid header field value for "{name}"')
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads; empty where there is none.

    Raises:
        _GetError: that is no address.
    """
    if not location:
        return ""
    try:
        found = urljoin(url, quote(location, safe=_PATH_CHARACTERS + "[]"))
        _ = urlsplit(found).port
    except ValueError as error:
        raise _GetError(f'failed to parse Location header "{location}": {error}') from error
    return found
