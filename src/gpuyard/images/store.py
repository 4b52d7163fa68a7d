"""Where images are: a repository of a registry, or an OCI layout. One protocol for both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gpuyard import errors
from gpuyard.images.oci import Descriptor, Digest

#: Manifests, indexes and configs are smaller by far; who says otherwise only fills the memory.
MOST_DOCUMENT = 16 << 20

#: Opens content at its start. Called again when an upload has to begin anew, so it must be repeatable.
Content = Callable[[], AsyncIterator[bytes]]


class BlobUpload(Protocol):
    """A blob on its way, whose digest its writer learns while writing."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes; waits while the other side is slower. The data may be reused afterwards."""

    async def commit(self, digest: Digest) -> None:
        """Makes the blob readable under its digest; raises ImageDamaged when the bytes aren't those."""


class ImageStore(Protocol):
    """Images of one repository or layout.

    Safe to use from several tasks at once. Everything raises ImageError's subclasses: ImageNotFound,
    ImageUnauthorized, ImageDamaged (content that isn't what its digest says), RegistryError, LayoutError.
    """

    @property
    def name(self) -> str:
        """As messages call it: registry/repository, or the layout's path."""

    async def find_manifest(self, target: str) -> Descriptor | None:
        """The manifest behind a tag or digest, without its bytes; None when there is none."""

    async def get_manifest(self, target: str) -> tuple[Descriptor, bytes]:
        """A manifest or index by tag or digest, verified; raises ImageNotFound."""

    def open_blob(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """Streams a blob; raises ImageDamaged at its end when size or digest differ.

        Who may leave before the end wraps it in `contextlib.aclosing`, so that its connection goes back.
        """

    async def has_blob(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the blob needs no upload; where its size can be seen, one of another size does."""

    async def put_blob(self, digest: Digest, size: int, content: Content) -> None:
        """Uploads a blob of known digest (whether it is there already is the caller's question)."""

    def start_upload(self) -> AbstractAsyncContextManager[BlobUpload]:
        """An upload for a blob whose digest is known at the end; leaving without commit drops it."""

    async def mount_blob(self, digest: Digest, from_repository: str) -> bool:
        """Takes a blob over from another repository of the same registry; False when that isn't done."""

    async def put_manifest(self, content: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """Stores a manifest or index, by digest alone or under a tag. What it names must be there.

        A manifest with a `subject` is listed by `referrers` from then on.
        """

    async def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Manifests whose subject is the digest."""


async def read_blob(store: ImageStore, blob: Descriptor) -> bytes:
    """A small blob (a config) as a whole; raises ImageDamaged when it says that it is none."""
    if blob.size > MOST_DOCUMENT:
        raise errors.ImageDamaged(
            f"reading {store.name}: {blob.digest} has {blob.size} bytes, which no config has",
            remedy="push or copy the image again",
        )
    return b"".join([piece async for piece in store.open_blob(blob)])
