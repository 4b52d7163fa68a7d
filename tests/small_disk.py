"""A file system of its own, so small that a test can fill it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest


@contextmanager
def mounted(kind: Literal["tmpfs", "ext4"], megabytes: int) -> Iterator[Path]:
    """Its folder. Skips the test where file systems can't be made or mounted."""
    folder = Path(tempfile.mkdtemp(prefix="gy-disk-", dir="/tmp"))
    image = folder.with_suffix(".img")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "none", str(folder)]
    if kind == "ext4":
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], capture_output=True, check=False)
        if made.returncode:
            pytest.skip("can't make a file system in a file")
        mount = ["mount", "-o", "loop", str(image), str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        image.unlink(missing_ok=True)
        pytest.skip(f"can't mount a small file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        image.unlink(missing_ok=True)
