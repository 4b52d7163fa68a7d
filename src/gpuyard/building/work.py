"""What all parts of one build are given: the request, its places, opened, and this machine's means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gpuyard import errors
from gpuyard.images.layers import Compression, compression
from gpuyard.images.oci import digest_of

if TYPE_CHECKING:
    from gpuyard.building.copied_images import CopiedPath
    from gpuyard.building.request import BuildRequest
    from gpuyard.images.cache import Cache
    from gpuyard.images.places import Place


class Reporter(Protocol):
    """Hears how a build goes on."""

    def say(self, text: str) -> None:
        """Something the user should read even when all goes well."""

    def bytes(self, what: str, done: int, total: int) -> None:
        """Progress of one piece of work; total is 0 when it isn't known."""


#: The cache's folder of what was said.
_TOLD = "told"


@dataclass(frozen=True)
class BuildWork:
    """A request whose places are open, and what this machine has for it.

    Attributes:
        base: what the images stand on, by the name that the lock and the image have for it.
        targets: where the image goes; it is built into the first.
        copies: what comes from other images, and where these are.
        cache: keeps what was fetched, read and made.
        environ: the command's, with what is said of registries.
        reporter: hears how it goes on.
    """

    request: BuildRequest
    base: Place
    targets: tuple[Place, ...]
    copies: tuple[tuple[CopiedPath, Place], ...]
    cache: Cache
    environ: Mapping[str, str]
    reporter: Reporter

    def tell_once(self, texts: Iterable[str]) -> None:
        """Says what this machine hasn't said of the folder yet: a build follows each edit."""
        for text in texts:
            what = f"{self.request.root.absolute()}\n{text}".encode("utf-8", "surrogateescape")
            name = f"{digest_of(what).removeprefix('sha256:')}.json"
            if self.cache.read(_TOLD, name) is None:
                self.reporter.say(text)
                with suppress(errors.CacheError):  # Then it is said again.
                    self.cache.write(_TOLD, name, {})

    @property
    def target(self) -> Place:
        """Where the image is built into."""
        return self.targets[0]

    @property
    def compression(self) -> Compression:
        """Of new layers."""
        return compression(self.request.image.compression)

    @property
    def base_called(self) -> str:
        """The base in messages."""
        return f"the base {self.base.text}"

    @property
    def folder(self) -> Path:
        """Where uv looks for its configuration, and what paths in the lock are relative to: the lock's."""
        return self.request.lock_path.parent.absolute()
