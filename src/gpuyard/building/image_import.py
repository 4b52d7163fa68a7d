"""A root file system's tar as a base image of one layer."""

from __future__ import annotations

import asyncio
import gzip
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from isal import igzip

from gpuyard import errors
from gpuyard.building.documents.image_config import timestamp
from gpuyard.building.environment import LABEL_PYTHON
from gpuyard.building.layers.layer_upload import descriptor_of, upload_new
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.contents.reader import ContentsReader
from gpuyard.images.layers import EPOCH, PIECE, Compression, Packer
from gpuyard.images.oci import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Config,
    ContainerConfig,
    Descriptor,
    History,
    Manifest,
    Platform,
    damage_named,
)
from gpuyard.images.places import Place
from gpuyard.images.transfer import ensure_blobs

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAGIC, _MAGIC_AT = b"ustar", 257
_GZIP = b"\x1f\x8b"
_OF_AN_IMAGE = re.compile(
    rb"(?:\./)?(?:blobs/|oci-layout\0|index\.json\0|manifest\.json\0|repositories\0|[0-9a-f]{64}[/.])"
)


async def import_root(
    file: Path,
    target: Place,
    platform: Platform,
    compression: Compression,
    env: Mapping[str, str],
    progress: Callable[[int, int], None],
) -> Descriptor:
    """Streams a tar, compressed by gzip or not, into a store as an image with a shell for a command.

    It is read twice: a label says which Python is in it.

    Args:
        file: the tar.
        target: where the image goes.
        platform: what its programs run on.
        compression: of the layer.
        env: of containers, beside a PATH.
        progress: told of the file's bytes read and its size.

    Raises:
        UsageError: the file can't be read, or is no tar.
    """
    _check(file)
    environment = {"PATH": _PATH, **env}
    contents = await asyncio.to_thread(_contents, file, environment)

    def make() -> Packer:
        return Packer(_tar(file, progress), compression)

    layer = await upload_new(target.store, make, lambda size: None)
    created = timestamp(EPOCH)
    labels = {LABEL_PYTHON: contents.python.version} if contents.python else {}
    config = Config(
        platform=platform,
        container=ContainerConfig(
            env=tuple(f"{name}={value}" for name, value in environment.items()),
            cmd=("/bin/sh",),
            labels=labels,
        ),
        diff_ids=(layer.diff_id,),
        history=(History(created=created, created_by=f"gpuyard image import {file.name}"),),
        created=created,
    ).to_bytes()
    descriptor, blob = descriptor_of(OCI_CONFIG, config)
    await ensure_blobs(target.store, [blob])
    manifest = Manifest(config=descriptor, layers=(layer.blob,))
    return await target.store.put_manifest(manifest.to_bytes(), OCI_MANIFEST, target.tag or None)


def _contents(file: Path, env: Mapping[str, str]) -> ImageContents:
    reader = ContentsReader()
    with damage_named(str(file)), _reading(file), _open(file) as tar:
        reader.read_layer(tar)
    return reader.contents(env)


def _check(file: Path) -> None:
    try:
        mode = file.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise errors.UsageError(
                f"{file} isn't a regular file, and it would be read twice",
                remedy="write the archive to a file first",
            )
        with _open(file) as tar:
            head = tar.read(1024)
    except (OSError, EOFError) as error:
        raise errors.UsageError(
            f"can't read {file}: {error}", remedy="name a .tar or .tar.gz that is there"
        ) from error
    if head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        raise errors.UsageError(
            f"{file} is not a tar archive",
            remedy="make one: mmdebstrap --variant=minbase --include=python3 bookworm rootfs.tar",
        )
    # A tar of `.` names the folder itself first.
    if any(_OF_AN_IMAGE.match(head, at) for at in (0, 512)):
        _refuse_image(file)


def _refuse_image(file: Path) -> None:
    """For an archive whose first member is one that images begin with: raises UsageError where it is one."""
    import tarfile  # Few come here, and it costs start-up time.

    with _reading(file), _open(file) as opened, tarfile.open(fileobj=opened, mode="r|") as tar:
        names = {member.name.removeprefix("./") for member in tar}
    plain = f"gunzip it first, and take {file.with_suffix('')}" if _is_packed(file) else ""
    if "index.json" in names:
        raise errors.UsageError(
            f"{file} is an image (an OCI archive), and no root file system",
            remedy=plain or f"build on it as it is: --base oci-archive:{file}",
        )
    if "manifest.json" in names:
        raise errors.UsageError(
            f"{file} is an image (of docker save), and no root file system",
            remedy=f"convert it, and build on that: skopeo copy docker-archive:{file} oci:images:base",
        )


def _is_packed(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == _GZIP


def _open(file: Path) -> IO[bytes]:
    if _is_packed(file):
        return cast("IO[bytes]", igzip.IGzipFile(file, "rb"))  # type: ignore[no-untyped-call]
    return file.open("rb")


def _tar(file: Path, progress: Callable[[int, int], None]) -> Iterator[bytes]:
    total = file.stat().st_size
    done = 0
    with _reading(file), _open(file) as tar:
        while piece := tar.read(PIECE):
            yield piece
            done += len(piece)
            progress(done, max(done, total))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise errors.UsageError(f"can't read {file}: {error}", remedy="make the archive again") from error
