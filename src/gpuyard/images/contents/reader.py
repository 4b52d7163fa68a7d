"""Reads the layers of an image for what it holds.

None of it is in the image's config, so the layers are read once per digest, as a stream, and what was
found is kept in the cache.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from gpuyard.elf import read_elf
from gpuyard.images.contents.contents import PASSWD, ImageContents, Interpreter, normalise
from gpuyard.images.contents.folders import PLAIN, is_text
from gpuyard.images.contents.layer_stream import stream_layer
from gpuyard.images.contents.metadata import Metadata, read_egg_requires, read_metadata
from gpuyard.images.contents.overlay import Kept, Member, Overlay
from gpuyard.images.contents.system import BaseSystem, is_library, is_system_file
from gpuyard.images.contents.torch import Torch, built_cuda
from gpuyard.images.oci import Descriptor
from gpuyard.images.store import ImageStore

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INTERPRETER = re.compile(r"python3\.(\d{1,3})")
#: What starts Python, by its name; where it is a script, as pyenv's are, only running it tells which.
_PYTHON = re.compile(r"python(?:3(?:\.\d{1,3})?)?")
_SCRIPT = b"#!"
_METADATA = re.compile(r"[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_PTH = re.compile(r"[^/]+\.pth")
_EGG_REQUIRES = re.compile(r"[^/]+\.egg-info/requires\.txt")
_GLIBC = re.compile(rb"GNU C Library [^\n]{0,200}?release version (\d{1,4})\.(\d{1,4})(?!\d)")
_MUSL = re.compile(r"lib/ld-musl-[^/]+\.so\.1")
_MOST_METADATA = 1 << 18
_MOST_SMALL = 1 << 16
_MOST_SYSTEM_FILE = 32 << 20
_MOST_LIBC = 8 << 20
#: Folders under a prefix's lib/python3.N or lib/python3 that a system interpreter imports from.
_SITE = re.compile(
    r"(?P<folder>(?P<prefix>.*)/lib(?:64)?/python3(?:\.(?P<minor>\d+))?/(?:site|dist)-packages)/[^/]+(?:/[^/]+)?"
)
_TORCH_VERSION = "torch/version.py"


async def read_layers(
    store: ImageStore,
    layers: Sequence[Descriptor],
    progress: Callable[[int, int], None],
) -> ContentsReader:
    """Reads all layers of an image, one after the other.

    Args:
        store: where they are.
        layers: from the lowest to the highest.
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
        await stream_layer(store, layer, reader.read_layer, count)
    return reader


@dataclass(frozen=True)
class _Package:
    """A package that the image's Python imports, and the folder that it lies in."""

    metadata: Metadata
    folder: str
    egg_requires: tuple[str, ...]

    @property
    def requires(self) -> tuple[str, ...]:
        return self.metadata.requires or self.egg_requires


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
        python, script = self._python(env)
        libc, version = self._libc()
        found = self._packages(python) if python else {}
        packages = {name: package.metadata.version for name, package in found.items()}
        torch = self._torch(found["torch"]) if "torch" in found else None
        users = self.files.real_path(PASSWD)
        passwd = self._content(users or PASSWD)
        return ImageContents(
            python,
            packages,
            libc,
            version,
            passwd.decode("utf-8", "replace"),
            torch,
            folders=self.files.placing(),
            passwd_path=users or PASSWD,
            python_script=script,
        )

    def system(self, env: Mapping[str, str]) -> BaseSystem:
        """What the image says of itself as a system.

        Args:
            env: of its config, as for `contents`.
        """
        python, _ = self._python(env)
        found = self._packages(python) if python else {}
        files = {
            path: content for path, content in self.files.contents() if is_system_file(path) and is_text(path)
        }
        links: dict[str, str] = {}
        for path in self.files.links:
            if is_system_file(path) and (target := self.files.resolve(path)):
                files[path] = self._content(target)
            elif is_library(path) and (target := self.files.real_path(path)) and is_text(path + target):
                links[path] = target
        return BaseSystem(
            files,
            {path: elf for path, elf in self.files.libraries() if is_text(path)},
            links,
            {name: package.requires for name, package in found.items()},
        )

    def _content(self, path: str) -> bytes:
        found = self.files.files.get(path)
        return found if isinstance(found, bytes) else b""

    def _python(self, env: Mapping[str, str]) -> tuple[Interpreter | None, str]:
        """What PATH finds: an interpreter, or a script in its place."""
        for folder in (env.get("PATH") or _PATH).split(":"):
            for name in ("python3", "python", *self.files.names_in(folder)):
                found = self.files.resolve(posixpath.join(folder, name))
                if not found:
                    continue
                match = _INTERPRETER.fullmatch(found.rpartition("/")[2])
                if self._content(found).startswith(_SCRIPT) and (match or name in ("python3", "python")):
                    return None, f"/{found}"
                if match:
                    prefix = posixpath.dirname(folder.rstrip("/"))
                    venv = prefix if f"{prefix.strip('/')}/pyvenv.cfg" in self.files.files else ""
                    mode = self.files.modes.get(found, PLAIN)
                    return Interpreter("/" + found, int(match[1]), venv, mode), ""
        return None, ""

    def _packages(self, python: Interpreter) -> dict[str, _Package]:
        """By name, what the interpreter imports, where it looks first."""
        prefix = posixpath.dirname(posixpath.dirname(python.path)).strip("/")
        # Debian's interpreter imports from both; one of its own under /usr/local doesn't see Debian's.
        prefixes = ["usr/local", "usr"] if prefix in ("usr", "") else [prefix]
        if python.venv:
            prefixes[:0] = [python.venv.strip("/"), *self._seen_by(python)]
        found: list[tuple[int, str, _Package]] = []
        for path, content in self.files.contents():
            match = _SITE.fullmatch(path)
            if (
                not match
                or match["prefix"] not in prefixes
                or match["minor"] not in (None, str(python.minor))
            ):
                continue
            metadata = read_metadata(content)
            if metadata.name and metadata.version:
                package = _Package(metadata, match["folder"], self._egg_requires(path))
                found.append((prefixes.index(match["prefix"]), normalise(metadata.name), package))
        # The first prefix comes last, and so counts.
        ordered = sorted(found, key=lambda each: -each[0])
        return dict(sorted({name: package for _, name, package in ordered}.items(), key=lambda each: each[0]))

    def _seen_by(self, python: Interpreter) -> Iterator[str]:
        """Prefixes of other environments that files of the Python's own environment name (`*.pth`)."""
        site = f"{python.venv.strip('/')}/lib/python{python.version}/site-packages"
        for path, content in self.files.contents():
            if path.startswith(f"{site}/") and _PTH.fullmatch(path[len(site) + 1 :]):
                for line in _text(content).splitlines():
                    match = _SITE.fullmatch(f"{line.strip('/')}/x") if line.startswith("/") else None
                    if match:
                        yield match["prefix"]

    def _egg_requires(self, path: str) -> tuple[str, ...]:
        """What older packages require, in a file beside their metadata."""
        folder, _, name = path.rpartition("/")
        return read_egg_requires(self._content(f"{folder}/requires.txt")) if name == "PKG-INFO" else ()

    def _torch(self, package: _Package) -> Torch:
        content = self._content(f"{package.folder}/{_TORCH_VERSION}")
        return Torch(package.metadata.version, "/" + package.folder, built_cuda(_text(content)))

    def _libc(self) -> tuple[str, tuple[int, int]]:
        for path, content in self.files.contents():
            if path.rpartition("/")[2] == "libc.version":
                major, minor = content.split(b".")
                return "glibc", (int(major), int(minor))
        musl = any(map(_MUSL.fullmatch, [*self.files.files, *self.files.links]))
        return ("musl", (1, 1)) if musl else ("", (0, 0))


def _wanted(member: Member, content: IO[bytes]) -> Iterator[tuple[str, Kept]]:
    """What of a file is kept, and under which path."""
    path = member.path
    folder, _, name = path.rpartition("/")
    inner = path.partition("-packages/")[2]
    if _METADATA.fullmatch(inner):
        # Only the header: descriptions are long.
        yield path, content.read(_MOST_METADATA).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    elif (
        inner == _TORCH_VERSION
        or _EGG_REQUIRES.fullmatch(inner)
        or _PTH.fullmatch(inner)
        or (name == "passwd" and folder[:3] == "etc")
    ):
        yield path, content.read(_MOST_SMALL)
    elif name == "libc.so.6" or (name.startswith("libc-2.") and name.endswith(".so")):
        library = content.read(_MOST_LIBC)
        if match := _GLIBC.search(library):
            yield f"{folder}/libc.version", b"%s.%s" % match.groups()
        if elf := read_elf(io.BytesIO(library)):
            yield path, elf
    elif _PYTHON.fullmatch(name):
        if (start := content.read(len(_SCRIPT))) == _SCRIPT:
            yield path, start
    elif is_system_file(path):
        if member.size <= _MOST_SYSTEM_FILE:
            yield path, content.read()
    elif is_library(path) and (elf := read_elf(content)):
        yield path, elf


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
