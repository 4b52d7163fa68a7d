"""What can be told of an image from its manifest and config: layers with what made them, Python, base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.building.environment import LABEL_PYTHON, PREFIX
from gpuyard.building.revision import ANNOTATION as REVISION
from gpuyard.building.revision import recorded_revision
from gpuyard.images.oci import (
    Config,
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    damage_named,
    parse_manifest,
)
from gpuyard.images.places import Place
from gpuyard.images.store import read_blob


@dataclass(frozen=True)
class ShownImage:
    """One platform's image.

    Attributes:
        size: of all layers as they travel, bytes.
        layers: each with what its history says of it.
        python: its version as the config tells it; empty when it doesn't.
        base: name of the image that it stands on, with its digest; empty when not known.
        revision: the commit that it was built of; empty when not known.
        built: whether gpuyard built it.
    """

    platform: Platform
    digest: Digest
    layers: tuple[tuple[Descriptor, str], ...]
    python: str
    base: str
    revision: str
    built: bool
    config: Config

    @property
    def size(self) -> int:
        """Compressed bytes."""
        return sum(layer.size for layer, _ in self.layers)


async def show_image(place: Place) -> tuple[ShownImage, ...]:
    """The image behind a place, once per platform; attestations are left out.

    Raises:
        ImageNotFound: it isn't there.
    """
    found, content = await place.store.get_manifest(place.target)
    with damage_named(place.text):
        document = parse_manifest(content, found.media_type)
    try:
        revision = await recorded_revision(place.store, found.digest)
    except errors.ImageError:
        # A registry may keep who reads images from what refers to them.
        revision = ""
    if isinstance(document, Manifest):
        return (await _shown(place, found.digest, document, revision),)
    return tuple([await _entry(place, entry, revision) for entry in _real(document)])


def _real(index: Index) -> Iterator[Descriptor]:
    return (e for e in index.manifests if e.platform is None or e.platform.os not in ("", "unknown"))


async def _entry(place: Place, entry: Descriptor, revision: str) -> ShownImage:
    found, content = await place.store.get_manifest(entry.digest)
    with damage_named(place.text):
        document = parse_manifest(content, found.media_type)
    if not isinstance(document, Manifest):
        raise errors.ImageDamaged(f"{place.text} is an index of indexes, which nothing can run")
    return await _shown(place, entry.digest, document, revision)


async def _shown(place: Place, digest: Digest, manifest: Manifest, revision: str) -> ShownImage:
    content = await read_blob(place.store, manifest.config)
    with damage_named(place.text):
        config = Config.parse(content)
    made = [entry.created_by or entry.comment for entry in config.history if not entry.empty_layer]
    made += [""] * (len(manifest.layers) - len(made))
    named = manifest.annotations
    base = named.get("org.opencontainers.image.base.name", "")
    base_digest = named.get("org.opencontainers.image.base.digest", "")
    container = config.container
    return ShownImage(
        platform=config.platform,
        digest=digest,
        layers=tuple((layer, _plain(text)) for layer, text in zip(manifest.layers, made, strict=False)),
        python=container.labels.get(LABEL_PYTHON) or container.environment.get("PYTHON_VERSION", ""),
        base=f"{base}@{base_digest}" if base and base_digest else base,
        # Other builders write it into the image.
        revision=revision or named.get(REVISION, "") or container.labels.get(REVISION, ""),
        built=container.entrypoint[:1] == (f"{PREFIX}/bin/python",),
        config=config,
    )


def _plain(text: str) -> str:
    """What a history entry says, without the shell and the markers that builders put around it."""
    text = text.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").removesuffix(" # buildkit")
    return " ".join(text.split())
