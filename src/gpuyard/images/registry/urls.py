"""Addresses of registries, of their token servers and of the storage that they lead to. Source: RFC 3986."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_plus, urlencode, urljoin, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_IN_PATH = "/%:@!$&'()*+,;=~"
_IN_QUERY = _IN_PATH + "?"


@dataclass(frozen=True)
class Url:
    """An absolute URL without a user and a fragment.

    Attributes:
        scheme, host: in lower case; host without brackets.
        port: None for the scheme's own.
        path: begins with a slash; escaped as it travels, like the query.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> Url:
        """Reads a URL; raises ValueError when it is none."""
        parts = urlsplit(_checked(text))
        host = parts.hostname or ""
        if not host or "%" in host:
            raise ValueError("it names no host")
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
        port = parts.port if parts.port != _DEFAULT_PORTS.get(parts.scheme) else None
        return cls(
            parts.scheme,
            host,
            port,
            quote(parts.path, safe=_IN_PATH) or "/",
            quote(parts.query, safe=_IN_QUERY),
        )

    @property
    def netloc(self) -> str:
        """Host, with the port if it isn't the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        """What to connect to."""
        return self.host, self.port or _DEFAULT_PORTS.get(self.scheme, 0)

    @property
    def target(self) -> str:
        """What a request asks its server for."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def join(self, text: str) -> Url:
        """A URL relative to this one; raises ValueError when it is none."""
        return Url.parse(urljoin(str(self), _checked(text)))

    def with_scheme(self, scheme: str) -> Url:
        """The same at the same port with another scheme."""
        port = self.address[1]
        return replace(self, scheme=scheme, port=None if port == _DEFAULT_PORTS.get(scheme) else port)

    def with_parameters(self, parameters: Mapping[str, str | Sequence[str]]) -> Url:
        """With these in the query, in the place of those of the same names; the others stay as they are."""
        others = [part for part in self.query.split("&") if part]
        kept = [part for part in others if unquote_plus(part.partition("=")[0]) not in parameters]
        return replace(self, query="&".join([*kept, urlencode(parameters, doseq=True)]))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.target}"


def _checked(text: str) -> str:
    """The text itself: urllib takes line breaks away without a word."""
    if any(letter <= " " or letter == "\x7f" for letter in text):
        raise ValueError("it has a space or a control character")
    return text
