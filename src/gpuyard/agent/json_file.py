"""JSON files by which the agent's processes tell each other something: one writes, others look at times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from gpuyard import errors
from gpuyard.regular_files import read_regular

_T = TypeVar("_T")
#: What parsing raises where a value isn't what it should be.
_MISTAKES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def read_json(path: Path, parse: Callable[[Any], _T]) -> _T | None:
    """What the file says; None as long as there is none.

    Args:
        path: of the file.
        parse: makes it of the JSON value; whatever it raises for a wrong one is the file's fault.

    Raises:
        DeviceError: it can't be read, or has something else in it.
    """
    try:
        return parse(json.loads(read_regular(path)))
    except FileNotFoundError:
        return None
    except (OSError, *_MISTAKES) as error:
        raise errors.DeviceError(
            f"can't read {path}: {error}", remedy="remove it: the agent writes it anew"
        ) from error


class FollowedFile(Generic[_T]):
    """Reads a file again only once it is another one.

    Args:
        path: of the file, which is replaced whole.
        read: reads it; what it returns is given again as long as the file stays.
    """

    def __init__(self, path: Path, read: Callable[[Path], _T | None]) -> None:
        self._path = path
        self._read = read
        self._stamp: tuple[int, int, int] | None = None
        self._found: _T | None = None

    def read(self) -> _T | None:
        """What the file says now; None as long as there is none.

        Raises:
            DeviceError: as of `read`, at each call until the file is another one that can be read.
        """
        stamp = self._look()
        if stamp is None or stamp != self._stamp:
            self._stamp = None
            self._found = self._read(self._path)
            self._stamp = stamp
        return self._found

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:  # What is the matter says whoever reads it.
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
