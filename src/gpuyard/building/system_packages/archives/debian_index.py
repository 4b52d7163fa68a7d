"""An archive's index of packages, and where each package is in it; kept as one file of the cache.

A distribution's index has 64,000 paragraphs in 50 MB of text, of which a build reads some hundreds. To find
them takes a second, so where they are is kept with the text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson
import zstandard

from gpuyard.building.system_packages.control import parse_fields, split_paragraphs

_BETWEEN = b"\n\n"
_NUMBER = 8


@dataclass(frozen=True)
class DebianIndex:
    """Packages by name.

    Attributes:
        content: paragraphs in UTF-8, each with one empty line after it; what follows them is no part of it.
        places: by name, where the paragraphs of its versions begin.
        providing: by a name that is provided, those of the packages that provide it.
    """

    content: bytes
    places: Mapping[str, Sequence[int]]
    providing: Mapping[str, Sequence[str]]

    @classmethod
    def parse(cls, text: str) -> DebianIndex:
        """Of what an archive gave out."""
        places: defaultdict[str, list[int]] = defaultdict(list)
        providing: defaultdict[str, dict[str, None]] = defaultdict(dict)
        found: list[bytes] = []
        at = 0
        for paragraph in split_paragraphs(text):
            name = _name(paragraph)
            places[name].append(at)
            for word in _provided(paragraph):
                providing[word.strip().partition(" ")[0].partition(":")[0]][name] = None
            found.append(paragraph.encode())
            at += len(found[-1]) + len(_BETWEEN)
        content = b"".join(part + _BETWEEN for part in found)
        return cls(content, places, {name: list(names) for name, names in providing.items()})

    def paragraphs(self, name: str) -> Iterator[str]:
        """Of a package's versions, in the archive's order."""
        for start in self.places.get(name, ()):
            yield self.content[start : self.content.index(_BETWEEN, start)].decode()

    def write(self, file: IO[bytes]) -> None:
        """Packed with zstd, with a checksum: to unpack xz takes six times as long."""
        table = orjson.dumps({"places": self.places, "providing": self.providing})
        parts = (self.content, table, len(self.content).to_bytes(_NUMBER))
        file.write(zstandard.ZstdCompressor(level=1, write_checksum=True).compress(b"".join(parts)))

    @classmethod
    def read(cls, path: Path) -> DebianIndex:
        """What `write` wrote; raises OSError, and ValueError where it is damaged."""
        try:
            raw: bytes = zstandard.ZstdDecompressor().decompress(path.read_bytes())
            table = orjson.loads(memoryview(raw)[int.from_bytes(raw[-_NUMBER:]) : -_NUMBER])
            return cls(raw, table["places"], table["providing"])
        except (zstandard.ZstdError, KeyError) as error:
            raise ValueError(str(error)) from error


def _provided(paragraph: str) -> list[str]:
    """Searched for without a regular expression, which takes ten times as long, for each of 64,000."""
    start = paragraph.find("\nProvides:")
    if start < 0:
        return []
    end = paragraph.find("\n", start + 1)
    return paragraph[start + 10 : end if end > 0 else None].split(",")


def _name(paragraph: str) -> str:
    if paragraph.startswith("Package: "):
        return paragraph[9 : paragraph.find("\n")].strip()
    return parse_fields(paragraph).get("package", "")
