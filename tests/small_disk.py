"""A file system of its own, so small that a test can fill it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest


@contextmanager
def mounted(kind: Literal["tmpfs", "ext4"], megabytes: int, folder: Path | None = None) -> Iterator[Path]:
    """Its folder: this one, which has to be there, or one of its own.

    Skips the test where file systems can't be made or mounted.
    """
    if folder is None:
        own = tempfile.TemporaryDirectory(prefix="gy-disk-", dir="/tmp")
        with own as path, mounted(kind, megabytes, Path(path)) as disk:
            yield disk
        return
    image = Path(tempfile.mkstemp(dir="/tmp")[1])
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "none", str(folder)]
    if kind == "ext4":
        os.truncate(image, megabytes << 20)
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], capture_output=True, check=False)
        if made.returncode:
            image.unlink()
            pytest.skip("can't make a file system in a file")
        mount = ["mount", "-o", "loop", str(image), str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        image.unlink()
        pytest.skip(f"can't mount a small file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: the copier of a log may hold it for a moment more.
        subprocess.run(["umount", "-l", str(folder)], check=True)
        image.unlink()
