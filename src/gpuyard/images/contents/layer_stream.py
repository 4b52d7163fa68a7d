"""A compressed layer that arrives in pieces, read as a file by a thread: nothing of it lies on a disk.

Another thread inflates, one block ahead of the reader.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import IO, cast

from isal import isal_zlib

from gpuyard import errors
from gpuyard.images.layers import read_ahead
from gpuyard.images.oci import Descriptor
from gpuyard.images.store import ImageStore

_MOST_WAITING = 8
_BLOCK = 1 << 20


class _Compressed:
    """Pieces as the file that zstandard reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int) -> bytes:
        return next(self._pieces, b"")


class LayerStream:
    """One side puts pieces and at the end b""; the other reads the tar as a stream.

    Args:
        media_type: of the layer: gzip, zstd or plain.
    """

    def __init__(self, media_type: str) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue(_MOST_WAITING)
        self._abandoned = False
        self._pieces = read_ahead(self._inflated(media_type))
        self._rest = memoryview(b"")

    def put(self, piece: bytes) -> None:
        """Hands a piece over; waits while the reader is slower, drops it when the reader has left."""
        while not self._abandoned:
            try:
                self._queue.put(piece, timeout=0.1)
                return
            except queue.Full:
                continue

    def feed(self, read: Callable[[IO[bytes]], None]) -> None:
        """Runs the reader to its end, in the thread that is its own."""
        try:
            read(cast("IO[bytes]", self))
        finally:
            self._abandoned = True
            self._pieces.close()

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        found: list[memoryview] = []
        wanted = size if size >= 0 else 1 << 62
        while wanted:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            part = self._rest[:wanted]
            self._rest = self._rest[len(part) :]
            wanted -= len(part)
            found.append(part)
        return b"".join(found)

    def _raw(self) -> Iterator[bytes]:
        while not self._abandoned:
            try:
                piece = self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
            if not piece:
                return
            yield piece

    def _inflated(self, media_type: str) -> Iterator[bytes]:
        if media_type.endswith("zstd"):
            yield from self._from_zstd()
        elif media_type.endswith("gzip"):
            yield from self._from_gzip()
        else:
            yield from self._raw()

    def _from_zstd(self) -> Iterator[bytes]:
        import zstandard

        inflate = zstandard.ZstdDecompressor()
        try:
            # Read from it, and not pushed into it: one piece of zeros inflates to gigabytes.
            compressed = cast("IO[bytes]", _Compressed(self._raw()))
            with inflate.stream_reader(compressed, read_across_frames=True) as reader:
                while piece := reader.read(_BLOCK):
                    yield piece
        except zstandard.ZstdError as error:
            raise errors.ImageDamaged(f"a layer is not zstd: {error}") from error

    def _from_gzip(self) -> Iterator[bytes]:
        """Several gzip members may follow each other (pigz and estargz write them)."""
        inflate = isal_zlib.decompressobj(31)
        try:
            for piece in self._raw():
                waiting = piece
                while waiting:
                    if inflate.eof:
                        inflate = isal_zlib.decompressobj(31)
                    yield inflate.decompress(waiting, _BLOCK)
                    waiting = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
                    if inflate.eof and not waiting.strip(b"\0"):
                        break
            if not inflate.eof:
                raise errors.ImageDamaged("a layer ends in the middle")
        except isal_zlib.error as error:  # type: ignore[misc]
            raise errors.ImageDamaged(f"a layer is not gzip: {error}") from error


async def stream_layer(
    store: ImageStore,
    layer: Descriptor,
    read: Callable[[IO[bytes]], None],
    progress: Callable[[int], None],
) -> None:
    """Has a layer's tar read in a thread while it arrives.

    Args:
        store: where the layer is.
        layer: in whatever compression.
        read: takes the tar; may leave before its end.
        progress: told how many bytes more arrived.

    Raises:
        ImageDamaged: the layer can't be read.
    """
    pipe = LayerStream(layer.media_type)
    thread = asyncio.ensure_future(asyncio.to_thread(pipe.feed, read))
    try:
        async with aclosing(store.open_blob(layer)) as pieces:
            async for piece in pieces:
                progress(len(piece))
                await asyncio.to_thread(pipe.put, piece)
    except BaseException:
        # It is why the layer ends in the middle, which the reader finds out and has no reason for.
        await asyncio.to_thread(pipe.put, b"")
        await asyncio.wait([thread])
        thread.exception()
        raise
    await asyncio.to_thread(pipe.put, b"")
    await thread
