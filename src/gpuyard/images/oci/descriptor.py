"""Digests, media types, platforms and descriptors: how images name content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NewType

from gpuyard import errors
from gpuyard.images.oci.document import present, strings_of

#: "sha256:" and 64 lower-case hex digits.
Digest = NewType("Digest", str)

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_TO_OCI = {
    DOCKER_CONFIG: OCI_CONFIG,
    DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar": OCI_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": OCI_LAYER_ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    ),
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}


def digest_of(content: bytes) -> Digest:
    """SHA-256 of content that is in memory."""
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


def parse_digest(text: str) -> Digest:
    """Checks that text is a SHA-256 digest; raises ImageDamaged."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise errors.ImageDamaged(f"{text!r} is not a sha256 digest")
    return Digest(text)


@dataclass(frozen=True)
class Platform:
    """What an image runs on, by Go's names: linux, amd64, and a variant for 32-bit ARM."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Reads OS/ARCHITECTURE[/VARIANT]; raises UsageError."""
        parts = text.strip().lower().split("/")
        if len(parts) not in (2, 3) or not all(parts):
            raise errors.UsageError(
                f"{text!r} is not a platform", remedy="write OS/ARCHITECTURE, such as linux/amd64"
            )
        return cls(parts[0], _ARCHITECTURES.get(parts[1], parts[1]), parts[2] if len(parts) == 3 else "")

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Platform:
        """From a descriptor's platform object or from a config."""
        architecture = str(raw.get("architecture") or "")
        return cls(
            str(raw.get("os") or ""),
            _ARCHITECTURES.get(architecture, architecture),
            str(raw.get("variant") or ""),
            str(raw.get("os.version") or ""),
        )

    def raw(self) -> dict[str, Any]:
        """As JSON; empty fields are left out."""
        return present(
            os=self.os,
            architecture=self.architecture,
            variant=self.variant,
            **{"os.version": self.os_version},
        )

    def runs(self, wanted: Platform) -> bool:
        """Whether an image of this platform is one of the wanted platform; v8 is what arm64 always is."""
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return False
        default = "v8" if self.architecture == "arm64" else ""
        return not wanted.variant or (self.variant or default) == wanted.variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True)
class Descriptor:
    """One piece of content: its type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    artifact_type: str = ""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Descriptor:
        """From JSON; raises ImageDamaged."""
        try:
            size = raw["size"]
            if not isinstance(size, int) or size < 0:
                raise errors.ImageDamaged(f"a descriptor's size is {size!r}")
            return cls(
                str(raw["mediaType"]),
                parse_digest(raw["digest"]),
                size,
                strings_of(raw.get("annotations"), "annotations"),
                Platform.of(raw["platform"]) if raw.get("platform") else None,
                str(raw.get("artifactType") or ""),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise errors.ImageDamaged(
                f"a descriptor is not as the OCI image format has it: {error}"
            ) from error

    @classmethod
    def for_bytes(cls, media_type: str, content: bytes) -> Descriptor:
        """Of content that is in memory."""
        return cls(media_type, digest_of(content), len(content))

    def raw(self) -> dict[str, Any]:
        """As JSON; empty fields are left out."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size} | present(
            annotations=dict(self.annotations),
            platform=self.platform.raw() if self.platform else None,
            artifactType=self.artifact_type,
        )

    def as_oci(self) -> Descriptor:
        """The same content under OCI's media type where Docker's is an older name for it."""
        return replace(self, media_type=_TO_OCI.get(self.media_type, self.media_type))
