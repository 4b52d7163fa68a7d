"""An HTTP answer whose body is still on its way, whoever carries it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from gpuyard.images.registry.urls import Url


class Headers:
    """Names in any case; several of one name in the order in which they came."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def get(self, name: str, default: str = "") -> str:
        """The values of a name, joined."""
        values = self._values.get(name.lower())
        return ", ".join(values) if values else default

    def get_list(self, name: str) -> list[str]:
        """The values of a name."""
        return self._values.get(name.lower(), [])

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values


@dataclass
class HttpResponse:
    """An answer.

    Attributes:
        method: what was asked.
        pieces: the body as it comes.
        content: the body once it was read; it can't be read twice.
    """

    method: str
    url: Url
    status_code: int
    headers: Headers
    pieces: AsyncIterator[bytes]
    content: bytes | None = None
