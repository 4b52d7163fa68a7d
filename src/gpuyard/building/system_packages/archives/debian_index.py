"""An archive's index of packages as the cache keeps it: a package is found without reading all others.

A distribution's index has 64,000 paragraphs in 50 MB of text, of which a build reads some hundreds. So the
text is packed in blocks, each for itself, and a sorted list says which packages are where in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO

import orjson
import zstandard
from isal import isal_zlib

from gpuyard.building.system_packages.control import parse_fields, split_paragraphs
from gpuyard.regular_files import read_regular

_BETWEEN = b"\n\n"
#: Of text: larger ones are packed better, and take longer to unpack for one paragraph.
_BLOCK_BYTES = 1 << 16
_NUMBER_BYTES = 8
_BLOCKS_KEPT = 64
_MAX_BYTES = 1 << 30


class DebianIndex:
    """Packages by name.

    Args:
        content: blocks of paragraphs in UTF-8, the list of packages, its size, and a checksum of all that.

    Raises:
        ValueError: it is damaged.
    """

    def __init__(self, content: bytes) -> None:
        inner = memoryview(content)[:-_NUMBER_BYTES]
        if not inner or isal_zlib.crc32(inner) != int.from_bytes(content[-_NUMBER_BYTES:]):
            raise ValueError("its checksum is another")
        size, inner = int.from_bytes(inner[-_NUMBER_BYTES:]), inner[:-_NUMBER_BYTES]
        raw = orjson.loads(_unpack(inner[-size:]))
        self._content = content
        #: Where each block begins, packed and in the text; the last of them is the end.
        self._packed_at: Sequence[int] = raw["packed"]
        self._text_at: Sequence[int] = raw["text"]
        #: Sorted lines: a name, where its paragraphs begin in the text, and who provides it.
        self._lines: str = raw["lines"]
        self._block = lru_cache(_BLOCKS_KEPT)(self._unpacked_block)

    @classmethod
    def parse(cls, text: str) -> DebianIndex:
        """Of what an archive gave out."""
        places: defaultdict[str, list[str]] = defaultdict(list)
        providing: defaultdict[str, dict[str, None]] = defaultdict(dict)
        blocks: list[bytearray] = [bytearray()]
        at = 0
        for paragraph in split_paragraphs(text):
            name = _name(paragraph)
            if len(name.split()) != 1:
                continue  # It can't be asked for.
            places[name].append(str(at))
            for words in map(str.split, _provided(paragraph)):
                if words:
                    providing[words[0].partition(":")[0]][name] = None
            if len(blocks[-1]) >= _BLOCK_BYTES:
                blocks.append(bytearray())
            found = paragraph.encode() + _BETWEEN
            blocks[-1] += found
            at += len(found)
        names = sorted(places.keys() | providing.keys())
        lines = (f"{name}\t{' '.join(places[name])}\t{' '.join(providing[name])}\n" for name in names)
        return cls(_joined(blocks, "".join(lines)))

    @classmethod
    def read(cls, path: Path) -> DebianIndex:
        """What `write` wrote; raises OSError, and ValueError where it is damaged."""
        return cls(read_regular(path, max_bytes=_MAX_BYTES))

    def write(self, file: IO[bytes]) -> None:
        """Keeps it."""
        file.write(self._content)

    def paragraphs(self, name: str) -> Iterator[str]:
        """Of a package's versions, in the archive's order."""
        for place in map(int, self._line(name)[1].split()):
            number = bisect_right(self._text_at, place) - 1
            block, start = self._block(number), place - self._text_at[number]
            yield block[start : block.index(_BETWEEN, start)].decode()

    def providing(self, name: str) -> list[str]:
        """Packages that provide a name, in the archive's order."""
        return self._line(name)[2].split()

    @cached_property
    def names(self) -> Sequence[str]:
        """Of all packages, sorted."""
        lines = (line.split("\t") for line in self._lines.splitlines())
        return [name for name, places, _ in lines if places]

    def _line(self, name: str) -> Sequence[str]:
        """Found by halving: to parse all lines takes longer than all else that a build reads of an index."""
        low, high = 0, len(self._lines)
        while low < high:
            start = self._lines.rfind("\n", low, (low + high) // 2) + 1 or low
            end = self._lines.index("\n", start)
            there, _, rest = self._lines[start:end].partition("\t")
            if there == name:
                return (name, *rest.split("\t"))
            if there < name:
                low = end + 1
            else:
                high = start
        return (name, "", "")

    def _unpacked_block(self, number: int) -> bytes:
        return _unpack(memoryview(self._content)[self._packed_at[number] : self._packed_at[number + 1]])


def _joined(blocks: Sequence[bytearray], lines: str) -> bytes:
    """See `DebianIndex`. zstd: to unpack xz takes six times as long."""
    packed_at, text_at, content = [0], [0], bytearray()
    for block in blocks:
        content += _pack(block)
        packed_at.append(len(content))
        text_at.append(text_at[-1] + len(block))
    table = _pack(orjson.dumps({"packed": packed_at, "text": text_at, "lines": lines}))
    content += table + len(table).to_bytes(_NUMBER_BYTES)
    return bytes(content + isal_zlib.crc32(content).to_bytes(_NUMBER_BYTES))


def _pack(content: bytes | bytearray) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(content)


def _unpack(content: memoryview) -> bytes:
    found: bytes = zstandard.ZstdDecompressor().decompress(content)
    return found


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
