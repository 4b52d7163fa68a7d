"""Files that a user names for a run: its spec, and its variables."""

from __future__ import annotations

from pathlib import Path

from gpuyard import errors

#: More is no spec, but /dev/zero or a checkpoint.
_MAX_BYTES = 4 << 20


def read_spec_file(file: Path, what: str = "a spec file") -> bytes:
    """The whole content; a pipe such as the shell's `<(…)` is read to its end.

    Args:
        file: its path.
        what: what it should be, for the remedy.

    Raises:
        UsageError: it can't be read, or is too large to be one.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise errors.UsageError(
            f"can't read {file}: {error.strerror}", remedy=f"name {what} that is there"
        ) from error
    if len(content) > _MAX_BYTES:
        raise errors.UsageError(f"{file} has more than {_MAX_BYTES >> 20} MiB", remedy=f"name {what}")
    return content
