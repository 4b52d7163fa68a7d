"""What an image says of itself as a system: its packages' database and sources, its libraries, its loader."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gpuyard.elf import Elf

#: Files that are kept whole, under a path without a leading slash.
_FILES = re.compile(
    r"(?:usr/lib|etc)/os-release"
    r"|var/lib/dpkg/(?:status|arch|diversions|statoverride|status\.d/[^/]+|alternatives/[^/]+)"
    r"|var/lib/dpkg/(?:info/[^/]+\.list|triggers/[^/]+)"
    r"|var/lib/apt/extended_states"
    r"|etc/apt/(?:sources\.list|preferences|apt\.conf|trusted\.gpg)"
    r"|etc/apt/(?:sources\.list|preferences|apt\.conf|trusted\.gpg|keyrings|auth\.conf)(?:\.d)?/[^/]+"
    r"|usr/share/keyrings/[^/]+"
    r"|etc/dpkg/dpkg\.cfg(?:\.d/[^/]+)?"
    r"|etc/ld\.so\.(?:conf|cache|preload|conf\.d/[^/]+)"
)
_LIBRARY = re.compile(r".*/[^/]+\.so(?:\.[^/]+)?")


def is_system_file(path: str) -> bool:
    """Whether a file is kept whole."""
    return _FILES.fullmatch(path) is not None


def is_library(path: str) -> bool:
    """Whether a file or a link is a shared library by its name."""
    return _LIBRARY.fullmatch(path) is not None


@dataclass(frozen=True)
class BaseSystem:
    """Paths have no leading slash.

    Attributes:
        files: what the package manager and the loader of the system read.
        libraries: shared libraries.
        library_links: links with a library's name, and where each leads at last.
        requires: normalised name of a package of the image's Python → what it requires, as in its
            metadata (PEP 508); those that require nothing are there with nothing.
    """

    files: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    libraries: Mapping[str, Elf] = field(default_factory=dict, hash=False)
    library_links: Mapping[str, str] = field(default_factory=dict, hash=False)
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        return {
            # Bytes as the characters of the same numbers.
            "files": {path: content.decode("latin-1") for path, content in self.files.items()},
            "libraries": {path: asdict(elf) for path, elf in self.libraries.items()},
            "library_links": dict(self.library_links),
            "requires": dict(self.requires),
        }

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> BaseSystem:
        """From the cache."""
        return cls(
            {path: content.encode("latin-1") for path, content in raw["files"].items()},
            {path: Elf.of(elf) for path, elf in raw["libraries"].items()},
            raw["library_links"],
            {name: tuple(lines) for name, lines in raw["requires"].items()},
        )
