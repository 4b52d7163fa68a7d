"""Reading attributes of sysfs, each of which may be missing, refused or nonsense."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str:
    """What an attribute says, without white space at its ends; empty when it can't be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """A number, also a negative one; None when there is none."""
    text = read_text(path)
    return int(text) if text.removeprefix("-").isdecimal() else None
