"""Removing a folder that a run has filled: as deep, as wide and as closed as it liked."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

log = logging.getLogger(__name__)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Removes a folder, also where the pod has taken away its own permissions. What can't go is logged.

    Folders below it are moved up into it and emptied there one after another. So neither the depth nor the
    length of a path matters, and no more than three descriptors are open. Symbolic links are never followed.
    """
    try:
        with _opened(path) as top:
            left = _empty(top)
        if not left:
            path.rmdir()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        left = [f"{path}: {error.strerror}"]
    for what in left[:3]:
        log.warning("can't remove %s of %s", what, path)


def _empty(top: int) -> list[str]:
    """Removes what is in the folder; what can't be removed, and why."""
    left: dict[str, str] = {}
    while waiting := [entry for entry in _entries(top) if entry.name not in left]:
        for entry in waiting:
            try:
                if entry.is_dir(follow_symlinks=False):
                    _remove_folder(top, entry.name)
                else:
                    os.unlink(entry.name, dir_fd=top)
            except FileNotFoundError:
                continue
            except OSError as error:
                left[entry.name] = f"{entry.name}: {error.strerror}"
    return list(left.values())


def _remove_folder(top: int, name: str) -> None:
    """Removes one folder of `top`, after its own folders have moved up beside it.

    Raises:
        OSError: something in it can neither be removed nor moved.
    """
    with _opened(name, top) as folder:
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    with _opened(entry.name, folder):
                        pass
                    os.rename(entry.name, uuid4().hex, src_dir_fd=folder, dst_dir_fd=top)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=folder)
    os.rmdir(name, dir_fd=top)


@contextmanager
def _opened(path: Path | str, at: int | None = None) -> Iterator[int]:
    """The descriptor of a folder that its owner may read and change from now on."""
    handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        with suppress(OSError):
            # By way of /proc: a handle that was opened without permission to read takes no fchmod.
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
        folder = os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        yield folder
    finally:
        os.close(folder)


def _entries(folder: int) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)
