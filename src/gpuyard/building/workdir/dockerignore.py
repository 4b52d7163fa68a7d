"""`.dockerignore` as Docker reads it, which isn't as git reads its own.

Patterns begin at the root, `*` stays within a folder and `**` doesn't, what matches a folder matches all that
is in it, and `!` takes back even what is in a folder that is left out. After github.com/moby/patternmatcher
(`ignorefile.ReadAll`, `PatternMatcher.MatchesOrParentMatches`) and, for a pattern's syntax, Go's
`path/filepath.Match`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpuyard.building.workdir.gitignore import FOLDERS, STAR, expression

#: podman and buildah look for the first one first (containerignore(5)); both have one syntax.
NAMES = (".containerignore", ".dockerignore")
_WILD = re.compile(r"[*?\[\\]")


@dataclass(frozen=True)
class DockerPattern:
    """One line.

    Attributes:
        line: as people are told: its number in the file, from 1, and its text.
        text: as it counts: without `!`, with no slash around it.
        takes_back: whether it began with `!`.
        matches: finds out about a path, or one of the folders that it lies in.
    """

    line: str
    text: str
    takes_back: bool
    matches: re.Pattern[str]


@dataclass(frozen=True)
class DockerIgnore:
    """The patterns of one file, in order."""

    patterns: tuple[DockerPattern, ...]

    @classmethod
    def parse(cls, text: str) -> DockerIgnore:
        """From a file's text.

        Raises:
            ValueError: a pattern isn't one; the message says which.
        """
        return cls(tuple(_patterns(text.removeprefix("\ufeff").splitlines())))

    def verdict(self, path: str) -> tuple[bool, str] | None:
        """Whether a path stays out, and the line that says so; None when no line concerns it."""
        left_out, line, path = False, "", path.rstrip("/")
        for pattern in self.patterns:
            # One that would leave out what is left out isn't asked, as in the original; one that takes back
            # says that git's rules don't count, too.
            if (pattern.takes_back or not left_out) and pattern.matches.match(path):
                left_out, line = not pattern.takes_back, pattern.line
        return (left_out, line) if line else None

    def may_take_back_below(self, folder: str) -> bool:
        """Whether a line could take back something in a folder that is left out."""
        return any(
            pattern.takes_back
            and ("**" in pattern.text or pattern.text.count("/") > folder.count("/"))
            and (
                (fixed := _fixed_part(pattern.text)).startswith(f"{folder}/")
                or f"{folder}/".startswith(fixed)
            )
            for pattern in self.patterns
        )


def _fixed_part(pattern: str) -> str:
    """What all that it matches begins with."""
    wild = _WILD.search(pattern)
    return pattern[: wild.start()] if wild else f"{pattern}/"


def _patterns(lines: Iterable[str]) -> Iterator[DockerPattern]:
    for number, written in enumerate(lines, 1):
        line = f"{number}: {written.strip()}"
        text = "" if written.startswith("#") else _read_line(written)
        if not text:
            continue
        takes_back = text.startswith("!")
        text = text.removeprefix("!")
        if not text:
            raise ValueError(f"line {line}: there is nothing after the !")
        try:
            yield DockerPattern(line, text, takes_back, re.compile(_expression(text), re.DOTALL))
        except (ValueError, re.error) as error:
            raise ValueError(f"line {line}: {error}") from None


def _read_line(written: str) -> str:
    """The pattern of a line, with a `!` before it where it takes back; of a leading slash none is left."""
    text = written.strip()
    takes_back = text.startswith("!")
    text = text.removeprefix("!").strip()
    if text:
        text = _clean(text)
        text = text[1:] if len(text) > 1 and text.startswith("/") else text
    text = (f"!{text}" if takes_back else text).strip()
    return _clean(text) if text else ""


def _clean(path: str) -> str:
    """As Go's filepath.Clean has it."""
    return re.sub("^//", "/", os.path.normpath(path))


def _expression(pattern: str) -> str:
    """A regular expression for paths that it matches, and for all that lies in them."""
    found: list[str] = []
    kind, at = "exact", 0
    while at < len(pattern):
        first, char = at == 0, pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 2 if pattern.startswith("/", at + 1) else 1
            if at < len(pattern):
                found.append(FOLDERS)
                kind = "wild"
            else:
                found.append(".*")
                kind = "prefix" if kind == "exact" else "wild"
            kind = "suffix" if first else kind
            continue
        if char == "[":
            char, at = _characters(pattern, at)
        elif char == "\\":
            if at == len(pattern):
                raise ValueError("a backslash at its end")
            char, at = re.escape(pattern[at]), at + 1
        elif char not in "*?":
            found.append(re.escape(char))
            kind = "wild" if char == "]" else kind
            continue
        found.append({"*": STAR, "?": "[^/]"}.get(char, char))
        kind = "wild"
    if kind == "suffix":  # `**` and no other wildcard: also `**file` matches `dir/a-file`.
        rest = pattern.removeprefix("**")
        found = [FOLDERS, re.escape(rest[1:])] if rest.startswith("/") else [".*", re.escape(rest)]
    return rf"(?:{expression(found)})(?:/.*)?\Z"


def _characters(pattern: str, at: int) -> tuple[str, int]:
    """What stands in brackets, as a regular expression, and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _character(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _character(pattern, at + 1)
        ranges.append(f"{low}-{high}")
    return f"[{'^' if negated else ''}{''.join(ranges)}]", at + 1


def _character(pattern: str, at: int) -> tuple[str, int]:
    escaped = pattern.startswith("\\", at)
    char = pattern[at + escaped : at + escaped + 1]
    if not char or (char in "-]" and not escaped):
        raise ValueError("brackets that hold no characters, or don't end")
    return re.escape(char), at + escaped + 1
