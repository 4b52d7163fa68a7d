"""A layer that an image is to get, whatever it is made of; what was packed once is known by its key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gpuyard.images.cache import Cache
from gpuyard.images.layers import Layer, Packer

if TYPE_CHECKING:
    from gpuyard.elf import Elf

_KIND = "layers"


class PlannedLayer(Protocol):
    """One layer to be: `prepare` and `pack` are called only when the store lacks it."""

    @property
    def title(self) -> str:
        """For people, short: `numpy 1.26.4`."""

    @property
    def holds(self) -> str:
        """All that is in it, for the image's history."""

    @property
    def key(self) -> str:
        """Digest of all that its bytes depend on (see `layer_key`).

        Empty when nothing tells that sooner than packing does: then it is packed first of all, each time.
        """

    @property
    def size(self) -> int:
        """Bytes that it will have about, for progress; 0 when nobody knows."""

    async def prepare(self) -> None:
        """Has on this machine what the layer is made of; not called when it has no key."""

    def pack(self) -> Packer:
        """Begins the packing, after `prepare`; once more when an upload was lost."""


@runtime_checkable
class BringsLibraries(Protocol):
    """A planned layer with shared libraries for the system's loader."""

    async def read_libraries(self) -> Mapping[str, Elf]:
        """What it has, by path; links by their names, too. Called after `prepare`, where that is called."""


def layer_key(*parts: str) -> str:
    """A key of these parts in this order; the first says what kind of layer it is and how it is made."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def known_layer(cache: Cache, key: str) -> Layer | None:
    """The finished layer if one of this key was packed before, by this machine."""
    raw = cache.read(_KIND, f"{key}.json")
    return Layer.of(raw) if raw else None


def remember_layer(cache: Cache, key: str, layer: Layer) -> None:
    """So that `known_layer` finds it."""
    cache.write(_KIND, f"{key}.json", layer.to_json())
