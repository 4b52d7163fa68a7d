"""Says which large files git's rules keep out: weights are ignored by many who want them in an image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpuyard.building.workdir.dockerignore import NAMES as DOCKERIGNORES

_LARGE_BYTES = 16_000_000
#: Looked at in a folder that is left out: one of data may have millions.
_MOST_ENTRIES = 2000
_MOST_NAMED = 3
_GITS = re.compile(r"((?:.*/)?\.gitignore|\.git/info/exclude|core\.excludesFile):(\d+)")
#: A folder with one of these is of Python or conda, which no image takes from here.
_ENVIRONMENTS = frozenset({"pyvenv.cfg", "conda-meta"})


def large_left_out(root: Path, left_out: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line on what is large, largest first; nothing where nothing is.

    Args:
        root: the workdir.
        left_out: paths in it, a folder's with a slash at its end, and why.
    """
    found = []
    for path, why in left_out:
        if (rule := _GITS.match(why)) and (size := _large_bytes(root, path)):
            found.append((size, path, rule[0]))
    if not found:
        return
    found.sort(reverse=True)
    named = ", ".join(f"{path} ({size / 1e6:.0f} MB, {rule})" for size, path, rule in found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    docker = next((name for name in DOCKERIGNORES if (root / name).exists()), "")
    file = docker if docker and not (root / ".gpuyardignore").exists() else ".gpuyardignore"
    yield f"left out: {named}{more}; `!{found[0][1]}` in {file} takes the first back"


def _large_bytes(root: Path, path: str) -> int:
    """Bytes of the files that are large, as far as it is looked."""
    if any(step.startswith(".") for step in path.split("/") if step):
        return 0  # A tool's own.
    try:
        if not path.endswith("/"):
            state = (root / path).lstat()
            return state.st_size if state.st_size > _LARGE_BYTES else 0
        return sum(size for size in _sizes(root / path) if size > _LARGE_BYTES)
    except OSError:
        return 0  # It stays out anyway.


def _sizes(folder: Path) -> Iterator[int]:
    left, waiting = _MOST_ENTRIES, [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            children = []
            for entry in entries:
                left -= 1
                if left < 0:
                    return
                children.append(entry)
        if any(child.name in _ENVIRONMENTS for child in children):
            continue
        for child in children:
            if child.is_dir(follow_symlinks=False):
                waiting.append(child.path)
            elif child.is_file(follow_symlinks=False):
                yield child.stat(follow_symlinks=False).st_size
