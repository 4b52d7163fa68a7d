"""Images as values: digests, descriptors, manifests, indexes, configs.

Sources: OCI image-spec 1.1, Docker image manifest v2 schema 2.
Reading keeps what it doesn't know only where a build must hand it on (the container's config).
Writing gives canonical bytes: keys sorted, no spaces, so equal values have equal digests.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NewType

import orjson

from gpuyard import errors

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

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
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


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Adds to ImageDamaged what was read, which those who parse bytes don't know."""
    try:
        yield
    except errors.ImageDamaged as error:
        remedy = error.remedy or "push or copy the image again"
        raise errors.ImageDamaged(f"{what}: {error.message}", remedy=remedy) from error


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
        return _present(
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
                _strings(raw.get("annotations"), "annotations"),
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
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size} | _present(
            annotations=dict(self.annotations),
            platform=self.platform.raw() if self.platform else None,
            artifactType=self.artifact_type,
        )

    def as_oci(self) -> Descriptor:
        """The same content under OCI's media type where Docker's is an older name for it."""
        return replace(self, media_type=_TO_OCI.get(self.media_type, self.media_type))


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
        return _canonical(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "config": self.config.raw(),
                "layers": [layer.raw() for layer in self.layers],
            }
            | _present(
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
        return _canonical(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "manifests": [manifest.raw() for manifest in self.manifests],
            }
            | _present(annotations=dict(self.annotations))
        )

    def select(self, wanted: Platform) -> Descriptor | None:
        """The first manifest for the platform; attestations (platform unknown/unknown) never match."""
        return next((m for m in self.manifests if m.platform is not None and m.platform.runs(wanted)), None)

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """What there is to choose from."""
        named = (m.platform for m in self.manifests if m.platform is not None)
        return tuple(platform for platform in named if platform.os not in ("", "unknown"))


def parse_manifest(content: bytes, media_type: str = "") -> Manifest | Index:
    """Reads a manifest or an index of either format.

    Args:
        content: JSON as it was served.
        media_type: as announced; the document's own `mediaType` wins (both are absent in some layouts).

    Raises:
        ImageDamaged: not JSON, of another type (Docker schema 1 included), or with fields missing.
    """
    raw = _object(content, "a manifest")
    kind = str(raw.get("mediaType") or media_type.partition(";")[0].strip())
    if kind not in INDEX_TYPES | MANIFEST_TYPES and raw.get("schemaVersion") == 2:
        kind = OCI_INDEX if "manifests" in raw else OCI_MANIFEST if "layers" in raw else kind
    try:
        return _document(raw, kind)
    except (TypeError, ValueError) as error:
        raise errors.ImageDamaged(f"a manifest is not as its format has it: {error}") from error


def _document(raw: Mapping[str, Any], kind: str) -> Manifest | Index:
    annotations = _strings(raw.get("annotations"), "annotations")
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


@dataclass(frozen=True)
class History:
    """How one layer came about; `empty_layer` for a step that made none."""

    created: str = ""
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> History:
        """From JSON."""
        return cls(
            str(raw.get("created") or ""),
            str(raw.get("created_by") or ""),
            str(raw.get("comment") or ""),
            str(raw.get("author") or ""),
            bool(raw.get("empty_layer")),
        )

    def raw(self) -> dict[str, Any]:
        """As JSON; empty fields are left out."""
        return _present(
            created=self.created,
            created_by=self.created_by,
            comment=self.comment,
            author=self.author,
            empty_layer=self.empty_layer,
        )


@dataclass(frozen=True)
class ContainerConfig:
    """What a container of the image starts with.

    Attributes:
        env: NAME=value, in order.
        other: fields that a build hands on unread (ExposedPorts, Volumes, Healthcheck, StopSignal…).
    """

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> ContainerConfig:
        """From JSON."""
        known = {"User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Labels"}
        return cls(
            str(raw.get("User") or ""),
            _texts(raw.get("Env"), "Env"),
            _texts(raw.get("Entrypoint"), "Entrypoint"),
            _texts(raw.get("Cmd"), "Cmd"),
            str(raw.get("WorkingDir") or ""),
            _strings(raw.get("Labels"), "Labels"),
            {name: value for name, value in raw.items() if name not in known},
        )

    def raw(self) -> dict[str, Any]:
        """As JSON; empty fields are left out."""
        return dict(self.other) | _present(
            User=self.user,
            Env=list(self.env),
            Entrypoint=list(self.entrypoint),
            Cmd=list(self.cmd),
            WorkingDir=self.working_dir,
            Labels=dict(self.labels),
        )

    @property
    def environment(self) -> dict[str, str]:
        """Env as a mapping; a later entry of the same name wins."""
        return {name: value for name, _, value in (entry.partition("=") for entry in self.env)}


@dataclass(frozen=True)
class Config:
    """An image's config: platform, how a container starts, its layers' uncompressed digests, history."""

    platform: Platform
    container: ContainerConfig = ContainerConfig()
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    created: str = ""
    author: str = ""

    @classmethod
    def parse(cls, content: bytes) -> Config:
        """Reads OCI's or Docker's; raises ImageDamaged."""
        raw = _object(content, "an image config")
        try:
            return cls(
                Platform.of(raw),
                ContainerConfig.of(raw.get("config") or {}),
                tuple(parse_digest(diff_id) for diff_id in (raw.get("rootfs") or {}).get("diff_ids") or ()),
                tuple(map(History.of, raw.get("history") or ())),
                str(raw.get("created") or ""),
                str(raw.get("author") or ""),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise errors.ImageDamaged(f"an image config is not as the OCI format has it: {error}") from error

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return _canonical(
            self.platform.raw()
            | {
                "config": self.container.raw(),
                "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
                "history": [entry.raw() for entry in self.history],
            }
            | _present(created=self.created, author=self.author)
        )


def _object(content: bytes, what: str) -> dict[str, Any]:
    try:
        raw = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise errors.ImageDamaged(f"{what} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise errors.ImageDamaged(f"{what} is not a JSON object")
    return raw


def _texts(raw: Any, name: str) -> tuple[str, ...]:
    """A list of strings, null or nothing; raises ImageDamaged."""
    if raw and not (isinstance(raw, list) and all(isinstance(text, str) for text in raw)):
        raise errors.ImageDamaged(f"{name} of an image config is not a list of strings")
    return tuple(raw or ())


def _strings(raw: Any, name: str) -> dict[str, str]:
    """A mapping of strings, null or nothing; raises ImageDamaged."""
    if raw and not (isinstance(raw, dict) and all(isinstance(text, str) for text in raw.values())):
        raise errors.ImageDamaged(f"{name} of an image are not a mapping of strings")
    return dict(raw or {})


def _canonical(raw: Mapping[str, Any]) -> bytes:
    return orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)


def _present(**fields: str | bool | Sequence[Any] | Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
