"""The name of an image in an OCI layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors


@dataclass(frozen=True)
class LayoutReference:
    """An image in a layout; written `oci:PATH[:TAG]` or `oci-archive:PATH[:TAG]` as skopeo does."""

    path: Path
    tag: str = "latest"
    archive: bool = False

    @classmethod
    def parse(cls, text: str) -> LayoutReference | None:
        """Reads one; None when the text has neither prefix. Raises ImageReferenceError without a path."""
        kind, colon, rest = text.partition(":")
        if not colon or kind not in ("oci", "oci-archive"):
            return None
        path, _, tag = rest.partition(":")
        if not path:
            raise errors.ImageReferenceError(f"{text!r} names no path", remedy=f"write {kind}:PATH:TAG")
        return cls(Path(path), tag or "latest", kind == "oci-archive" or path.endswith(".tar"))

    def __str__(self) -> str:
        return f"{'oci-archive' if self.archive else 'oci'}:{self.path}:{self.tag}"
