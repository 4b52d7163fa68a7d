"""What a build has made: the image by its names, and what it is made of on each platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpuyard.images.layers import Layer
from gpuyard.images.oci import OCI_MANIFEST, Config, Descriptor, Digest


@dataclass(frozen=True)
class BuiltImage:
    """One platform's image: its documents, and what the build added to the base.

    Attributes:
        config_json, manifest_json: as they are stored.
        layers: those that the build added to the base, each with its title.
        unchanged: the store had it already.
        present: which of the layers it had already.
    """

    config_json: bytes
    manifest_json: bytes
    annotations: Mapping[str, str]
    layers: tuple[tuple[str, Layer], ...]
    unchanged: bool = False
    present: frozenset[Digest] = frozenset()

    @property
    def manifest(self) -> Descriptor:
        """What an index lists."""
        return Descriptor.for_bytes(OCI_MANIFEST, self.manifest_json)


@dataclass(frozen=True)
class BuildResult:
    """What was built.

    Attributes:
        reference: the image by digest, by the name that nodes know it by.
        pushed: the same where it was pushed.
        tags: as they were asked for, the first being where it was built into.
        elsewhere: the image by digest in the other places that it was pushed to.
        manifest: the image's, or the index over several platforms.
    """

    reference: str
    pushed: str
    tags: tuple[str, ...]
    elsewhere: tuple[str, ...]
    manifest: Descriptor
    platforms: Mapping[str, BuiltImage]

    @property
    def tag(self) -> str:
        """The first one."""
        return self.tags[0]

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """Of its containers; that of all platforms, whose bases are one image's."""
        first = next(iter(self.platforms.values()))
        return Config.parse(first.config_json).container.entrypoint

    @property
    def digest(self) -> Digest:
        """The manifest's."""
        return self.manifest.digest

    @property
    def unchanged(self) -> bool:
        """Whether the store had all of it already."""
        return all(image.unchanged for image in self.platforms.values())
