"""What a Python package's metadata says: name, version, and what it requires."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"^(Name|Version|Requires-Dist):[ \t]*(\S[^\n]*?)[ \t\r]*$", re.MULTILINE)
_SECTION = re.compile(r"\[([^:\]]*)(?::([^\]]*))?\]")


@dataclass(frozen=True)
class Metadata:
    """Of the header of METADATA or PKG-INFO.

    Attributes:
        requires: as PEP 508 writes it.
    """

    name: str = ""
    version: str = ""
    requires: tuple[str, ...] = ()


def read_metadata(header: bytes) -> Metadata:
    """Reads a header; what it lacks is empty."""
    name = version = ""
    requires: list[str] = []
    for key, value in _HEADER.findall(header.decode("utf-8", "replace")):
        if key == "Requires-Dist":
            requires.append(value)
        elif key == "Name":
            name = name or value
        else:
            version = version or value
    return Metadata(name, version, tuple(requires))


def read_egg_requires(content: bytes) -> tuple[str, ...]:
    """setuptools' requires.txt: what is under `[extra:marker]` gets both as a marker."""
    return tuple(_egg_requires(content.decode("utf-8", "replace")))


def _egg_requires(text: str) -> Iterator[str]:
    marker = ""
    for line in map(str.strip, text.splitlines()):
        if section := _SECTION.fullmatch(line):
            extra, condition = section[1].strip(), (section[2] or "").strip()
            parts = [f"({condition})"] if condition else []
            parts += [f'extra == "{extra}"'] if extra else []
            marker = " and ".join(parts)
        elif line:
            yield f"{line} ; {marker}" if marker else line
