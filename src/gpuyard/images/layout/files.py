"""The files of an OCI layout, in a folder or in a tar; written so that none is ever half there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from gpuyard import errors
from gpuyard.atomic_files import unfinished_file
from gpuyard.images.oci import Digest

#: 1980-01-01: zip tools reject earlier, and images use the same.
_MTIME = 315532800


class Files(Protocol):
    """Files of a layout by their path inside it."""

    def open(self, name: str) -> BinaryIO:
        """Opens one for reading; raises FileNotFoundError."""

    def size(self, name: str) -> int | None:
        """Bytes; None when there is no such file."""


class Folder:
    """A folder on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, name: str) -> BinaryIO:
        """See `Files.open`."""
        return (self.root / name).open("rb")

    def size(self, name: str) -> int | None:
        """See `Files.size`."""
        path = self.root / name
        return path.stat().st_size if path.is_file() else None


class Archive:
    """Regular files of an uncompressed tar, read where they lie; nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path, "r:") as tar:
            self._members = {member.name.removeprefix("./"): member for member in tar if member.isreg()}
        self._tar = tarfile.open(path, "r:")  # noqa: SIM115  closed by close

    def open(self, name: str) -> BinaryIO:
        """See `Files.open`."""
        if name not in self._members:
            raise FileNotFoundError(name)
        file = self._tar.extractfile(self._members[name])
        assert file is not None  # regular files only
        return file  # type: ignore[return-value]

    def size(self, name: str) -> int | None:
        """See `Files.size`."""
        return self._members[name].size if name in self._members else None

    def close(self) -> None:
        """Closes the tar."""
        self._tar.close()


class FileUpload:
    """Implements `store.BlobUpload` with an unfinished file, which gets its name at the end."""

    def __init__(self, where: str, file: IO[bytes]) -> None:
        self._where, self._file = where, file
        self._sha256 = hashlib.sha256()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `BlobUpload.write`."""
        with writing(self._where):
            self._file.write(data)
        self._sha256.update(data)
        await asyncio.sleep(0)

    async def commit(self, digest: Digest) -> None:
        """See `BlobUpload.commit`."""
        if f"sha256:{self._sha256.hexdigest()}" != digest:
            raise errors.ImageDamaged(f"writing to {self._where}: what was written is not {digest}")
        await asyncio.to_thread(self._finish, digest)

    def _finish(self, digest: Digest) -> None:
        with writing(self._where):
            _finish(self._file, Path(self._file.name).with_name(digest.removeprefix("sha256:")))


def open_archive(path: Path) -> Archive:
    """Opens an archive; raises LayoutError when it is none."""
    try:
        files = Archive(path)
    except (OSError, tarfile.TarError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not an uncompressed tar"
        raise errors.LayoutError(f"{path} can't be read: {reason}", remedy="check the path") from error
    if files.size("index.json") is None:
        docker = files.size("manifest.json") is not None
        files.close()
        raise errors.LayoutError(
            f"{path} is not an OCI archive: it has no index.json",
            remedy=f"convert it: skopeo copy docker-archive:{path} oci-archive:NEW.tar" if docker else "",
        )
    return files


def pack(folder: Path, path: Path) -> None:
    """Writes the folder as a tar with equal bytes for equal content."""
    with writing(str(path)), unfinished_file(path.parent) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            blobs = sorted(p for p in (folder / "blobs" / "sha256").iterdir())
            for source in (folder / "oci-layout", folder / "index.json", *blobs):
                entry = tarfile.TarInfo(source.relative_to(folder).as_posix())
                entry.size, entry.mtime, entry.mode = source.stat().st_size, _MTIME, 0o644
                with source.open("rb") as content:
                    tar.addfile(entry, content)
        _finish(file, path)


def _finish(file: IO[bytes], path: Path) -> None:
    """Has the content on the disk before the name."""
    file.flush()
    os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turns OSError into LayoutError."""
    try:
        yield
    except OSError as error:
        raise errors.LayoutError(
            f"writing {what} failed: {error.strerror or error}", remedy="check free space and permissions"
        ) from error
