"""A package as gpuyard.lock has it, and where it lies in the cache once it is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.images.cache import Cache
from gpuyard.images.oci import Platform

DEBS = "debs"
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_VERSION = re.compile(r"[0-9A-Za-z.+~:-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"[\w./+~%:@=-]+\.deb")
#: Debian's names of architectures, by OCI's and its variant.
_ARCHITECTURES = {
    "amd64": "amd64",
    "arm64": "arm64",
    "386": "i386",
    "ppc64le": "ppc64el",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


@dataclass(frozen=True, order=True)
class SystemPackage:
    """One package to unpack.

    Attributes:
        path: of its file below its archive's address.
        asked: whether the user named it; else it came with another.
    """

    name: str
    version: str
    arch: str
    size: int
    sha256: str
    path: str
    asked: bool = False

    def __post_init__(self) -> None:
        if (
            not _NAME.fullmatch(self.name)
            or not _VERSION.fullmatch(self.version)
            or not self.arch.isalnum()
            or not _SHA256.fullmatch(self.sha256)
            or not _PATH.fullmatch(self.path)
            or ".." in self.path.split("/")
        ):
            raise errors.BuildError(
                f"{self.name!r} in {self.path!r} is not a package with a hash",
                remedy="lock anew with --upgrade",
            )

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> SystemPackage:
        """From a lock; raises KeyError and ValueError."""
        return cls(
            str(raw["name"]),
            str(raw["version"]),
            str(raw["arch"]),
            int(raw["size"]),
            str(raw["sha256"]),
            str(raw["path"]),
            bool(raw.get("asked", False)),
        )

    def to_toml(self) -> str:
        """As a lock has it."""
        asked = ", asked = true" if self.asked else ""
        return (
            f'{{ name = "{self.name}", version = "{self.version}", arch = "{self.arch}", '
            f'size = {self.size}, sha256 = "{self.sha256}", path = "{self.path}"{asked} }}'
        )

    def kept(self, cache: Cache) -> Path:
        """Where the tar of its files lies once it is fetched."""
        return cache.path(DEBS, f"{self.sha256}.tar.zst")

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def debian_arch(platform: Platform) -> str:
    """Debian's name of a platform's architecture; raises BuildError for one that it hasn't got."""
    if platform.os == "linux":
        if platform.architecture == "arm":
            return "armel" if platform.variant in ("v5", "v6") else "armhf"
        if found := _ARCHITECTURES.get(platform.architecture):
            return found
    raise errors.BuildError(
        f"there are no Debian packages for {platform}", remedy="build for linux/amd64 or linux/arm64"
    )
