"""Files that say what stays out: patterns as git reads them, and whose `.dockerignore` are Docker's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.building.workdir.dockerignore import DockerIgnore
from gpuyard.building.workdir.gitignore import GitIgnore
from gpuyard.regular_files import read_regular


@dataclass(frozen=True)
class IgnoreFile:
    """The patterns of one file.

    Attributes:
        name: as people are told.
        below: length of the path from the workdir to the file's folder, of those in the workdir.
        prefix: path from the file's folder to the workdir, of those above it.
    """

    name: str
    below: int
    prefix: str
    patterns: GitIgnore | DockerIgnore

    def verdict(self, path: str) -> tuple[bool, str] | None:
        """Whether a path stays out, and by which line; None when no line concerns it.

        Args:
            path: relative to the workdir; a folder's ends in a slash.
        """
        found = self.patterns.verdict(self.prefix + path[self.below :])
        return found and (found[0], f"{self.name}:{found[1]}")

    def may_take_back_below(self, folder: str) -> bool:
        """Whether a folder that it leaves out must be looked into; git's aren't."""
        return isinstance(self.patterns, DockerIgnore) and self.patterns.may_take_back_below(
            self.prefix + folder
        )


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
    found = GitIgnore.parse(text)
    # The file that `git init` makes has none.
    return (IgnoreFile(name, len(below), prefix, found),) if found.patterns else ()


def read_dockerignore(file: Path, name: str, *, prefix: str = "") -> tuple[IgnoreFile, ...]:
    """The `.dockerignore` of the workdir or of a folder above it; nothing where there is none.

    Args:
        name: as people are told.
        prefix: of its folder, see `IgnoreFile`.

    Raises:
        UsageError: it can't be read.
    """
    text = _read(file)
    if text is None:
        return ()
    try:
        return (IgnoreFile(name, 0, prefix, DockerIgnore.parse(text)),)
    except ValueError as error:
        raise errors.UsageError(
            f"{file} has a pattern that can't be read: {error}", remedy="mend or remove the pattern"
        ) from error


def _read(file: Path) -> str | None:
    try:
        return read_regular(file).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise errors.UsageError(
            f"can't read {file}: {error.strerror}", remedy="mend its permissions, or remove it"
        ) from error
