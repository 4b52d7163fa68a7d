"""Reads the layers of an image for what it holds.

None of it is in the image's config, so the layers are read once per digest, as a stream, and what was
found is kept in the cache.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import IO

from gpuyard.images.contents.contents import ImageContents, Interpreter, normalise
from gpuyard.images.contents.layer_stream import LayerStream
from gpuyard.images.contents.overlay import Member, Overlay
from gpuyard.images.contents.torch import Torch, built_cuda
from gpuyard.images.oci import Descriptor
from gpuyard.images.store import ImageStore

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INTERPRETER = re.compile(r"python3\.(\d{1,3})")
_METADATA = re.compile(r"[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_GLIBC = re.compile(rb"GNU C Library [^\n]{0,200}?release version (\d{1,4})\.(\d{1,4})(?!\d)")
_MUSL = re.compile(r"lib/ld-musl-[^/]+\.so\.1")
_HEADER_NAME = re.compile(rb"^Name:[ \t]*(\S+)", re.MULTILINE)
_HEADER_VERSION = re.compile(rb"^Version:[ \t]*(\S+)", re.MULTILINE)
_MOST_METADATA = 1 << 16
_MOST_LIBC = 8 << 20
#: Folders under a prefix's lib/python3.N or lib/python3 that a system interpreter imports from.
_SITE = re.compile(
    r"(?P<folder>(?P<prefix>.*)/lib(?:64)?/python3(?:\.(?P<minor>\d+))?/(?:site|dist)-packages)/[^/]+(?:/[^/]+)?"
)
_TORCH_VERSION = "torch/version.py"


async def read_layers(
    store: ImageStore,
    layers: Sequence[Descriptor],
    env: Mapping[str, str],
    progress: Callable[[int, int], None],
) -> ImageContents:
    """Reads all layers of an image, one after the other.

    Args:
        store: where they are.
        layers: from the lowest to the highest.
        env: of the image's config.
        progress: told the bytes read so far and in all.

    Raises:
        ImageDamaged: a layer can't be read.
    """
    reader = ContentsReader()
    total = sum(layer.size for layer in layers)
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    for layer in layers:
        await _read_layer(store, layer, reader, count)
    return reader.contents(env)


async def _read_layer(
    store: ImageStore, layer: Descriptor, reader: ContentsReader, progress: Callable[[int], None]
) -> None:
    pipe = LayerStream(layer.media_type)
    thread = asyncio.ensure_future(asyncio.to_thread(pipe.feed, reader.read_layer))
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


@dataclass
class ContentsReader:
    """Reads layers from the lowest to the highest; `contents` is what all of them together show."""

    files: Overlay = field(default_factory=Overlay)

    def read_layer(self, tar: IO[bytes]) -> None:
        """Takes one layer in, a tar stream without compression."""
        self.files.apply(tar, _wanted)

    def contents(self, env: Mapping[str, str]) -> ImageContents:
        """What the image shows.

        Args:
            env: of its config: PATH decides which Python is meant.
        """
        python = self._python(env.get("PATH") or _PATH)
        libc, version = self._libc()
        passwd = self.files.files.get("etc/passwd") or b""
        found = self._packages(python) if python else {}
        packages = {name: version for name, (version, _) in found.items()}
        torch = self._torch(*found["torch"]) if "torch" in found else None
        return ImageContents(python, packages, libc, version, passwd.decode("utf-8", "replace"), torch)

    def _python(self, path: str) -> Interpreter | None:
        for folder in path.split(":"):
            for name in ("python3", "python", *self.files.names_in(folder)):
                found = self.files.resolve(posixpath.join(folder, name))
                match = _INTERPRETER.fullmatch(found.rpartition("/")[2]) if found else None
                if found and match:
                    prefix = posixpath.dirname(folder.rstrip("/"))
                    venv = prefix if f"{prefix.strip('/')}/pyvenv.cfg" in self.files.files else ""
                    return Interpreter("/" + found, int(match[1]), venv)
        return None

    def _packages(self, python: Interpreter) -> dict[str, tuple[str, str]]:
        """Name → version and folder of what the interpreter imports, where it looks first."""
        prefix = posixpath.dirname(posixpath.dirname(python.path)).strip("/")
        # Debian's interpreter imports from both; one of its own under /usr/local doesn't see Debian's.
        prefixes = ["usr/local", "usr"] if prefix in ("usr", "") else [prefix]
        if python.venv:
            prefixes.insert(0, python.venv.strip("/"))
        found: list[tuple[int, str, str, str]] = []
        for path, content in self.files.contents():
            match = _SITE.fullmatch(path)
            if (
                not match
                or match["prefix"] not in prefixes
                or match["minor"] not in (None, str(python.minor))
            ):
                continue
            name, version = _HEADER_NAME.search(content), _HEADER_VERSION.search(content)
            if name and version:
                words = (normalise(_text(name[1])), _text(version[1]), match["folder"])
                found.append((prefixes.index(match["prefix"]), *words))
        # The first prefix comes last, and so counts.
        ordered = sorted(found, key=lambda each: -each[0])
        return dict(sorted((name, (version, folder)) for _, name, version, folder in ordered))

    def _torch(self, version: str, folder: str) -> Torch:
        content = self.files.files.get(f"{folder}/{_TORCH_VERSION}") or b""
        return Torch(version, "/" + folder, built_cuda(_text(content)))

    def _libc(self) -> tuple[str, tuple[int, int]]:
        for path, content in self.files.contents():
            if path.rpartition("/")[2] == "libc.version":
                major, minor = content.split(b".")
                return "glibc", (int(major), int(minor))
        musl = any(map(_MUSL.fullmatch, [*self.files.files, *self.files.links]))
        return ("musl", (1, 1)) if musl else ("", (0, 0))


def _wanted(member: Member, content: IO[bytes]) -> tuple[str, bytes] | None:
    """What of a file is kept, and under which path: package metadata, the C library's version, users."""
    path = member.path
    name = path.rpartition("/")[2]
    if path == "etc/passwd":
        return path, content.read(_MOST_METADATA)
    inner = path.partition("-packages/")[2]
    if inner == _TORCH_VERSION or _METADATA.fullmatch(inner):
        return path, content.read(_MOST_METADATA)
    if name == "libc.so.6" or (name.startswith("libc-2.") and name.endswith(".so")):
        match = _GLIBC.search(content.read(_MOST_LIBC))
        return (path.rpartition("/")[0] + "/libc.version", b"%s.%s" % match.groups()) if match else None
    return None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
