"""Making folders that nobody else may look into."""

from __future__ import annotations

from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Makes it where it is missing, and what is missing above it: all with mode 0700.

    `mkdir(parents=True)` gives the mode to the last folder only: what it made above, on the way to a socket
    or a lock, was open to others until somebody mended it.

    Raises:
        OSError: it can't be made, or something else lies there.
    """
    if not folder.parent.is_dir():
        make_private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
