"""OCI image layouts: a folder, or the same as a .tar archive, as an `ImageStore`.

Blobs appear under their digest by a rename of what was written, hashed and synced; index.json likewise, so a
reader never sees half of either. An archive is read in place and written as a whole when it is closed.
Source: OCI image-spec 1.1, image-layout.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from gpuyard import errors
from gpuyard.atomic_files import replace_file, sweep, unfinished_file, unfinished_folder
from gpuyard.images import oci
from gpuyard.images.layout.files import (
    Files,
    FileUpload,
    Folder,
    open_archive,
    pack,
    writing,
)
from gpuyard.images.oci import Descriptor, Digest
from gpuyard.images.store import MOST_DOCUMENT, Content

_MARK = b'{"imageLayoutVersion":"1.0.0"}'
_REF_NAME = "org.opencontainers.image.ref.name"
_PIECE_BYTES = 1 << 18


class LayoutStore:
    """Implements `store.ImageStore` over a layout; made by `open_layout`.

    Tags are index.json's ref.name annotations. A manifest put without a tag is found by digest only, and
    listed in index.json only when it has a subject. A whole image name as ref.name counts as its tag.
    """

    def __init__(self, name: str, files: Files, writable: Path | None) -> None:
        self.name = name
        self._files = files
        self._writable = writable

    async def find_manifest(self, target: str) -> Descriptor | None:
        """See `ImageStore.find_manifest`."""
        try:
            return (await self.get_manifest(target))[0]
        except errors.ImageNotFound:
            return None
        except errors.ImageDamaged:
            if ":" not in target:
                raise
            return None  # What is under the digest is something else.

    async def get_manifest(self, target: str) -> tuple[Descriptor, bytes]:
        """See `ImageStore.get_manifest`."""
        index = self._index()
        if ":" in target:
            digest = oci.parse_digest(target)
        else:
            names = {_tag(entry): entry.digest for entry in index.manifests}
            if target not in names:
                there = ", ".join(sorted(name for name in names if name)) or "none"
                raise errors.ImageNotFound(
                    f"reading {self.name}: there is no tag {target!r}", remedy=f"tags there: {there}"
                )
            digest = names[target]
        with self._reading(f"{self.name}@{digest}"), self._files.open(_blob_path(digest)) as file:
            content = file.read(MOST_DOCUMENT)
        if oci.digest_of(content) != digest:
            raise _damaged(self.name, digest)
        with oci.damage_named(f"{self.name}@{digest}"):
            return Descriptor.for_bytes(oci.parse_manifest(content).media_type, content), content

    async def open_blob(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """See `ImageStore.open_blob`."""
        sha256, received = hashlib.sha256(), 0
        with self._reading(f"{self.name}@{blob.digest}"), self._files.open(_blob_path(blob.digest)) as file:
            while piece := file.read(_PIECE_BYTES):
                sha256.update(piece)
                received += len(piece)
                yield piece
                await asyncio.sleep(0)
        if received != blob.size or f"sha256:{sha256.hexdigest()}" != blob.digest:
            raise _damaged(self.name, blob.digest)

    async def has_blob(self, digest: Digest, size: int | None = None) -> bool:
        """See `ImageStore.has_blob`."""
        found = self._files.size(_blob_path(digest))
        return found is not None and size in (None, found)

    async def put_blob(self, digest: Digest, size: int, content: Content) -> None:
        """See `ImageStore.put_blob`."""
        async with self.start_upload() as upload:
            sent = 0
            async for piece in content():
                await upload.write(piece)
                sent += len(piece)
            if sent != size:
                raise errors.ImageDamaged(f"{digest} should have {size} bytes and has {sent}")
            await upload.commit(digest)

    @asynccontextmanager
    async def start_upload(self) -> AsyncIterator[FileUpload]:
        """See `ImageStore.start_upload`."""
        folder = self._root() / "blobs" / "sha256"
        with ExitStack() as stack:
            with writing(self.name):
                file = stack.enter_context(unfinished_file(folder))
            yield FileUpload(self.name, file)

    async def mount_blob(self, digest: Digest, from_repository: str) -> bool:
        """See `ImageStore.mount_blob`; a layout has no other repositories."""
        return False

    async def put_manifest(self, content: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """See `ImageStore.put_manifest`."""
        document = oci.parse_manifest(content, media_type)
        stored = Descriptor.for_bytes(media_type, content)

        async def whole() -> AsyncIterator[bytes]:
            yield content

        await self.put_blob(stored.digest, stored.size, whole)
        artifact = isinstance(document, oci.Manifest) and document.subject is not None
        if tag is not None or artifact:
            entry = replace(
                stored,
                annotations={_REF_NAME: tag} if tag else dict(document.annotations),
                artifact_type=document.artifact_type if isinstance(document, oci.Manifest) else "",
            )
            await asyncio.to_thread(self._list, entry)
        return stored

    async def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """See `ImageStore.referrers`; reads the manifests that index.json lists."""
        found = []
        for entry in self._index().manifests:
            document = oci.parse_manifest((await self.get_manifest(entry.digest))[1], entry.media_type)
            if isinstance(document, oci.Manifest) and document.subject and document.subject.digest == digest:
                kind = document.artifact_type or document.config.media_type
                found.append(replace(entry, annotations=document.annotations, artifact_type=kind))
        return tuple(found)

    def _index(self) -> oci.Index:
        with self._reading(self.name), self._files.open("index.json") as file:
            content = file.read(MOST_DOCUMENT)
        with oci.damage_named(f"{self.name}/index.json"):
            index = oci.parse_manifest(content, oci.OCI_INDEX)
        if not isinstance(index, oci.Index):
            raise errors.LayoutError(f"{self.name}: index.json is not an image index")
        return index

    def _list(self, entry: Descriptor) -> None:
        """Adds an entry, taking the tag from whoever had it; one writer at a time, of all processes."""
        root = self._root()
        with writing(self.name), (root / "oci-layout").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            index, tag = self._index(), _tag(entry)
            kept = [
                e
                for e in index.manifests
                if (_tag(e) != tag if tag else (e.digest, _tag(e)) != (entry.digest, ""))
            ]
            replace_file(root / "index.json", replace(index, manifests=(*kept, entry)).to_bytes(), mode=0o644)

    def _root(self) -> Path:
        if self._writable is None:
            raise errors.LayoutError(f"{self.name} was opened for reading")
        return self._writable

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise errors.ImageNotFound(
                f"reading {what}: it isn't in the layout",
                remedy="the layout is incomplete; copy the image again",
            ) from error
        except (OSError, tarfile.TarError) as error:
            raise errors.LayoutError(f"reading {what} failed: {error}") from error


@asynccontextmanager
async def open_layout(
    path: Path, *, archive: bool = False, write: bool = False
) -> AsyncIterator[LayoutStore]:
    """Opens a layout's folder or archive.

    Args:
        path: where it is.
        archive: a .tar instead of a folder.
        write: makes a folder that isn't there. An archive is written anew, in place of what was there, when
            the block ends without an error.

    Raises:
        LayoutError: not a layout, or not readable.
    """
    if not archive:
        if write:
            _make(path)
            for swept in (path, path / "blobs" / "sha256"):
                sweep(swept)
        elif not _is_layout(path):
            raise errors.LayoutError(
                f"{path} is not an OCI layout: it has no index.json", remedy="check the path"
            )
        yield LayoutStore(str(path), Folder(path), path if write else None)
    elif write:
        sweep(path.parent)
        with ExitStack() as stack:
            with writing(str(path)):
                folder = stack.enter_context(unfinished_folder(path.parent))
            _make(folder)
            yield LayoutStore(str(path), Folder(folder), folder)
            await asyncio.to_thread(pack, folder, path)
    else:
        files = open_archive(path)
        try:
            yield LayoutStore(str(path), files, None)
        finally:
            files.close()


def _is_layout(path: Path) -> bool:
    try:
        return (path / "index.json").is_file()
    except OSError as error:
        raise errors.LayoutError(
            f"{path} can't be read: {error.strerror}", remedy="mend its permissions, or check the path"
        ) from error


def _make(folder: Path) -> None:
    with writing(str(folder)):
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        if not (folder / "index.json").exists():
            replace_file(folder / "index.json", oci.Index(()).to_bytes(), mode=0o644)
        if not (folder / "oci-layout").exists():
            replace_file(folder / "oci-layout", _MARK, mode=0o644)


def _tag(entry: Descriptor) -> str:
    """The tag in an entry's ref.name, which some tools write as a whole image name."""
    name = entry.annotations.get(_REF_NAME, "").rpartition("/")[2]
    return name.rpartition(":")[2]


def _blob_path(digest: Digest) -> str:
    return f"blobs/sha256/{oci.parse_digest(digest).removeprefix('sha256:')}"


def _damaged(name: str, digest: Digest) -> errors.ImageDamaged:
    return errors.ImageDamaged(
        f"reading {name}: {digest} has other content than its digest says",
        remedy="copy the image there again",
    )
