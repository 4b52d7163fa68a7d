"""OCI layouts that hold images' manifests and configs, and no layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpuyard.images import oci
from gpuyard.images.layout.store import open_layout


async def write_image(
    path: Path,
    *platforms: str,
    env: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
    entrypoint: tuple[str, ...] = (),
    tag: str = "latest",
) -> str:
    """Puts an image, or an index of several platforms, into a layout; gives its reference."""
    async with open_layout(path, write=True) as store:
        entries = []
        for platform in platforms:
            config = oci.Config(
                oci.Platform.parse(platform),
                oci.ContainerConfig(
                    env=tuple(f"{k}={v}" for k, v in env.items()), entrypoint=entrypoint, labels=labels or {}
                ),
            ).to_bytes()

            async def content(config: bytes = config):  # type: ignore[no-untyped-def]
                yield config

            described = oci.Descriptor.for_bytes(oci.OCI_CONFIG, config)
            await store.put_blob(described.digest, described.size, content)
            manifest = oci.Manifest(described, ()).to_bytes()
            only = len(platforms) == 1
            entry = await store.put_manifest(manifest, oci.OCI_MANIFEST, tag if only else None)
            entries.append(
                oci.Descriptor(entry.media_type, entry.digest, entry.size, {}, oci.Platform.parse(platform))
            )
        if len(entries) > 1:
            await store.put_manifest(oci.Index(tuple(entries)).to_bytes(), oci.OCI_INDEX, tag)
    return f"oci:{path}:{tag}"
