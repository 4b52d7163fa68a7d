"""One file or folder of an image, as its layers together show it.

The layers are read from the highest down: so only what counts is kept, and reading ends where nothing
below can count any more. Names are as the image has them; a link on the way to the path is followed.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from gpuyard import errors
from gpuyard.images.contents.layer_stream import stream_layer
from gpuyard.images.contents.overlay import layer_members, open_layer, whiteout
from gpuyard.images.image import Image
from gpuyard.images.layers import FILE, FOLDER, LINK, PIECE, Entry

_MOST_LINKS = 40


@dataclass(frozen=True)
class _Found:
    """What a layer has at a path; of a file, where its bytes are among those that were kept."""

    kind: bytes
    executable: bool = False
    target: str = ""
    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class Subtree:
    """A file, or a folder with all that is in it.

    Attributes:
        path: where it is in the image, links followed, without a leading slash.
    """

    path: str
    content: IO[bytes]
    _found: dict[str, _Found]

    def entries(self, destination: str, owner: int) -> Iterator[Entry]:
        """As members of a layer. All may be read, what somebody may run may be run, and `owner` may write.

        Args:
            destination: its own path there, without a leading slash; empty for the root.
        """
        for path, found in self._found.items():
            place = f"{destination}{path[len(self.path) :]}".strip("/")
            if found.kind == FOLDER and place:
                yield Entry.folder(place, owner=owner)
            elif found.kind == LINK:
                yield Entry(
                    place, mode=0o777, kind=LINK, target=self._moved(found.target, destination), owner=owner
                )
            elif found.kind == FILE:
                mode = 0o755 if found.executable else 0o644
                yield Entry(place, found.size, self._reader(found), mode, owner=owner)

    @property
    def is_folder(self) -> bool:
        """Whether it is more than a file."""
        return self._found.get(self.path, _Found(FOLDER)).kind == FOLDER

    def leading_out(self) -> list[str]:
        """Links in it whose targets aren't, each as `PATH → TARGET`."""
        return [
            f"/{path} → {found.target}"
            for path, found in sorted(self._found.items())
            if found.kind == LINK
            and not self._has(posixpath.join("/", posixpath.dirname(path), found.target))
        ]

    def _has(self, path: str) -> bool:
        return f"{posixpath.normpath(path).strip('/')}/".startswith(f"{self.path}/")

    def _moved(self, target: str, destination: str) -> str:
        """An absolute target that is in the folder goes with it."""
        if not target.startswith("/") or not self._has(target):
            return target
        return f"/{destination}{posixpath.normpath(target).strip('/')[len(self.path) :]}"

    def _reader(self, found: _Found) -> Callable[[], Iterator[bytes]]:
        def read() -> Iterator[bytes]:
            self.content.seek(found.offset)
            left = found.size
            while left:
                piece = self.content.read(min(PIECE, left))
                left -= len(piece)
                yield piece

        return read


async def read_subtree(
    image: Image, path: str, content: IO[bytes], progress: Callable[[int, int], None]
) -> Subtree | None:
    """Reads an image's layers for a file or folder; None when there is none.

    Args:
        image: whose.
        path: of it, absolute.
        content: an empty file for the bytes, which stays the caller's to close.
        progress: told the layers' bytes read so far, and in all.

    Raises:
        ImageDamaged: a layer can't be read.
    """
    done, total = 0, image.size

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress(done, max(done, total))

    wanted = posixpath.normpath(path).strip("/")
    for _ in range(_MOST_LINKS):
        reader = _SubtreeReader(wanted, content)
        for layer in reversed(image.manifest.layers):
            if reader.is_complete():
                break
            await stream_layer(image.store, layer, reader.read_layer, count)
            if reader.lacks_content():
                await stream_layer(image.store, layer, reader.read_layer_again, count)
        if (leads_to := reader.link()) is None:
            return reader.subtree()
        wanted = leads_to
    return None


@dataclass
class _SubtreeReader:
    """Takes layers in, from the highest to the lowest.

    Attributes:
        found: of the wanted path, what is below it and what leads to it, as the layers so far show it.
        gone: what they take away of the layers below: paths with all that is below them.
        opaque: folders of which they take away what is in them.
        waiting: hard links by their target, whose bytes weren't met yet.
    """

    wanted: str
    content: IO[bytes]
    found: dict[str, _Found] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    waiting: dict[str, list[str]] = field(default_factory=dict)

    def is_complete(self) -> bool:
        """Whether no lower layer can count any more."""
        return not self.waiting and self._is_hidden(f"{self.wanted}//")

    def lacks_content(self) -> bool:
        """Whether a hard link's target came before it in its layer, and wasn't kept."""
        return bool(self.waiting)

    def link(self) -> str | None:
        """The wanted path with the first link on its way followed; None when there is none."""
        parts = self.wanted.split("/")
        for index in range(1, len(parts) + 1):
            head = "/".join(parts[:index])
            if (at := self.found.get(head)) and at.kind == LINK:
                target = posixpath.join("/", posixpath.dirname(head), at.target, *parts[index:])
                return posixpath.normpath(target).strip("/")
        return None

    def subtree(self) -> Subtree | None:
        """What was found; None for nothing."""
        if self.waiting:
            raise errors.ImageDamaged(f"a layer has a link to /{min(self.waiting)}, which isn't in it")
        inside = f"{self.wanted}/"
        found = {
            path: at
            for path, at in sorted(self.found.items())
            if path == self.wanted or path.startswith(inside)
        }
        return Subtree(self.wanted, self.content, found) if found else None

    def read_layer(self, tar: IO[bytes]) -> None:
        """Takes one layer in."""
        layer: dict[str, _Found] = {}
        gone: list[str] = []
        inside = f"{self.wanted}/"
        with open_layer(tar) as archive:
            for info, path in layer_members(archive):
                wanted = path == self.wanted or path.startswith(inside) or inside.startswith(f"{path}/")
                if (taken := whiteout(path)) is not None:
                    gone.append(taken)
                elif wanted and not self._is_hidden(path):
                    self._take(archive, info, path, layer)
                elif path in self.waiting and info.isreg():
                    self._fill(path, self._keep(archive, info), layer)
        for path in list(layer):
            # A folder that no layer lists, but only what is in it.
            while (path := path.rpartition("/")[0]).startswith(inside):
                layer.setdefault(path, _Found(FOLDER))
        self.found = layer | self.found
        self.gone.update(path for path in gone if not path.endswith("/"))
        self.opaque.update(path.rstrip("/") for path in gone if path.endswith("/"))

    def read_layer_again(self, tar: IO[bytes]) -> None:
        """Takes the bytes of hard links from the layer that was read last."""
        with open_layer(tar) as archive:
            for info, path in layer_members(archive):
                if path in self.waiting and info.isreg():
                    self._fill(path, self._keep(archive, info), self.found)

    def _take(
        self, archive: tarfile.TarFile, info: tarfile.TarInfo, path: str, layer: dict[str, _Found]
    ) -> None:
        if info.isdir():
            layer[path] = _Found(FOLDER)
        elif info.issym():
            layer[path] = _Found(LINK, target=info.linkname)
        elif info.islnk():
            target = posixpath.normpath("/" + info.linkname).strip("/")
            if (same := layer.get(target)) and same.kind == FILE:
                layer[path] = same
            else:
                layer[path] = _Found(FILE)
                self.waiting.setdefault(target, []).append(path)
        elif info.isreg():
            layer[path] = self._keep(archive, info)
            self._fill(path, layer[path], layer)

    def _fill(self, path: str, kept: _Found, layer: dict[str, _Found]) -> None:
        for link in self.waiting.pop(path, ()):
            (layer if link in layer else self.found)[link] = kept

    def _keep(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Found:
        source = archive.extractfile(info)
        assert source is not None, "a regular file has content"
        offset = self.content.seek(0, 2)
        while piece := source.read(PIECE):
            self.content.write(piece)
        size = self.content.tell() - offset
        return _Found(FILE, bool(info.mode & 0o111), "", offset, size)

    def _is_hidden(self, path: str) -> bool:
        """Whether the layers above took it away, or have something in its place."""
        if path in self.gone or path in self.found or "" in self.opaque:
            return True
        while "/" in path:
            path = path.rpartition("/")[0]
            at = self.found.get(path)
            if path in self.gone or path in self.opaque or (at and at.kind != FOLDER):
                return True
        return False
