"""The user's own files: what of the workdir goes into the image, and what must not.

Left out is what .gitignore and .gpuyardignore say, read as git reads them (nested files, `!` patterns,
the folders above up to the repository's root), and what never belongs into an image.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.atomic_files import PREFIX as UNFINISHED
from gpuyard.building.secrets import looks_secret
from gpuyard.images.layers import PIECE, Entry
from gpuyard.regular_files import read_regular

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILES = (".gitignore", ".gpuyardignore")
#: Files above this size are named in a warning.
LARGE_BYTES = 50_000_000

_NEVER_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".ipynb_checkpoints",
    }
)
_NEVER_FILES = frozenset({".DS_Store", ".git"})
#: A folder with one of these is a virtual environment of this machine, or images as files.
_NOT_OURS = frozenset({"pyvenv.cfg", "oci-layout"})
_NEVER_SUFFIXES = (".pyc", ".pyo")
_MOST_FOLDERS = 200


@dataclass(frozen=True)
class Application:
    """The files of one workdir.

    Attributes:
        files: path relative to the workdir and its state, sorted.
        warnings: what the user should know: large files, links that lead out.
    """

    root: Path
    files: tuple[tuple[str, os.stat_result], ...]
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """All files' bytes."""
        return sum(state.st_size for _, state in self.files)

    def only(self, paths: Iterable[str]) -> Application:
        """With these files alone."""
        chosen = frozenset(paths)
        return replace(self, files=tuple(file for file in self.files if file[0] in chosen))

    def without(self, paths: Iterable[str]) -> Application:
        """With all files but these."""
        left_out = frozenset(paths)
        return replace(self, files=tuple(file for file in self.files if file[0] not in left_out))

    def entries(self, workdir: str, owner: int) -> Iterator[Entry]:
        """As members of a layer, under `workdir` of the image; folders belong to `owner`."""
        prefix = workdir.strip("/")
        folders = {prefix}
        for path, state in self.files:
            place = f"{prefix}/{path}"
            folders.update(
                str(parent) for parent in PurePosixPath(place).parents if len(str(parent)) > len(prefix)
            )
            if stat.S_ISLNK(state.st_mode):
                yield Entry.link(place, _link(self.root / path))
            else:
                mode = 0o755 if state.st_mode & stat.S_IXUSR else 0o644
                yield Entry(place, state.st_size, _reader(self.root / path), mode)
        for folder in folders:
            yield Entry.folder(folder, owner=owner)


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError as error:
        raise _changed(path, error) from error


def _changed(path: Path, error: OSError) -> errors.BuildError:
    return errors.BuildError(
        f"{path} changed while the image was built: {error.strerror}",
        remedy="build again when nothing writes there, or list it in .gpuyardignore",
    )


def _open_as_it_was(path: str, flags: int) -> int:
    # What is a link or a named pipe by now was a file when the workdir was read.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _reader(path: Path) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        try:
            with open(path, "rb", buffering=0, opener=_open_as_it_was) as file:
                while piece := file.read(PIECE):
                    yield piece
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
                raise _changed(path, error) from error
            raise errors.BuildError(
                f"can't read {path}: {error.strerror}",
                remedy="mend its permissions, or list it in .gpuyardignore",
            ) from error

    return read


def read_application(
    root: Path, *, allow_secrets: Sequence[str] = (), leave_out: Sequence[str] = ()
) -> Application:
    """Finds the files.

    Args:
        root: the workdir.
        leave_out: paths relative to the workdir that never go in.
        allow_secrets: file names or paths relative to the workdir that may go in although they look secret.

    Raises:
        UsageError: there is a file that looks like a secret; a folder can't be read.
    """
    walk = _Walk(root)
    found = walk.folder("", _rules_above(root))
    files = sorted((path, state) for path, state in found if path not in leave_out)
    secret = [path for path, _ in files if looks_secret(root, path) and not _allowed(path, allow_secrets)]
    if secret:
        names = ", ".join(secret[:10]) + (f" and {len(secret) - 10} more" if len(secret) > 10 else "")
        raise errors.UsageError(
            f"the image would hold what looks like secrets: {names}",
            remedy=f"list them in .gpuyardignore, or build with --allow-secrets {secret[0]}",
        )
    return Application(root, tuple(files), (*walk.warnings, *_large(files)))


def _allowed(path: str, names: Sequence[str]) -> bool:
    return any(name in (path, path.rpartition("/")[2]) for name in names)


def _large(files: Iterable[tuple[str, os.stat_result]]) -> Iterator[str]:
    large = sorted((-state.st_size, path) for path, state in files if state.st_size > LARGE_BYTES)
    if large:
        names = ", ".join(f"{path} ({-size / 1e6:.0f} MB)" for size, path in large[:5])
        more = f" and {len(large) - 5} more" if len(large) > 5 else ""
        yield f"large files go into the image: {names}{more}; .gpuyardignore keeps files out"


@dataclass(frozen=True)
class _Rules:
    """The patterns of one ignore file, relative to the folder that it is in (relative to the workdir)."""

    folder: str
    spec: GitIgnoreSpec


def _read_rules(file: Path, folder: str) -> list[_Rules]:
    try:
        text = read_regular(file).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    except OSError as error:
        raise errors.UsageError(
            f"can't read {file}: {error.strerror}", remedy="mend its permissions, or remove it"
        ) from error
    import pathspec  # Only where there is such a file: it costs start-up time.

    try:
        return [_Rules(folder, pathspec.GitIgnoreSpec.from_lines(text.splitlines()))]
    except (ValueError, re.error) as error:
        raise errors.UsageError(
            f"{file} has a pattern that can't be read: {error}", remedy="mend or remove the pattern"
        ) from error


def _rules_above(root: Path) -> list[_Rules]:
    """.gitignore files of the folders above the workdir, up to the root of its git repository."""
    parents = root.absolute().parents
    top = next((index for index, parent in enumerate(parents) if (parent / ".git").exists()), None)
    if top is None or (root / ".git").exists():
        return []
    rules: list[_Rules] = []
    for index in range(top, -1, -1):
        rules += _read_rules(parents[index] / ".gitignore", "../" * (index + 1))
    return rules


class _Walk:
    """Goes through the workdir, with the ignore rules of all folders down to where it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.warnings: list[str] = []

    def folder(self, folder: str, rules: list[_Rules]) -> Iterator[tuple[str, os.stat_result]]:
        if folder.count("/") > _MOST_FOLDERS:
            raise errors.UsageError(
                f"{self.root / folder[:60]}… has more than {_MOST_FOLDERS} folders in each other",
                remedy="list it in .gpuyardignore",
            )
        try:
            with os.scandir(self.root / folder) as found:
                children = sorted(found, key=lambda child: child.name)
        except OSError as error:
            where = self.root / folder
            raise errors.UsageError(
                f"can't read {where}: {error.strerror}",
                remedy="mend its permissions, or list it in .gpuyardignore",
            ) from error
        names = {child.name for child in children}
        if folder and names & _NOT_OURS:
            return
        here = [file for file in IGNORE_FILES if file in names]
        rules = [*rules, *(rule for file in here for rule in _read_rules(self.root / folder / file, folder))]
        for child in children:
            path = f"{folder}{child.name}"
            if child.name.startswith(UNFINISHED):
                continue
            if child.is_dir(follow_symlinks=False):
                if child.name not in _NEVER_FOLDERS and not self._ignored(path + "/", rules):
                    yield from self.folder(path + "/", rules)
            elif (
                child.name not in _NEVER_FILES
                and not child.name.endswith(_NEVER_SUFFIXES)
                and not self._ignored(path, rules)
                and (state := self._state(path, child))
            ):
                yield path, state

    def _ignored(self, path: str, rules: list[_Rules]) -> bool:
        for rule in reversed(rules):
            if rule.folder.startswith("../"):
                inner = "/".join(self.root.absolute().parts[-rule.folder.count("../") :]) + "/" + path
            else:
                inner = path[len(rule.folder) :]
            include = rule.spec.check_file(inner).include
            if include is not None:
                return include
        return False

    def _state(self, path: str, child: os.DirEntry[str]) -> os.stat_result | None:
        """Of a file or link that goes in; None for others, and for what is gone by now."""
        try:
            return child.stat(follow_symlinks=False) if self._fits(path, child) else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _changed(self.root / path, error) from error

    def _fits(self, path: str, child: os.DirEntry[str]) -> bool:
        if child.is_symlink():
            why = self._leads_out(path, str(Path(child.path).readlink()))
            if why:
                self.warnings.append(f"{path} is a link to {why}: it is left out")
            return not why
        return child.is_file(follow_symlinks=False)

    def _leads_out(self, path: str, target: str) -> str:
        """Why a link would lead nowhere in the image; empty when it stays within the workdir."""
        folder = os.path.dirname(path)  # noqa: PTH120  of text
        if not target.startswith("/"):
            inside = os.path.normpath(os.path.join(folder, target))  # noqa: PTH118
            return f"{target}, outside the workdir" if inside.startswith("..") else ""
        if not Path(target).is_relative_to(self.root.absolute()):
            return f"{target}, outside the workdir"
        relative = os.path.relpath(target, self.root.absolute() / folder)
        return f"{target}, which the image has elsewhere (make it relative: ln -sfn {relative} {path})"
