"""Whether the disk that holds a yard's data has room."""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1 << 20
#: Below this a run may find no room for its log; the store refuses new objects when there is none at all.
LEAST_FREE_BYTES = 64 * MIB


def shortage(folder: Path) -> str:
    """What is wrong with the disk of a folder; empty when it has room, and when nobody can tell."""
    try:
        usage = os.statvfs(folder)
    except OSError:
        return ""
    free_bytes = usage.f_bavail * usage.f_frsize
    if free_bytes >= LEAST_FREE_BYTES:
        return ""
    return (
        f"the disk that holds {folder} is full: {free_bytes // MIB} MiB are free, "
        f"{LEAST_FREE_BYTES // MIB} MiB are needed"
    )
