"""Configs of images: what a container starts with, and how the layers came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuyard import errors
from gpuyard.images.oci.descriptor import Digest, Platform, parse_digest
from gpuyard.images.oci.document import canonical, parse_object, present, strings_of, texts_of


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
        return present(
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
            texts_of(raw.get("Env"), "Env"),
            texts_of(raw.get("Entrypoint"), "Entrypoint"),
            texts_of(raw.get("Cmd"), "Cmd"),
            str(raw.get("WorkingDir") or ""),
            strings_of(raw.get("Labels"), "Labels"),
            {name: value for name, value in raw.items() if name not in known},
        )

    def raw(self) -> dict[str, Any]:
        """As JSON; empty fields are left out."""
        return dict(self.other) | present(
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
        raw = parse_object(content, "an image config")
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
        return canonical(
            self.platform.raw()
            | {
                "config": self.container.raw(),
                "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
                "history": [entry.raw() for entry in self.history],
            }
            | present(created=self.created, author=self.author)
        )
