"""A project as it lies in the image: used from the workdir where its files are there, with its metadata.

A path file names the folders that its packages are in, as an editable install does: a change of its code
changes the application's layer only. Packages whose folder has another name get a link, and those that
aren't below the workdir are packed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gpuyard import errors
from gpuyard.building.environment import Environment
from gpuyard.building.project.project import Project
from gpuyard.building.project.pyproject import Part
from gpuyard.building.python.entry_points import script_entries
from gpuyard.images.layers import PIECE, Entry

_NEVER = ("__pycache__", ".git")
_WHEEL = "Wheel-Version: 1.0\nGenerator: gpuyard\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class Workdir:
    """The application's folder here and in the image.

    Attributes:
        root: absolute, on this machine.
        files: paths that go in, relative to it.
        place: absolute path in the image.
    """

    root: Path
    files: Collection[str]
    place: str

    def inside(self, path: Path) -> str | None:
        """Path of a file or folder in the image; None when it isn't below the workdir."""
        real = path.resolve()
        if not real.is_relative_to(self.root.resolve()):
            return None
        return posixpath.join(self.place, *real.relative_to(self.root.resolve()).parts)

    def has(self, place: str) -> bool:
        """Whether a path of the image, below the workdir, is a file or a folder with some."""
        inner = posixpath.relpath(place, self.place)
        return inner in self.files or any(name.startswith(f"{inner}/") for name in self.files)


def project_entries(project: Project, workdir: Workdir, environment: Environment) -> list[Entry]:
    """A project's members of a layer, beside the files of the workdir.

    Raises:
        BuildError: its packages are kept out of the image.
    """
    site = environment.site_packages.strip("/")
    found: list[Entry] = []
    roots: list[str] = []
    for part in project.parts:
        place = workdir.inside(part.path)
        if place is None:
            found += _packed(part, site)
            continue
        if not workdir.has(place):
            raise errors.BuildError(
                f"{part.path}, a part of {project.metadata.name}, is kept out of the image",
                remedy="see which line of .gitignore or .gpuyardignore names it: `!PATTERN` lets it in",
            )
        root = place.removesuffix(f"/{part.name}")
        if root != place:
            roots.append(root)
        else:
            found.append(Entry.link(f"{site}/{part.name}", place))
    metadata = project.metadata
    if roots:
        lines = "".join(f"{root}\n" for root in dict.fromkeys(roots))
        found.append(Entry.of_bytes(f"{site}/__editable__.{metadata.key}.pth", lines.encode()))
    url = f"file://{workdir.inside(project.folder) or workdir.place}"
    direct_url = json.dumps({"url": url, "dir_info": {"editable": bool(roots)}})
    files = {"METADATA": metadata.to_text(), "WHEEL": _WHEEL, "direct_url.json": direct_url}
    files |= {"INSTALLER": "gpuyard\n", "entry_points.txt": metadata.entry_points_text()}
    found += [
        Entry.of_bytes(f"{site}/{metadata.dist_info}/{name}", text.encode())
        for name, text in files.items()
        if text
    ]
    found += script_entries(metadata.entry_points, environment, metadata.name)
    return [*found, _record(found, site, metadata.dist_info)]


def _packed(part: Part, site: str) -> Iterator[Entry]:
    """The files of a part that isn't below the workdir."""
    if part.path.is_file():
        yield _file(part.path, f"{site}/{part.name}")
        return
    for folder, folders, names in os.walk(part.path):
        folders[:] = sorted(name for name in folders if name not in _NEVER)
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not name.endswith((".pyc", ".pyo")):
                inner = PurePosixPath(path.relative_to(part.path))
                yield _file(path, f"{site}/{part.name}/{inner}")


def _file(path: Path, place: str) -> Entry:
    def read() -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    yield piece
        except OSError as error:
            raise errors.BuildError(f"can't read {path}: {error.strerror}") from error

    state = path.stat()
    return Entry(place, state.st_size, read, 0o755 if state.st_mode & 0o100 else 0o644)


def _record(entries: list[Entry], site: str, dist_info: str) -> Entry:
    """RECORD, by which tools know a distribution's files; sizes and hashes of what is small."""
    rows = [f"{dist_info}/RECORD,,"]
    for entry in entries:
        path = posixpath.relpath(entry.path, site)
        if entry.content is None or not entry.path.startswith(
            (f"{site}/{dist_info}/", f"{site}/__editable__")
        ):
            rows.append(f"{path},,")
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(b"".join(entry.content())).digest()).rstrip(b"=")
        rows.append(f"{path},sha256={digest.decode()},{entry.size}")
    return Entry.of_bytes(f"{site}/{dist_info}/RECORD", ("\n".join(sorted(rows)) + "\n").encode())
