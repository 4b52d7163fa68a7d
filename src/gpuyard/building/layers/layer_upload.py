"""Layers on their way into a store: packed, compressed, hashed and uploaded in one pass."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import IO

from gpuyard import errors
from gpuyard.images.cache import Cache
from gpuyard.images.layers import PIECE, Layer, Packer, in_thread
from gpuyard.images.oci import Descriptor
from gpuyard.images.store import ImageStore
from gpuyard.images.transfer import Blob

_ATTEMPTS = 3
#: A packed application layer stays in memory up to this size, and goes through an unnamed file above it.
_MOST_IN_MEMORY = 16 << 20


async def upload_new(store: ImageStore, make: Callable[[], Packer], progress: Callable[[int], None]) -> Layer:
    """Packs a layer whose digest isn't known, straight into the store.

    Args:
        store: where to.
        make: begins the packing; again when an upload was lost.
        progress: told how many bytes more were packed.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        packer = make()
        try:
            async with store.start_upload() as upload:
                async with aclosing(in_thread(packer)) as pieces:
                    async for piece in pieces:
                        await upload.write(piece)
                        progress(len(piece))
                await upload.commit(packer.layer.blob.digest)
            return packer.layer
        except errors.UploadLost:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


class PackedFile:
    """A layer packed aside, because the store is asked for its digest before anything is sent."""

    def __init__(self, layer: Layer, file: IO[bytes]) -> None:
        self.layer = layer
        self._file = file

    @classmethod
    async def pack(cls, packer: Packer, cache: Cache) -> PackedFile:
        """Packs it; raises CacheError when there is no space for it."""
        with cache.reporting():
            cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file: IO[bytes] = io.BytesIO()

        def write() -> None:
            nonlocal file
            for piece in packer:
                with cache.reporting():
                    if isinstance(file, io.BytesIO) and file.tell() + len(piece) > _MOST_IN_MEMORY:
                        file = _moved(file, cache)
                    file.write(piece)

        try:
            await asyncio.to_thread(write)
        except BaseException:
            file.close()
            raise
        return cls(packer.layer, file)

    @property
    def blob(self) -> Blob:
        """For `ensure_blob`."""
        return Blob(self.layer.blob, self._read)

    async def _read(self) -> AsyncIterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece

    def close(self) -> None:
        """Drops the bytes."""
        self._file.close()


def _moved(memory: io.BytesIO, cache: Cache) -> IO[bytes]:
    """The same bytes in a file without a name."""
    import tempfile  # Few layers need it, and it costs start-up time.

    file = tempfile.TemporaryFile(dir=cache.folder)  # noqa: SIM115
    file.write(memory.getbuffer())
    return file


def descriptor_of(media_type: str, content: bytes) -> tuple[Descriptor, Blob]:
    """A small blob that is in memory."""

    async def read() -> AsyncIterator[bytes]:
        yield content

    descriptor = Descriptor.for_bytes(media_type, content)
    return descriptor, Blob(descriptor, read)
