"""Files that say what stays out: patterns as git reads them, and whose `.dockerignore` are Docker's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.building.workdir.dockerignore import DockerIgnore
from gpuyard.regular_files import read_regular

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


@dataclass(frozen=True)
class IgnoreFile:
    """The patterns of one file.

    Attributes:
        name: as people are told.
        below: length of the path from the workdir to the file's folder, of those in the workdir.
        prefix: path from the file's folder to the workdir, of those above it.
        lines: number and text of each line that has a pattern.
    """

    name: str
    below: int
    prefix: str
    spec: GitIgnoreSpec | DockerIgnore
    lines: tuple[tuple[int, str], ...]

    def verdict(self, path: str) -> tuple[bool, str] | None:
        """Whether a path stays out, and by which line; None when no line concerns it.

        Args:
            path: relative to the workdir; a folder's ends in a slash.
        """
        inner = self.prefix + path[self.below :]
        if isinstance(self.spec, DockerIgnore):
            found = self.spec.verdict(inner.rstrip("/"))
            return found and (found[0], f"{self.name}:{found[1]}")
        result = self.spec.check_file(inner)
        if result.include is None:
            return None
        number, text = self.lines[result.index or 0]
        return result.include, f"{self.name}:{number}: {text}"

    def may_take_back_below(self, folder: str) -> bool:
        """Whether a folder that it leaves out must be looked into; git's aren't."""
        return isinstance(self.spec, DockerIgnore) and self.spec.may_take_back_below(folder)


def read_git_patterns(file: Path, name: str, *, below: str = "", prefix: str = "") -> tuple[IgnoreFile, ...]:
    """A file with patterns as git reads them; nothing where there is none.

    Args:
        name: as people are told.
        below, prefix: of its folder, see `IgnoreFile`.

    Raises:
        UsageError: it can't be read.
    """
    text = _read(file)
    if text is None:
        return ()
    numbered = enumerate(text.splitlines(), 1)
    # git passes over a `!` and a `/` that stand alone, and pathspec doesn't.
    lines = tuple(
        (number, line) for number, line in numbered if line.strip(" !/") and not line.startswith("#")
    )
    if not lines:  # as the file that `git init` makes
        return ()
    import pathspec  # Only where there is such a file: it costs start-up time.

    try:
        spec = pathspec.GitIgnoreSpec.from_lines(line for _, line in lines)
    except (ValueError, re.error) as error:
        raise _unreadable(file, error) from error
    return (IgnoreFile(name, len(below), prefix, spec, lines),)


def read_dockerignore(file: Path) -> tuple[IgnoreFile, ...]:
    """The workdir's `.dockerignore`; nothing where there is none.

    Raises:
        UsageError: it can't be read.
    """
    text = _read(file)
    if text is None:
        return ()
    try:
        return (IgnoreFile(file.name, 0, "", DockerIgnore.parse(text), ()),)
    except ValueError as error:
        raise _unreadable(file, error) from error


def _read(file: Path) -> str | None:
    try:
        return read_regular(file).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise errors.UsageError(
            f"can't read {file}: {error.strerror}", remedy="mend its permissions, or remove it"
        ) from error


def _unreadable(file: Path, error: Exception) -> errors.UsageError:
    return errors.UsageError(
        f"{file} has a pattern that can't be read: {error}", remedy="mend or remove the pattern"
    )
