"""A wheel's files as they lie in the image once it is installed (PEP 427, entry points, RECORD)."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.building.environment import PREFIX, Environment
from gpuyard.building.python.entry_points import script_entries
from gpuyard.building.python.resolving.base_packages import same_version
from gpuyard.building.python.zip_file import ZipFile
from gpuyard.images.contents.contents import normalise
from gpuyard.images.layers import Entry

_DIST_INFO = re.compile(r"[^/]+\.dist-info/WHEEL")


@dataclass(frozen=True)
class InstalledWheel:
    """Turns one wheel into entries. The zips must stay open until the entries are read.

    Attributes:
        wheel: the file.
        byte_code: its byte code by `compile_wheel`, if there is any.
        environment: where it goes.
    """

    wheel: ZipFile
    byte_code: ZipFile | None
    environment: Environment

    def entries(self) -> list[Entry]:
        """All files, unsorted, with paths below the image's root.

        Raises:
            BuildError: it isn't a wheel, or has files that would lie outside the environment.
        """
        members = {info.filename: info for info in self.wheel.members}
        dist_info = next((name[:-6] for name in members if _DIST_INFO.fullmatch(name)), None)
        if dist_info is None:
            raise errors.BuildError(f"{self.wheel.name} is not a wheel: it has no .dist-info/WHEEL")
        self._check_name(dist_info)
        replaced = {f"{dist_info}/{name}" for name in ("RECORD", "INSTALLER", "RECORD.jws", "RECORD.p7s")}
        known = self._known_rows(members, dist_info)
        site = self.environment.site_packages.strip("/")
        found: list[tuple[Entry, tuple[str, str]]] = []
        for name, info in members.items():
            if name not in replaced:
                found.append(self._installed(name, info, known.get(name, ("", ""))))
        found.extend(map(_hashed, self._scripts(members, dist_info)))
        found.append(_hashed(Entry.of_bytes(f"{site}/{dist_info}/INSTALLER", b"gpuyard\n")))
        if self.byte_code:
            for info in self.byte_code.members:
                path = f"{site}/{info.filename}"
                found.append((_entry(self.byte_code, info, path, 0o644), ("", "")))
        self._refuse_file_as_folder({entry.path for entry, _ in found})
        record = f"{site}/{dist_info}/RECORD"
        rows = sorted((posixpath.relpath(entry.path, site), *row) for entry, row in found)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            sorted([*rows, (posixpath.relpath(record, site), "", "")])
        )
        return [*(entry for entry, _ in found), Entry.of_bytes(record, text.getvalue().encode())]

    def _check_name(self, dist_info: str) -> None:
        """A lock's names are what the image's labels and its bill of materials tell."""
        name, _, version = dist_info.removesuffix(".dist-info").rpartition("-")
        of_file, version_of_file = self.wheel.name.split("-")[:2]
        if normalise(name) != normalise(of_file) or not same_version(version, version_of_file):
            raise errors.BuildError(
                f"{self.wheel.name} holds {name} {version}",
                remedy="restore the lock as a build wrote it, or lock anew with --upgrade; a wheel that "
                "was renamed has to be made again",
            )

    def _refuse_file_as_folder(self, paths: set[str]) -> None:
        for path in sorted(paths):
            folder = posixpath.dirname(path)
            while folder:
                if folder in paths:
                    raise errors.BuildError(
                        f"{self.wheel.name} has {folder} as a file and as a folder",
                        remedy="it can't be installed anywhere: require another version",
                    )
                folder = posixpath.dirname(folder)

    def _known_rows(self, members: dict[str, zipfile.ZipInfo], dist_info: str) -> dict[str, tuple[str, str]]:
        """Hash and size of each file as the wheel's own RECORD has them."""
        record = members.get(f"{dist_info}/RECORD")
        if record is None:
            return {}
        text = self.wheel.read(record).decode("utf-8", "replace")
        try:
            return {row[0]: (row[1], row[2]) for row in csv.reader(text.splitlines()) if len(row) == 3}
        except csv.Error as error:
            raise errors.BuildError(f"{self.wheel.name}: RECORD can't be read: {error}") from error

    def _installed(
        self, name: str, info: zipfile.ZipInfo, row: tuple[str, str]
    ) -> tuple[Entry, tuple[str, str]]:
        path, is_script = self._place(name)
        if is_script:
            content = self.wheel.read(info)
            if content.startswith(b"#!python"):
                rest = content.partition(b"\n")[2]
                content = f"#!{self.environment.interpreter}\n".encode() + rest
            return _hashed(Entry.of_bytes(path, content, mode=0o755))
        mode = 0o755 if (info.external_attr >> 16) & 0o111 else 0o644
        return _entry(self.wheel, info, path, mode), row

    def _place(self, name: str) -> tuple[str, bool]:
        """Where a member goes, and whether it is a script."""
        site, prefix = self.environment.site_packages.strip("/"), PREFIX.strip("/")
        top, _, rest = name.partition("/")
        root, inner, script = site, name, False
        if top.endswith(".data"):
            scheme, _, inner = rest.partition("/")
            script = scheme == "scripts"
            project = top.partition("-")[0]
            headers = f"{prefix}/include/site/python{self.environment.python.version}/{project}"
            places = {"purelib": site, "platlib": site, "scripts": f"{prefix}/bin", "data": prefix}
            root = headers if scheme == "headers" else places.get(scheme, "")
        path = posixpath.normpath(f"{root}/{inner}")
        if not root or not inner or inner.startswith("/") or not path.startswith(root + "/"):
            raise errors.BuildError(f"{self.wheel.name} has a file that can't be installed: {name}")
        return path, script

    def _scripts(self, members: dict[str, zipfile.ZipInfo], dist_info: str) -> Iterator[Entry]:
        """A starter for each console and GUI entry point, as an installer writes it."""
        info = members.get(f"{dist_info}/entry_points.txt")
        if info is None:
            return
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(self.wheel.read(info).decode("utf-8", "replace"))
        except configparser.Error as error:
            raise errors.BuildError(f"{self.wheel.name}: entry_points.txt can't be read: {error}") from error
        sections = {name: dict(parser.items(name)) for name in parser.sections()}
        yield from script_entries(sections, self.environment, self.wheel.name)


def _entry(archive: ZipFile, info: zipfile.ZipInfo, path: str, mode: int) -> Entry:
    content: Callable[[], Iterator[bytes]] = lambda: archive.pieces(info)  # noqa: E731
    return Entry(path, info.file_size, content, mode)


def _hashed(entry: Entry) -> tuple[Entry, tuple[str, str]]:
    """An entry that is in memory, and its row in RECORD."""
    content = b"".join(entry.content()) if entry.content else b""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return entry, (f"sha256={digest}", str(entry.size))
