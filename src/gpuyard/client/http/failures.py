"""What keeps a client from a cluster's API, in words: its address, the network, TLS, answers of others."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime

from gpuyard import errors
from gpuyard.client.connection.credentials import masked, why_unauthorized
from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.client.http.exchange import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, ClientResponse
from gpuyard.kube.objects import Manifest
from gpuyard.kube.status import error_of

#: OpenSSL's X509_V_ERR_*.
_EXPIRED, _NOT_YET = 10, 9
_UNTRUSTED = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})
#: Waiting, and a connection that ended: they say nothing of TLS.
_NO_FAULT_OF_TLS = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_LONGEST_TEXT = 200


def cannot_connect(connection: Connection, reason: str) -> errors.UsageError:
    """The error for a kubeconfig by which nothing could be sent."""
    return errors.UsageError(
        f"can't connect to {masked(connection.server)!r}: {reason}",
        remedy=f"mend `server`, `proxy-url` or the token in the kubeconfig{_in_file(connection)}",
    )


def connection_failed(
    server: str, error: Exception, connection: Connection, *, connecting: bool = False
) -> errors.ConnectionFailed:
    """The error for a request that got no answer.

    Args:
        server: where it went.
        error: what happened on the way; a TimeoutError: nothing.
        connection: how.
        connecting: whether that was before anything was sent.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _NO_FAULT_OF_TLS):
            return _tls_failed(server, cause, connection)
    reason, remedy = _why_silent(error, causes, connecting=connecting)
    is_slow = isinstance(error, TimeoutError) and not connecting
    kind = errors.Stalled if is_slow else errors.ConnectionFailed
    return kind(f"the API at {server} doesn't answer: {reason}", remedy=remedy)


def _why_silent(error: Exception, causes: list[BaseException], *, connecting: bool) -> tuple[str, str]:
    there = "is the cluster up, and are host and port of `server` in the kubeconfig right?"
    way = "is a VPN or a proxy needed to get there, or a firewall in the way?"
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return f"its name can't be resolved ({cause.strerror})", f"is it spelt right? {way}"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there (connection refused)", there
        if isinstance(cause, OSError) and cause.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return f"there is no way to it ({cause.strerror})", way
    if isinstance(error, TimeoutError):
        if connecting:
            return f"no connection within {CONNECT_TIMEOUT_S:.0f} s", f"{there} {way}"
        return f"no answer within {ANSWER_TIMEOUT_S:.0f} s", "it may be overloaded: try again in a while"
    if connecting and isinstance(error, UnicodeError):
        return "no host can have that name", "is it spelt right?"
    if isinstance(error, ValueError | asyncio.LimitOverrunError):
        return f"what answers there doesn't speak HTTP ({error})", there
    if connecting:
        return str(error) or "no connection", there
    return f"it cut the connection ({error or type(error).__name__})", "try again; it may be starting"


def _tls_failed(server: str, error: ssl.SSLError, connection: Connection | None) -> errors.ConnectionFailed:
    origin = connection.origin if connection else None
    entry = f" of {origin.cluster_text}" if origin else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code in _UNTRUSTED:
            reason = "an authority that the kubeconfig doesn't trust has signed its certificate"
            remedy = (
                f"put the cluster's own into certificate-authority-data{entry}; when the cluster was made "
                "anew, get a new kubeconfig from whoever runs it. Is this address that cluster's?"
            )
        elif code in _OTHER_NAME:
            reason = f"its certificate is for another name ({error.verify_message})"
            remedy = f"use a name that is in it as `server`{entry}, or add tls-server-name with one"
        elif code in (_EXPIRED, _NOT_YET):
            reason = f"its certificate doesn't hold now ({error.verify_message})"
            remedy = "whoever runs the cluster has to renew it; is the clock of this machine right?"
        else:
            reason, remedy = f"its certificate is refused ({error.verify_message})", ""
        return errors.ConnectionFailed(f"the API at {server} can't be trusted: {reason}", remedy=remedy)
    what = error.reason or str(error)
    if "ALERT" in what:
        return errors.ConnectionFailed(
            f"the API at {server} refuses the TLS connection: {what}",
            remedy="it may want (another) client certificate: "
            + (f"look at {origin.user_text}" if origin else "look at the kubeconfig"),
        )
    return errors.ConnectionFailed(
        f"what answers at {server} doesn't speak TLS ({what})",
        remedy=f"is the port right? A plain one needs http:// as `server`{entry}",
    )


def not_an_api(
    server: str, answer: ClientResponse, content: bytes, connection: Connection | None
) -> errors.ConnectionFailed:
    """The error for an answer that no Kubernetes API gives; `content` is its body."""
    what = answer.headers.get("content-type", "").partition(";")[0] or "nothing that says what it is"
    if answer.status in (301, 302, 303, 307, 308) and "location" in answer.headers:
        what = f"a redirect to {masked(answer.headers['location'])}"
    return errors.ConnectionFailed(
        f"what answers at {server} is no Kubernetes API: {answer.path} gives {what}",
        remedy="is `server` the API's own address, or a web page's or a login's"
        f"{_in_file(connection)}? {readable(content)}".rstrip(),
    )


def refusal(
    server: str,
    answer: ClientResponse,
    content: bytes,
    found: Manifest | None,
    connection: Connection | None,
    now: datetime,
) -> errors.GpuyardError:
    """The error that an answer stands for.

    Args:
        server: who gave it.
        answer, content: its head, and its body.
        found: the JSON object in the body; None for anything else.
        connection: to a cluster; None for a unix socket.
        now: tells whether credentials that were refused have expired.
    """
    code = answer.status
    if found is None and is_page(answer, content) and code in (404, 405):
        return not_an_api(server, answer, content, connection)
    text = f"the API at {server} answered {code}: {readable(content)}".rstrip(": ")
    error = error_of(found if found is not None else {"message": text}, code)
    origin = connection.origin if connection else None
    if code == 401 and connection and origin:
        cause, remedy = why_unauthorized(origin, connection.headers, now)
        return errors.Unauthorized(f"the API at {server} says Unauthorized: {cause}", remedy=remedy)
    if code == 400 and "HTTP request to an HTTPS server" in error.message:
        return errors.ConnectionFailed(
            f"the API at {server} speaks TLS only",
            remedy="write https:// in `server`" + (f" of {origin.cluster_text}" if origin else ""),
        )
    if (pause_s := answer.headers.get("retry-after", "")).isdecimal():
        error.remedy = f"it is too busy, and asks to try again in {pause_s} s"
    elif code in (502, 503, 504) and found is None:
        error.remedy = "it may be starting, or what is before it has lost it: try again in a while"
    return error


def is_page(answer: ClientResponse, content: bytes) -> bool:
    """Whether an answer is a web page: a proxy's, or another server's."""
    kind = answer.headers.get("content-type", "")
    return "html" in kind or content.lstrip()[:1] == b"<"


def readable(content: bytes) -> str:
    """The beginning of an answer that isn't JSON, without a page's tags."""
    import html

    text = content[: 20 * _LONGEST_TEXT].decode(errors="replace")
    if text.lstrip().startswith("<"):
        text = re.sub(r"(?is)<(script|style|head)\b.*?</\1>|<[^>]*>", " ", text)
    return " ".join(html.unescape(text).split())[:_LONGEST_TEXT]


def _in_file(connection: Connection | None) -> str:
    return f" ({connection.origin.cluster_text})" if connection and connection.origin else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it, those of a group included."""
    seen = set[int]()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
