"""Requirements files as pip and uv read them: what they include, ask for, and give hashes of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gpuyard import errors
from gpuyard.building.python.pylock import is_lock, lock_files
from gpuyard.building.python.resolving.requirement_lines import (
    Kind,
    RequirementLine,
    local_path,
    logical_lines,
    parse_line,
)
from gpuyard.building.python.wheels import Wheel, wheel_file
from gpuyard.images.contents.contents import normalise
from gpuyard.regular_files import read_regular

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Of these only a part decides which wheels there are, which `Requested.fingerprint` has.
PROJECT_FILES = ("pyproject.toml", "setup.cfg", "setup.py")
#: What asks for packages in a language of its own.
_OTHERS = frozenset({".toml", ".lock", ".cfg", ".py", ".yml", ".yaml"})
_EDITABLE = ("-e", "--editable")


@dataclass(frozen=True)
class Requirements:
    """A requirements file with all that it includes; also a pyproject.toml or a lock, which say less.

    Attributes:
        path: of the file.
        environ: for variables in it, written `${NAME}`.
    """

    path: Path
    environ: Mapping[str, str]

    def files(self) -> list[Path]:
        """The file and all that it includes by -r and -c, each once; of a lock what its content is in.

        Raises:
            UsageError: one can't be read.
        """
        if is_lock(self.path):
            return lock_files(self.path)
        return [path for path, _ in self._walk()]

    def contents(self) -> list[bytes]:
        """The bytes of the file and of all that it includes, but for files of projects; raises UsageError."""
        return [_read(path) for path in self.files() if path.name not in PROJECT_FILES]

    def asked(self) -> dict[str, list[str]]:
        """What the files ask for: normalised name → requirement texts. pyproject.toml gives none."""
        asked: dict[str, list[str]] = {}
        for line, _ in self._lines:
            if name := _name(line):
                asked.setdefault(name, []).append(line.bare)
        return asked

    def indexes(self) -> list[str]:
        """The indexes and pages of links that the files' options name, variables put in."""
        return [line.where for line, _ in self._lines if line.kind in (Kind.INDEX, Kind.LINKS)]

    def check_hashes_given(self) -> None:
        """Holds the files to pip's rule: with `--require-hashes`, or where one has a hash, all have one.

        Raises:
            UsageError: some have none, or no version that a hash could be of.
        """
        lines = [
            (line, constraint)
            for line, constraint in self._lines
            if not line.text.startswith("-") or line.text.startswith(_EDITABLE)
        ]
        if not self._hashes_required and not any(line.hashes for line, _ in lines):
            return
        hashed = {_name(line) for line, _ in lines if line.hashes}
        bare = [_words(line) for line, constraint in lines if not constraint and _name(line) not in hashed]
        if bare:
            raise errors.UsageError(
                f"{self.path.name} wants hashes, and there is none for: {', '.join(bare)}",
                remedy="give each its --hash, as `uv pip compile --generate-hashes` does, or none any",
            )
        loose = [_words(line) for line, constraint in lines if not constraint and not _is_pinned(line)]
        if loose:
            raise errors.UsageError(
                f"{self.path.name} wants hashes, and these name no version that they could be of: "
                f"{', '.join(loose)}",
                remedy="pin each with ==, as `uv pip compile --generate-hashes` does",
            )

    def check_hashes(self, wheels: Iterable[Wheel]) -> None:
        """Holds wheels against the files' hashes, which uv hands on only to installs.

        Raises:
            BuildError: a wheel has none of those for its name, or there are none for it.
        """
        given = self._hashes()
        for wheel in wheels if given or self._hashes_required else ():
            if wheel.name not in given:
                raise errors.BuildError(
                    f"{self.path.name} wants hashes, and there is none for {wheel.name} {wheel.version}, "
                    "which what it names requires",
                    remedy="lock all that is required: `uv pip compile --generate-hashes`",
                )
            if f"sha256:{wheel.sha256}" not in given[wheel.name]:
                raise errors.BuildError(
                    f"{wheel.file} has none of the hashes that {self.path.name} gives for {wheel.name}: "
                    f"its own is sha256:{wheel.sha256}",
                    remedy="lock the requirements anew for the base's Python and platform",
                )

    def _hashes(self) -> dict[str, set[str]]:
        """Normalised name → hashes that the files give for it."""
        found: dict[str, set[str]] = {}
        for line, _ in self._lines:
            if line.hashes and (name := _name(line)):
                found.setdefault(name, set()).update(line.hashes)
        return found

    @property
    def _hashes_required(self) -> bool:
        return any(line.text == "--require-hashes" for line, _ in self._lines)

    def _walk(self) -> Iterator[tuple[Path, bool]]:
        """The file and all that it includes, each once; whether it came as constraints."""
        seen: list[Path] = []
        waiting = [(self.path, False)]
        while waiting:
            path, constraint = waiting.pop(0)
            if path.exists() and any(path.samefile(other) for other in seen):
                continue
            seen.append(path)
            yield path, constraint
            for line in self._of_file(path):
                named = line.kind in (Kind.INCLUDE, Kind.CONSTRAINTS)
                if named and (included := local_path(line.where, path.parent)):
                    waiting.append((included, constraint or line.kind is Kind.CONSTRAINTS))

    @cached_property
    def _lines(self) -> tuple[tuple[RequirementLine, bool], ...]:
        """Each line with whether it stands among constraints; locks and files of projects give none."""
        if self.path.suffix in _OTHERS:
            return ()
        return tuple((line, constraint) for path, constraint in self._walk() for line in self._of_file(path))

    def _of_file(self, path: Path) -> list[RequirementLine]:
        return [parse_line(text, path.parent, self.environ) for text in read_lines(path) if text]


def _words(line: RequirementLine) -> str:
    """As the user wrote it, without options."""
    return line.text.partition(" --hash")[0].strip()


def _name(line: RequirementLine) -> str:
    """Normalised name of what a line asks for; empty of options, and of folders and archives of sources."""
    if line.kind is not Kind.REQUIREMENT:
        return ""
    if line.where.partition("#")[0].endswith(".whl") and not line.name:
        return normalise(wheel_file(line.where).partition("-")[0])
    match = _NAME.match(line.bare)
    return normalise(match[0]) if match else ""


def _is_pinned(line: RequirementLine) -> bool:
    text = line.bare.partition(";")[0]
    return "@" in text or ".whl" in text or bool(re.search(r"={2,3}\s*[^*,]+$", text))


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise errors.UsageError(
            f"can't read the requirements {path}: {error.strerror}",
            remedy="name a requirements file that is there",
        ) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a requirements file, joined where they go on; comments are empty. Raises UsageError."""
    try:
        return logical_lines(_read(path).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise errors.UsageError(
            f"can't read the requirements {path}: it isn't text in UTF-8", remedy="save it as UTF-8"
        ) from error
