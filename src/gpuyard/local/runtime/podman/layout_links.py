"""Layouts whose path podman can't make a name of: it names what it pulls from `oci:PATH` after the path.

Source: containers/common, libimage/pull.go, `copyFromDefault`: localhost/PATH, which must be in lower case.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LAYOUT = "oci:"
#: TMPDIR itself may be no name.
_TEMPORARY = Path("/tmp")
_NAME = re.compile(r"(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)+/?")
_MAX_NAME = 200


def path_of(reference: str) -> str:
    """The folder of a layout; of another image what is before its tag."""
    return reference.removeprefix(_LAYOUT).partition(":")[0]


def own_name(reference: str) -> str:
    """What an image of such a layout is called instead; empty for all other images."""
    if not reference.startswith(_LAYOUT):
        return ""
    path = path_of(reference)
    if _NAME.fullmatch(path) and len(path) < _MAX_NAME:
        return ""
    word = re.sub(r"[^a-z0-9]+", "-", Path(path).name.lower()).strip("-")[:_MAX_NAME] or "image"
    return f"localhost/gpuyard-layouts/{word}-{hashlib.sha256(path.encode()).hexdigest()[:12]}"


@contextmanager
def linked(reference: str) -> Iterator[str]:
    """The same layout by a path that is a name, for as long as this lasts."""
    path = path_of(reference)
    folder = _TEMPORARY / f"gpuyard-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    link = folder / "layout"
    try:
        link.symlink_to(path)
        yield f"{_LAYOUT}{link}{reference.removeprefix(_LAYOUT + path)}"
    finally:
        link.unlink(missing_ok=True)
        folder.rmdir()
