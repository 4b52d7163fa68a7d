"""What a GPU can be split into by MIG (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MigEngines:
    """How many engines of each kind a part of a GPU has for itself."""

    copy: int = 0
    decoder: int = 0
    encoder: int = 0
    jpeg: int = 0
    ofa: int = 0
