"""Layers of wheels: one for each large one, one for the rest; known by what they are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gpuyard.building.environment import PREFIX, Environment
from gpuyard.building.python.wheels import Wheel, wheel_path
from gpuyard.images.cache import Cache
from gpuyard.images.layers import Compression, Entry, Layer, Packer, with_parents

#: Raised whenever this code makes another layer of the same wheels.
_FORMAT = 1
_KIND = "layers"
#: Container runtimes mount at most this many layers.
MOST_LAYERS = 127


@dataclass(frozen=True)
class WheelLayer:
    """One layer to be.

    Attributes:
        wheels: sorted; a later one's file wins where two have the same.
        byte_code: version of the interpreter that compiles for it, or empty for none.
    """

    wheels: tuple[Wheel, ...]
    environment: Environment
    byte_code: str
    mtime: int
    compression: Compression

    @property
    def title(self) -> str:
        """For people: the wheel, or how many."""
        if len(self.wheels) == 1:
            return f"{self.wheels[0].name} {self.wheels[0].version}"
        return f"{len(self.wheels)} wheels"

    @property
    def holds(self) -> str:
        """Every wheel, for the image's history."""
        return ", ".join(f"{wheel.name} {wheel.version}" for wheel in self.wheels)

    @property
    def key(self) -> str:
        """Digest of all that the layer's bytes depend on."""
        parts = [str(_FORMAT), PREFIX, self.environment.python.version, self.byte_code]
        parts += [str(self.mtime), self.compression.name, *(wheel.sha256 for wheel in self.wheels)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def known(self, cache: Cache) -> Layer | None:
        """The finished layer if it was made before, by this machine."""
        raw = cache.read(_KIND, f"{self.key}.json")
        return Layer.of(raw) if raw else None

    def remember(self, cache: Cache, layer: Layer) -> None:
        """So that `known` finds it."""
        cache.write(_KIND, f"{self.key}.json", layer.to_json())

    def pack(self, cache: Cache, byte_codes: dict[Wheel, Path]) -> Packer:
        """Packs the wheels as they lie in the cache, with the zips of their byte code."""
        return Packer.of_entries(self._entries(cache, byte_codes), self.mtime, self.compression)

    def _entries(self, cache: Cache, byte_codes: dict[Wheel, Path]) -> Iterator[Entry]:
        # Only for what isn't packed yet: a build that finds its layers doesn't wait for this.
        from gpuyard.building.python.wheel_files import InstalledWheel
        from gpuyard.building.python.zip_file import ZipFile

        with ExitStack() as stack:
            entries: list[Entry] = []
            for wheel in self.wheels:
                opened = stack.enter_context(ZipFile(wheel_path(cache, wheel), wheel.file))
                compiled = byte_codes.get(wheel)
                codes = stack.enter_context(ZipFile(compiled)) if compiled else None
                entries += InstalledWheel(opened, codes, self.environment).entries()
            yield from with_parents(entries)


def group_wheels(wheels: Sequence[Wheel], layers_left: int) -> list[tuple[Wheel, ...]]:
    """Which wheels share a layer: the large ones have their own as long as there are layers left.

    Args:
        wheels: of the lock.
        layers_left: how many layers the image may get for wheels; at least 1.
    """
    largest = sorted((wheel for wheel in wheels if wheel.large), key=lambda wheel: -wheel.size)
    alone = sorted(largest[: layers_left - 1])
    rest = tuple(sorted(set(wheels) - set(alone)))
    return [(wheel,) for wheel in alone] + ([rest] if rest else [])
