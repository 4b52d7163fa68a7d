"""Which files of a workdir look like secrets, by their names and by what they hold; which of them may go in.

What was harmless isn't looked into again as long as the file system says that it is the same: path, size,
times and inode (`FileState`). That is remembered only of files that were last changed before the
file system's clock was read, since a later change then moves their ctime.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuyard import errors
from gpuyard.building.workdir.file_state import FileState, file_system_time_ns, path_key
from gpuyard.building.workdir.secret_names import looks_secret
from gpuyard.images.cache import Cache
from gpuyard.regular_files import open_regular

if TYPE_CHECKING:
    from gpuyard.building.workdir.secret_contents import SecretFound

#: Larger files aren't looked into, but for notebooks, which hold pictures beside what their cells printed.
MOST_BYTES, MOST_BYTES_OF_NOTEBOOKS = 1_000_000, 32_000_000
#: A file with a NUL byte in as many is no text, as git has it of 8000, unless it is one but for the NULs.
_TEXT_BYTES = 8192
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_NAMED = 10
#: From so many files on it is worth to prepare for many.
_MANY = 50
#: Raised whenever more secrets are found than before.
_FORMAT = 2
_KIND = "harmless-files"


@dataclass(frozen=True)
class SecretSearch:
    """Looks through the files of one workdir.

    Attributes:
        root: the workdir.
        allowed: what may go in: names, paths relative to the workdir, folders, patterns of these.
        cache: where it is remembered what holds none; None forgets.
        now_ns: this machine's time.
    """

    root: Path
    allowed: Sequence[str]
    cache: Cache | None = None
    now_ns: Callable[[], int] = time.time_ns

    def warnings(self, files: Iterable[tuple[str, os.stat_result]]) -> list[str]:
        """What the user should know of files that go in.

        Raises:
            UsageError: one of them looks like a secret.
        """
        suspects = dict(self._suspects(files))
        used = {pattern for pattern in self.allowed for path in suspects if _matches(pattern, path)}
        refused = {
            path: found
            for path, found in suspects.items()
            if not any(_matches(pattern, path) for pattern in used)
        }
        if refused:
            rows = [row for path, found in refused.items() for row in _rows(path, found)]
            more = [f"and {len(rows) - _MOST_NAMED} more"] if len(rows) > _MOST_NAMED else []
            raise errors.UsageError(
                "the image would hold what looks like secrets:\n  " + "\n  ".join(rows[:_MOST_NAMED] + more),
                remedy=f"list them in .gpuyardignore, or build with --allow-secret {next(iter(refused))}",
            )
        return [
            f"no file that looks like a secret matches {pattern}, which is allowed"
            for pattern in self.allowed
            if pattern not in used
        ]

    def _suspects(
        self, files: Iterable[tuple[str, os.stat_result]]
    ) -> Iterator[tuple[str, list[SecretFound]]]:
        remembered = self._remembered()
        harmless: dict[str, list[int]] = {}
        settled_ns = self._settled_ns() if self.cache else 0
        looked_into = 0
        for path, state in files:
            if not stat.S_ISREG(state.st_mode):
                continue
            now, key = [*FileState.of(state)], path_key(path)
            if remembered.get(key) == now:
                harmless[key] = now
                continue
            looked_into += 1
            found = self._look_into(path, state.st_size, one_of_many=looked_into > _MANY)
            if found or looks_secret(self.root, path):
                yield path, found
            elif state.st_ctime_ns < settled_ns:
                harmless[key] = now
        if self.cache and harmless != remembered:
            kept = {"format": _FORMAT, "at_ns": self.now_ns(), "files": harmless}
            # Where it can't be remembered, it is looked for again.
            with suppress(errors.CacheError):
                self.cache.write(_KIND, self._entry, kept)

    def _look_into(self, path: str, size: int, *, one_of_many: bool) -> list[SecretFound]:
        if size > (MOST_BYTES_OF_NOTEBOOKS if path.endswith(".ipynb") else MOST_BYTES):
            return []
        # What can't be read is the packing's to tell.
        with suppress(OSError), os.fdopen(open_regular(self.root / path), "rb") as file:
            begins = file.read(_TEXT_BYTES)
            if _is_text(begins):
                # Only where there is something to look into: its expressions cost start-up time.
                from gpuyard.building.workdir.secret_contents import find_secrets

                text = _plain(begins + file.read(MOST_BYTES_OF_NOTEBOOKS))
                return find_secrets(text, one_of_many=one_of_many)
        return []

    @property
    def _entry(self) -> str:
        return f"{hashlib.sha256(os.fsencode(self.root.absolute())).hexdigest()}.json"

    def _remembered(self) -> Mapping[str, Any]:
        kept = (self.cache.read(_KIND, self._entry) if self.cache else None) or {}
        files, at_ns = kept.get("files"), kept.get("at_ns")
        if kept.get("format") != _FORMAT or not isinstance(files, dict) or not isinstance(at_ns, int):
            return {}
        return files if at_ns <= self.now_ns() else {}

    def _settled_ns(self) -> int:
        with suppress(OSError):
            return file_system_time_ns(self.root, self.root.stat().st_dev) or 0
        return 0


def refuse_secret_values(values: Mapping[str, str]) -> None:
    """For what goes into an image's config, which all can read who pull the image.

    Args:
        values: by what people call them.

    Raises:
        UsageError: one of them looks like a secret.
    """
    if not any(values.values()):
        return
    from gpuyard.building.workdir.secret_contents import find_secrets

    for called, value in values.items():
        if found := find_secrets(value.encode("utf-8", "surrogateescape")):
            raise errors.UsageError(
                f"the image would hold what looks like a secret: {called} has {found[0].kind} "
                f"({found[0].begins}…)",
                remedy="give it to the run instead, as a variable that isn't baked or from a Secret",
            )


def _rows(path: str, found: Sequence[SecretFound]) -> Iterator[str]:
    if not found:
        yield f"{path} (by its name)"
    for secret in found:
        yield f"{path}:{secret.line}: {secret.kind} ({secret.begins}…)"


def _is_text(begins: bytes) -> bool:
    """Whether a file is one, also in UTF-16, whose ASCII has a NUL at every other place."""
    return (
        b"\0" not in begins
        or begins.startswith(_UTF_16)
        or not re.search(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]", begins)
    )


def _plain(content: bytes) -> bytes:
    """A text, so that ASCII in it is ASCII."""
    if content.startswith(_UTF_16):
        content = content.decode("utf-16", "replace").encode("utf-8", "replace")
    return content.replace(b"\0", b"")


def _matches(pattern: str, path: str) -> bool:
    name, pattern = path.rpartition("/")[2], pattern.removeprefix("./").rstrip("/")
    return (
        path.startswith(f"{pattern}/")
        or fnmatchcase(path, pattern)
        or fnmatchcase(name, pattern)
        or path == pattern
    )
