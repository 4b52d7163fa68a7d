"""Manifests and indexes, of OCI and of Docker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuyard import errors
from gpuyard.images.oci.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from gpuyard.images.oci.document import canonical, parse_object, present, strings_of

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})


@dataclass(frozen=True)
class Manifest:
    """One image for one platform, or an artifact attached to an image by `subject`."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    subject: Descriptor | None = None
    artifact_type: str = ""
    media_type: str = OCI_MANIFEST

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "config": self.config.raw(),
                "layers": [layer.raw() for layer in self.layers],
            }
            | present(
                annotations=dict(self.annotations),
                subject=self.subject.raw() if self.subject else None,
                artifactType=self.artifact_type,
            )
        )


@dataclass(frozen=True)
class Index:
    """Several manifests under one name: one per platform, or the referrers of an image."""

    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    media_type: str = OCI_INDEX

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "manifests": [manifest.raw() for manifest in self.manifests],
            }
            | present(annotations=dict(self.annotations))
        )


def parse_manifest(content: bytes, media_type: str = "") -> Manifest | Index:
    """Reads a manifest or an index of either format.

    Args:
        content: JSON as it was served.
        media_type: as announced; the document's own `mediaType` wins (both are absent in some layouts).

    Raises:
        ImageDamaged: not JSON, of another type (Docker schema 1 included), or with fields missing.
    """
    raw = parse_object(content, "a manifest")
    kind = str(raw.get("mediaType") or media_type.partition(";")[0].strip())
    if kind not in INDEX_TYPES | MANIFEST_TYPES and raw.get("schemaVersion") == 2:
        kind = OCI_INDEX if "manifests" in raw else OCI_MANIFEST if "layers" in raw else kind
    try:
        return _document(raw, kind)
    except (TypeError, ValueError) as error:
        raise errors.ImageDamaged(f"a manifest is not as its format has it: {error}") from error


def _document(raw: Mapping[str, Any], kind: str) -> Manifest | Index:
    annotations = strings_of(raw.get("annotations"), "annotations")
    if kind in INDEX_TYPES:
        return Index(tuple(map(Descriptor.of, raw.get("manifests") or ())), annotations, kind)
    if kind in MANIFEST_TYPES and isinstance(raw.get("config"), dict):
        return Manifest(
            Descriptor.of(raw["config"]),
            tuple(map(Descriptor.of, raw.get("layers") or ())),
            annotations,
            Descriptor.of(raw["subject"]) if raw.get("subject") else None,
            str(raw.get("artifactType") or ""),
            kind,
        )
    raise errors.ImageDamaged(
        f"a manifest of type {kind or 'unknown'} can't be read",
        remedy="push the image again with a current tool; Docker's schema 1 is not supported",
    )
