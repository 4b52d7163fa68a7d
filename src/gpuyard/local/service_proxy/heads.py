"""The heads of requests and answers as they go on to the next hop (pure).

Sources: RFC 9110 (7.6.1 Connection, 7.8 Upgrade, 10.1.1 Expect), RFC 9112 (6.1 Transfer-Encoding, 6.3).
llhttp has refused before: two lengths, a length beside Transfer-Encoding, line ends without CR, folded lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple

Headers = Sequence[tuple[bytes, bytes]]

#: They can be repeated without harm, RFC 9110 9.2.2.
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_CONNECTION, _UPGRADE, _TRANSFER_ENCODING = b"connection", b"upgrade", b"transfer-encoding"
_LENGTH, _HOST, _EXPECT = b"content-length", b"host", b"expect"
_FORWARDED_FOR, _FORWARDED_PROTO, _FORWARDED_HOST = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
)
#: Of one hop: they don't go on as they came.
_HOP_BY_HOP = frozenset(
    (
        _CONNECTION,
        _UPGRADE,
        _TRANSFER_ENCODING,
        *(b"keep-alive", b"proxy-connection", b"te", b"trailer", b"http2-settings"),
    )
)
_LOOKED_AT = _HOP_BY_HOP | {_HOST, _LENGTH, _EXPECT, _FORWARDED_FOR, _FORWARDED_PROTO, _FORWARDED_HOST}
_WRITTEN_ANEW = _HOP_BY_HOP | {_HOST, _FORWARDED_FOR}
#: What no client can have removed by naming it in Connection.
_KEPT = frozenset((_HOST, _LENGTH, _FORWARDED_FOR, _FORWARDED_PROTO, _FORWARDED_HOST))
_WITHOUT_BODY = frozenset((204, 304))
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_ABSOLUTE = re.compile(rb"http://(?:[^/?#@]*@)?([^/?#]+)(.*)", re.IGNORECASE)
LAST_CHUNK = b"0\r\n\r\n"


class Framing(Enum):
    """How the end of an answer's body is known."""

    NO_BODY = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()


class ProxiedRequest(NamedTuple):
    """A request as it goes on.

    Attributes:
        head: request line and headers.
        is_chunked: its body goes in chunks.
        upgrade: whether it asks for another protocol on its connection.
        is_idempotent: it may be repeated.
        is_http_1_0: its client knows no chunks and no answers in between.
    """

    method: bytes
    head: bytes
    is_chunked: bool
    upgrade: bool
    is_idempotent: bool
    is_http_1_0: bool


class ReplicaAnswer(NamedTuple):
    """An answer as it goes on.

    Attributes:
        head: status line and headers, without those that say how the body ends.
        framing: how it came.
        upgrade: the protocol that the replica speaks from now on.
    """

    status: int
    head: bytes
    framing: Framing
    upgrade: bytes


class ProxyRefusal(NamedTuple):
    """What the proxy itself answers, and the sentence that is the body."""

    status: HTTPStatus
    sentence: str
    retry_after_s: int = 0


def chunk(data: bytes) -> bytes:
    """One chunk; never the last one, which has no data."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def forwarded_request(
    method: bytes, target: bytes, version: str, headers: Headers, client: bytes
) -> ProxiedRequest | ProxyRefusal:
    """The request as a replica gets it.

    Args:
        method, target, version, headers: as they came; the version is `1.1` or `1.0`.
        client: the address of who sent it.
    """
    if version not in ("1.1", "1.0"):
        return ProxyRefusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is spoken here")
    if method == b"CONNECT":
        return ProxyRefusal(
            HTTPStatus.METHOD_NOT_ALLOWED, "this is the address of one service, no proxy to others"
        )
    lines: list[bytes] = []
    told: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _LOOKED_AT:
            told.setdefault(lowered, []).append(value)
            if lowered in _WRITTEN_ANEW:
                continue
        lines.append(name + b": " + value + b"\r\n")
    is_http_1_0 = version == "1.0"
    hosts = told.get(_HOST, [])
    if len(hosts) > 1 or not (hosts or is_http_1_0):
        return ProxyRefusal(HTTPStatus.BAD_REQUEST, "a request needs one Host header")
    target, host = _origin_form(target, hosts[0] if hosts else b"")
    is_chunked = _TRANSFER_ENCODING in told
    if is_chunked and (
        is_http_1_0 or [value.strip().lower() for value in told[_TRANSFER_ENCODING]] != [b"chunked"]
    ):
        return ProxyRefusal(
            HTTPStatus.NOT_IMPLEMENTED, "Transfer-Encoding may be chunked, in HTTP/1.1, and nothing else"
        )
    if is_http_1_0 and _EXPECT in told:
        lines = _without(lines, {_EXPECT})
    upgrade = b""
    if connection := told.get(_CONNECTION):
        tokens = _tokens(connection)
        lines = _without(lines, tokens - _KEPT - _HOP_BY_HOP)
        # Who asks for HTTP/2 may go on with HTTP/1.1.
        upgrade = b", ".join(told.get(_UPGRADE, [])) if _UPGRADE in tokens and not is_http_1_0 else b""
        upgrade = b"" if upgrade.strip().lower() == b"h2c" else upgrade
    if is_chunked:
        lines.append(_CHUNKED)
    if upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade)
    before = told.get(_FORWARDED_FOR, [])
    lines.append(b"X-Forwarded-For: %b\r\n" % b", ".join((*before, client)))
    if _FORWARDED_PROTO not in told:
        lines.append(b"X-Forwarded-Proto: http\r\n")
    if _FORWARDED_HOST not in told:
        lines.append(b"X-Forwarded-Host: %b\r\n" % host)
    head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, target, host, b"".join(lines))
    return ProxiedRequest(method, head, is_chunked, bool(upgrade), method in _IDEMPOTENT, is_http_1_0)


def read_answer(method: bytes, status: int, reason: bytes, headers: Headers) -> ReplicaAnswer | None:
    """An answer to a request of this method, as it goes on; None where its end can't be known."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    upgrade = b""
    named: set[bytes] = set()
    framing = Framing.UNTIL_CLOSE
    for name, value in headers:
        lowered = name.lower()
        if lowered not in _HOP_BY_HOP:
            lines.append(name + b": " + value + b"\r\n")
            if lowered == _LENGTH:
                framing = Framing.LENGTH
        elif lowered == _CONNECTION:
            named |= _tokens([value])
        elif lowered == _UPGRADE:
            upgrade = value
        elif lowered == _TRANSFER_ENCODING:
            if value.strip().lower() != b"chunked":
                return None
            framing = Framing.CHUNKED
    if named:
        lines = _without(lines, named - _KEPT)
    if method == b"HEAD" or status < 200 or status in _WITHOUT_BODY:
        framing = Framing.NO_BODY
    return ReplicaAnswer(status, b"".join(lines), framing, upgrade)


def answer_head(answer: ReplicaAnswer, framing: Framing, *, is_last: bool = False) -> bytes:
    """The head of an answer as a client gets it.

    Args:
        answer: as it came.
        framing: how its body goes on to the client.
        is_last: the connection ends with it.
    """
    chunked = _CHUNKED if framing is Framing.CHUNKED else b""
    return answer.head + chunked + (b"Connection: close\r\n\r\n" if is_last else b"\r\n")


def upgraded_head(answer: ReplicaAnswer) -> bytes:
    """The head of the answer by which a replica agrees to another protocol."""
    return answer.head + b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % answer.upgrade


def refusal_bytes(refusal: ProxyRefusal, *, with_body: bool, is_last: bool) -> bytes:
    """An answer of the proxy itself."""
    text = refusal.sentence.encode() + b"\n"
    headers = [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", b"%d" % len(text)),
    ]
    if refusal.retry_after_s:
        headers.append((b"Retry-After", b"%d" % refusal.retry_after_s))
    answer = read_answer(b"GET", refusal.status, refusal.status.phrase.encode(), headers)
    assert answer is not None
    head = answer_head(answer, Framing.LENGTH, is_last=is_last)
    return head + text if with_body else head


def _origin_form(target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """Path and host of `http://host/path`, which goes before the Host header (RFC 9112 3.2.2)."""
    if not (found := _ABSOLUTE.fullmatch(target)):
        return target, host
    authority, path = found.groups()
    return path if path.startswith(b"/") else b"/" + path, authority


def _tokens(values: Sequence[bytes]) -> set[bytes]:
    return {token.strip().lower() for value in values for token in value.split(b",")}


def _without(lines: list[bytes], names: set[bytes] | frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if line.partition(b":")[0].lower() not in names] if names else lines
