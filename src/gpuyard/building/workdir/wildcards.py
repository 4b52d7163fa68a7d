"""Wildcards of ignore files as regular expressions that take no longer for more of them.

A plain `[^/]*` for each star tries every way to divide a name among them: `*a*a*a*a*b` would keep a build
busy for hours. Each star but the last takes the first place where what follows it fits, for good: a later
place leaves less for the stars after it, which can take what is between.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

#: Any part of a name, and any folders.
STAR, FOLDERS = "[^/]*", "(?:.*/)?"


def expression(pieces: Sequence[str]) -> str:
    """A regular expression for pieces in turn.

    Args:
        pieces: STAR, FOLDERS, and what matches one character each; what follows a star has no other wildcard.
    """
    found, section = "", list[str]()
    behind_folders = False
    for piece in pieces:
        if piece != FOLDERS:
            section.append(piece)
            continue
        found += _section(section, behind_folders=behind_folders, last=False)
        section, behind_folders = [], True
    return found + _section(section, behind_folders=behind_folders, last=True)


def _section(pieces: Sequence[str], *, behind_folders: bool, last: bool) -> str:
    """What is between two FOLDERS. One of whole folders takes the first that fit, as a star does."""
    stars = [at for at, piece in enumerate(pieces) if piece == STAR]
    found = "".join(pieces[: stars[0]] if stars else pieces)
    for at, end in pairwise((*stars, len(pieces))):
        fixed = "".join(pieces[at + 1 : end])
        found += f"{STAR}{fixed}" if end == len(pieces) else f"(?>{STAR}?{fixed})"
    if not behind_folders:
        return found
    return f"{FOLDERS}{found}" if last or pieces[-1:] != ["/"] else f"(?>(?:.*?/)??{found})"
