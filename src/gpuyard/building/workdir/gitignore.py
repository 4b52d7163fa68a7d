"""Patterns as git reads them (gitignore(5); git's dir.c and wildmatch.c): the last one that matches decides.

A pattern is of the path itself, not of what lies in it: who walks doesn't enter what is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": "\\s", "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}  # fmt: skip

#: Any part of a name, and any folders.
STAR, FOLDERS = "[^/]*", "(?:.*/)?"


@dataclass(frozen=True)
class GitPattern:
    """One line.

    Attributes:
        line: as people are told: its number in the file, from 1, and its text.
        takes_back: whether it began with `!`.
        only_folders: whether it ended in a slash.
        any_depth: whether it is of names; else it is of paths from the file's folder.
        matches: finds out about a whole name or path.
    """

    line: str
    takes_back: bool
    only_folders: bool
    any_depth: bool
    matches: re.Pattern[str]


@dataclass(frozen=True)
class GitIgnore:
    """The patterns of one file, in order."""

    patterns: tuple[GitPattern, ...]

    @classmethod
    def parse(cls, text: str) -> GitIgnore:
        """From a file's text. What is no pattern for git matches nothing, as there."""
        lines = enumerate(text.removeprefix("\ufeff").split("\n"), 1)
        return cls(tuple(pattern for number, line in lines if (pattern := _pattern(number, line))))

    def verdict(self, path: str) -> tuple[bool, str] | None:
        """Whether a path stays out, and the line that says so; None when no line concerns it.

        Args:
            path: relative to the file's folder; a folder's ends in a slash.
        """
        is_folder = path.endswith("/")
        path = path.rstrip("/")
        name = path.rpartition("/")[2]
        for pattern in reversed(self.patterns):
            if (is_folder or not pattern.only_folders) and pattern.matches.match(
                name if pattern.any_depth else path
            ):
                return not pattern.takes_back, pattern.line
        return None


def _pattern(number: int, written: str) -> GitPattern | None:
    text = written.removesuffix("\r")
    if text.startswith("#"):
        return None
    # Spaces at the end count where a backslash is before them.
    if trimmed := re.fullmatch(r"((?:\\.|[^\\])*?) *", text):
        text = trimmed[1]
    takes_back = text.startswith("!")
    text = text.removeprefix("!")
    only_folders = text.endswith("/")
    text = text[:-1] if only_folders else text
    any_depth = "/" not in text
    matching = _expression(text.removeprefix("/"), any_depth=any_depth)
    if not text.strip("/") or matching is None:
        return None
    line = f"{number}: {written.strip()}"
    return GitPattern(line, takes_back, only_folders, any_depth, re.compile(matching + r"\Z", re.DOTALL))


def _expression(pattern: str, *, any_depth: bool) -> str | None:
    """A regular expression for whole names or paths; None for what matches nothing."""
    found: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            end = len(pattern) - len(pattern[at:].lstrip("*"))
            whole = (
                end - at > 1 and (at == 0 or pattern[at - 1] == "/") and pattern[end : end + 1] in ("", "/")
            )
            if not whole or any_depth:
                found.append(STAR)
            elif end == len(pattern):
                found.append(".*")
            else:
                found.append(FOLDERS)
                end += 1
            at = end
            continue
        at += 1
        if char == "?":
            found.append("[^/]")
        elif char == "[":
            characters, at = _characters(pattern, at)
            if characters is None:
                return None
            found.append(characters)
        elif char == "\\":
            if at == len(pattern):
                return None
            found.append(re.escape(pattern[at]))
            at += 1
        else:
            found.append(re.escape(char))
    return expression(found)


def expression(pieces: Sequence[str]) -> str:
    """A regular expression for pieces in turn, which takes no longer for more stars.

    A plain `[^/]*` for each tries every way to divide a name among them: `*a*a*a*a*b` would keep a build busy
    for hours. Each star but the last takes the first place where what follows it fits, for good: a later one
    leaves less for the stars after it, which can take what is between.

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


def _characters(pattern: str, at: int) -> tuple[str | None, int]:
    """What stands in brackets, as a regular expression, and where it ends; None where it doesn't end."""
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    members: list[str] = []
    first = True
    while first or pattern[at : at + 1] != "]":
        first = False
        if named := re.compile(r"\[:(\w*):\]").match(pattern, at):
            if named[1] not in _CLASSES:
                return None, at
            members.append(_CLASSES[named[1]])
            at = named.end()
            continue
        low, at = _member(pattern, at)
        high = low
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("", "]"):
            high, at = _member(pattern, at + 1)
        if not low or not high:
            return None, at
        if low <= high:
            members.append(f"{re.escape(low)}-{re.escape(high)}")
    inner = "".join(members)
    if negated:
        return f"[^/{inner}]", at + 1
    return (f"(?!/)[{inner}]" if inner else "(?!)"), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    at += pattern.startswith("\\", at)
    return pattern[at : at + 1], at + 1
