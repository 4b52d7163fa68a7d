"""The user's own files: what of the workdir goes into the image, as members of a layer."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from gpuyard import errors
from gpuyard.building.workdir.large_left_out import large_left_out
from gpuyard.building.workdir.secret_search import SecretSearch
from gpuyard.building.workdir.walk import Walk, changed
from gpuyard.images.cache import Cache
from gpuyard.images.layers import PIECE, Entry

#: Files above this size are named in a warning.
LARGE_BYTES = 50_000_000
#: Of links and the like that stay out: of data there may be a link for each file.
_MOST_WARNINGS = 10


@dataclass(frozen=True)
class Application:
    """The files of one workdir.

    Attributes:
        files: path relative to the workdir and its state, sorted.
        folders: those that go in, also empty ones, sorted.
        left_out: what stays out, folders with a slash at the end, and why.
        notices: how the files were chosen, where that isn't as ever.
        warnings: what the user should know: large files, links that lead out.
    """

    root: Path
    files: tuple[tuple[str, os.stat_result], ...]
    folders: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """All files' bytes."""
        return sum(state.st_size for _, state in self.files)

    def only(self, paths: Iterable[str]) -> Application:
        """With these files and the folders that lead to them alone."""
        chosen = frozenset(paths)
        folders = {str(parent) for path in chosen for parent in PurePosixPath(path).parents}
        return replace(
            self,
            files=tuple(file for file in self.files if file[0] in chosen),
            folders=tuple(folder for folder in self.folders if folder in folders),
        )

    def without(self, paths: Iterable[str]) -> Application:
        """With all files but these."""
        left_out = frozenset(paths)
        return replace(self, files=tuple(file for file in self.files if file[0] not in left_out))

    def entries(self, workdir: str, owner: int) -> Iterator[Entry]:
        """As members of a layer, under `workdir` of the image; all belong to `owner`, who may write them.

        Of a file's mode only the executable bit counts: umasks differ between machines.
        """
        prefix = workdir.strip("/")
        yield Entry.folder(prefix, owner=owner)
        for folder in self.folders:
            yield Entry.folder(f"{prefix}/{folder}", owner=owner)
        for path, state in self.files:
            place = f"{prefix}/{path}"
            if stat.S_ISLNK(state.st_mode):
                yield replace(Entry.link(place, _link(self.root / path)), owner=owner)
            else:
                mode = 0o755 if state.st_mode & stat.S_IXUSR else 0o644
                yield Entry(place, state.st_size, _reader(self.root / path), mode, owner=owner)


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError as error:
        raise changed(path, error.strerror) from error


def _open_as_it_was(path: str, flags: int) -> int:
    # What is a link or a named pipe by now was a file when the workdir was read.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _reader(path: Path) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        try:
            with open(path, "rb", buffering=0, opener=_open_as_it_was) as file:
                piece = file.read(PIECE)
                # One read is of one moment; of more, the file's time says whether it was written meanwhile.
                before = os.fstat(file.fileno()) if len(piece) == PIECE else None
                while piece:
                    yield piece
                    piece = file.read(PIECE)
                if before and before.st_mtime_ns != os.fstat(file.fileno()).st_mtime_ns:
                    raise changed(path, "it was written while it was read")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
                raise changed(path, error.strerror) from error
            raise errors.BuildError(
                f"can't read {path}: {error.strerror}",
                remedy="mend its permissions, or list it in .gpuyardignore",
            ) from error

    return read


def read_application(
    root: Path,
    environ: Mapping[str, str],
    *,
    allow_secrets: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    cache: Cache | None = None,
    context: Path | None = None,
) -> Application:
    """Finds the files.

    Args:
        root: the workdir.
        environ: git is asked in it.
        leave_out: paths relative to the workdir that never go in.
        allow_secrets: what may go in although it looks secret, see `SecretSearch`.
        cache: remembers what was looked into.
        context: a folder above the workdir whose ignore files count, too.

    Raises:
        UsageError: there is a file that looks like a secret; a folder can't be read.
    """
    walk = Walk(root, environ, context)
    walk.run()
    files = sorted((path, state) for path, state in walk.files if path not in leave_out)
    secrets = SecretSearch(root, allow_secrets, cache).warnings(files)
    return Application(
        root,
        tuple(files),
        tuple(sorted(walk.folders)),
        tuple(walk.left_out),
        (*walk.notices, *large_left_out(root, walk.left_out), *_large(files)),
        (*_some(walk.warnings), *secrets, *_nothing(root, files, walk.left_out)),
    )


def _some(warnings: Sequence[str]) -> Iterator[str]:
    yield from warnings[:_MOST_WARNINGS]
    if len(warnings) > _MOST_WARNINGS:
        yield f"{len(warnings) - _MOST_WARNINGS} more are left out: see `gpuyard build --list --ignored`"


def _nothing(root: Path, files: Sequence[object], left_out: Sequence[object]) -> Iterator[str]:
    if left_out and not files:
        yield f"no file of {root} goes into the image: ignore files name all of them"


def _large(files: Iterable[tuple[str, os.stat_result]]) -> Iterator[str]:
    large = sorted((-state.st_size, path) for path, state in files if state.st_size > LARGE_BYTES)
    if large:
        names = ", ".join(f"{path} ({-size / 1e6:.0f} MB)" for size, path in large[:5])
        more = f" and {len(large) - 5} more" if len(large) > 5 else ""
        yield f"large files go into the image: {names}{more}; .gpuyardignore keeps files out"
