"""Answers of registries, read up to a size, and the errors that they stand for."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from gpuyard import errors
from gpuyard.http_proxies import way_to
from gpuyard.images.registry.responses import Headers, HttpResponse
from gpuyard.images.registry.urls import Url

_MAX_ANSWER = 16 << 20
#: Documents are small: one that is still on its way after this long has no end.
_LONGEST_ANSWER_S = 120.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CERTIFICATE_REMEDY = "if it is your own authority's, trust its certificate with --registry-ca FILE"


@dataclass(frozen=True)
class RegistryResponse:
    """A response with its body.

    Attributes:
        url: the one that answered, after redirects.
        account: who asked; empty for an anonymous request.
    """

    status: int
    headers: Headers
    content: bytes
    url: Url
    account: str = ""

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed in a moment."""
        return self.status in _PASSING

    @property
    def location(self) -> Url | None:
        """Where it leads to; raises RegistryError when that is no URL."""
        text = self.headers.get("location")
        return url_of(text, self.url) if text else None


def error_of(answer: RegistryResponse, what: str) -> errors.ImageError:
    """What to raise for an answer that isn't success.

    Args:
        answer: of a registry; its JSON errors are quoted, its HTML isn't.
        what: what failed and where, such as "reading localhost:5000/team/train:v1".
    """
    status = answer.status
    said = _said(answer)
    if status == 401:
        return errors.ImageUnauthorized(
            f"{what}: {host_of(answer.url)} wants credentials, or doesn't take those it got{said}",
            remedy=f"log in: docker login {_login_name(answer.url)}, or set up a credential helper",
        )
    if status == 403:
        return errors.ImageUnauthorized(
            f"{what}: {host_of(answer.url)} doesn't allow it{said}",
            remedy="check the repository's name and what your account may do there",
        )
    if "MANIFEST_BLOB_UNKNOWN" in said:
        return errors.BlobsMissing(
            f"{what}: {host_of(answer.url)} lacks what the image is made of{said}",
            remedy="push to another repository; the registry's storage may be damaged",
        )
    if status == 404:
        return errors.ImageNotFound(
            f"{what}: not found at {host_of(answer.url)}{said}",
            remedy="check registry, repository and tag; some registries say this when you aren't logged in",
        )
    if status == 429:
        return _rate_limited(answer, what, said)
    message = f"{what}: {host_of(answer.url)} answered {status}{said}"
    if answer.passing:
        return errors.RegistryUnavailable(message, retry_after=answer.headers.get("retry-after", ""))
    return errors.RegistryError(message)


def _rate_limited(answer: RegistryResponse, what: str, said: str) -> errors.RegistryUnavailable:
    host, wish = host_of(answer.url), answer.headers.get("retry-after", "")
    who = f"it counts what you ask as {answer.account}" if answer.account else "you aren't logged in there"
    seconds = retry_after_s(wish, datetime.now(UTC))
    later = f"try again in {_span(seconds)}" if seconds else "try again later"
    if answer.account:
        remedy = f"{later}, or take the image from another registry"
    else:
        login = f"docker login {_login_name(answer.url)}".strip()
        remedy = f"log in, since limits are higher for known users: {login}; or {later}"
    return errors.RegistryUnavailable(
        f"{what}: {host} takes no more requests for now (429, a rate limit), and {who}{said}",
        remedy=remedy,
        retry_after=wish,
    )


def retry_after_s(value: str, now: datetime) -> float:
    """Seconds that a Retry-After asks for, in either of its forms; 0 for none that can be read."""
    if value.strip().isdecimal():
        return float(value)
    if not value:
        return 0.0
    from email.utils import parsedate_to_datetime  # Few answers have a date, and it costs start-up time.

    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _span(seconds: float) -> str:
    """Rounded up, so that nobody comes too early: 40s, 2min, 2h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds > size:
            return f"{math.ceil(seconds / size)}{unit}"
    return f"{math.ceil(seconds)}s"


def _said(answer: RegistryResponse) -> str:
    """The registry's own words, in brackets."""
    try:
        first = orjson.loads(answer.content)["errors"][0]
        words = ": ".join(str(first[name]) for name in ("code", "message") if first.get(name))
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return ""
    # In one line: a line of its own could pass for one of ours.
    words = " ".join(words.split())
    return f" ({words[:300]})" if words else ""


def unreachable(url: Url, error: Exception) -> errors.RegistryError:
    """What to raise for a host that can't be spoken to."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return errors.RegistryError(
                f"the certificate of {host_of(url)} is not trusted: {cause.verify_message}",
                remedy=_CERTIFICATE_REMEDY,
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in (
            "WRONG_VERSION_NUMBER",
            "RECORD_LAYER_FAILURE",
        ):
            return errors.RegistryError(
                f"{host_of(url)} doesn't speak TLS",
                remedy=f"if it is meant to be plain HTTP, allow it with --plain-http {host_of(url)}",
            )
        cause = cause.__cause__ or cause.__context__
    return errors.RegistryUnavailable(
        f"{host_of(url)} doesn't answer{way_to(str(url), os.environ)}: {_why_silent(error)}",
        remedy="check the registry's name and your network (HTTPS_PROXY, NO_PROXY)",
    )


def _why_silent(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return f"its name can't be resolved ({cause.strerror})"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there (connection refused)"
        # httpx tries each address of a proxy, and has what became of them in a group.
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__
    words = (error.strerror or "").lower() if isinstance(error, OSError) else ""
    return words or str(error) or type(error).__name__


async def read_answer(response: HttpResponse, account: str = "") -> RegistryResponse:
    """Reads the body of a response, up to a size that no document of a registry has.

    Args:
        response: streamed.
        account: who asked.
    """
    if response.content is None:
        response.content = b"" if response.method == "HEAD" else await _read(response)
    return RegistryResponse(response.status_code, response.headers, response.content, response.url, account)


async def _read(response: HttpResponse) -> bytes:
    pieces, size = [], 0
    try:
        async with asyncio.timeout(_LONGEST_ANSWER_S):
            async for piece in response.pieces:
                size += len(piece)
                if size > _MAX_ANSWER:
                    raise errors.RegistryError(
                        f"{host_of(response.url)} gave an answer above {_MAX_ANSWER >> 20} MiB"
                    )
                pieces.append(piece)
    except TimeoutError as error:
        raise errors.RegistryUnavailable(
            f"{host_of(response.url)} doesn't answer: {size} bytes came in {_LONGEST_ANSWER_S:.0f} s, no end",
            remedy="try again later",
        ) from error
    return b"".join(pieces)


def url_of(text: str, base: Url | None = None) -> Url:
    """A URL that a server names, relative to base; raises RegistryError when it is none."""
    try:
        return base.join(text) if base else Url.parse(text)
    except ValueError as error:
        by = f"{host_of(base)} names" if base else "a registry names"
        raise errors.RegistryError(f"{by} an address that can't be one: {text[:200]!r}") from error


def _login_name(url: Url) -> str:
    return "" if url.host.endswith(".docker.io") else host_of(url)


def host_of(url: Url) -> str:
    """Its host, with the port if any."""
    return url.netloc
