"""Where the user says that an image is or shall be: a registry's reference, or a layout's path."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from gpuyard.images.oci import Digest
from gpuyard.images.reference import ImageReference
from gpuyard.images.store import ImageStore

if TYPE_CHECKING:
    from gpuyard.images.registry.client import RegistryClient
    from gpuyard.images.registry.settings import RegistrySettings


@dataclass(frozen=True)
class Place:
    """One image's place, open.

    Attributes:
        store: what it is in.
        target: its tag, or its digest where one was named.
        tag: its tag; empty where only a digest was named.
        reference: of a registry; None for a layout.
        text: as the user wrote it, completed.
    """

    store: ImageStore
    target: str
    tag: str
    reference: ImageReference | None
    text: str

    def pinned(self, digest: Digest) -> str:
        """The image as others get it: by digest from a registry, by name from a layout."""
        return str(self.reference.pinned(digest)) if self.reference else self.text

    def mount_from(self, other: Place) -> str:
        """The other's repository when its blobs can be mounted here, else empty."""
        if self.reference is None or other.reference is None:
            return ""
        here, there = self.reference, other.reference
        return there.repository if here.registry == there.registry and here != there else ""


class Places:
    """Opens places; all of them close with it. An async context manager.

    Args:
        environ: where Docker's credentials are looked for, and what is said of registries.
        settings: how hard is tried; the usual ones unless given.
    """

    def __init__(self, environ: Mapping[str, str], settings: RegistrySettings | None = None) -> None:
        self._environ = environ
        self._settings = settings
        self._stack = AsyncExitStack()
        self._client: RegistryClient | None = None
        self._written: dict[Path, ImageStore] = {}  # archives, each written once for all of its tags

    async def __aenter__(self) -> Places:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def open(self, text: str, *, write: bool = False) -> Place:
        """Opens REGISTRY/REPOSITORY:TAG, `oci:FOLDER:TAG` or `oci-archive:FILE:TAG`.

        Raises:
            ImageReferenceError: it is none of these.
            LayoutError: there is no such layout.
        """
        if text.startswith(("oci:", "oci-archive:")):
            return await self._open_layout(text, write=write)
        reference = ImageReference.parse(text)
        if self._client is None:
            from gpuyard.images.registry.client import RegistryClient

            client = RegistryClient.from_environ(self._environ, self._settings)
            self._client = await self._stack.enter_async_context(client)
        opened = self._client.repository(reference, push=write)
        if write:  # What is only read may be in the cache.
            self._client.expect(reference)
        return Place(opened, reference.target, reference.tag, reference, str(reference))

    async def _open_layout(self, text: str, *, write: bool) -> Place:
        from gpuyard.images.layout.reference import LayoutReference
        from gpuyard.images.layout.store import open_layout

        layout = LayoutReference.parse(text)
        assert layout is not None
        written = layout.path.absolute() if layout.archive and write else None
        store = self._written.get(written) if written else None
        if store is None:
            opening = open_layout(layout.path, archive=layout.archive, write=write)
            store = await self._stack.enter_async_context(opening)
        if written:
            self._written[written] = store
        return Place(store, layout.tag, layout.tag, None, str(layout))
