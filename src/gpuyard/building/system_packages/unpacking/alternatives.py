"""Alternatives (update-alternatives(1)), as the scripts of the chosen packages would have them.

What a script installs is read from its text, and the links are made here: libblas.so.3 is one, and ffmpeg
doesn't start without it.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_FOLDER = "var/lib/dpkg/alternatives/"
_LINKS = "etc/alternatives/"
#: It becomes a file's.
_NAME = re.compile(r"[\w+][\w+.:@-]*", re.ASCII)
_CONTINUED = re.compile(r"\\\n[ \t]*")
_CALL = re.compile(r"(?:^|[;&|\s])(?:/usr/s?bin/)?update-alternatives\s+(?P<words>[^\n;&|]*)")
_ASSIGNED = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>\"[^\"`]*\"|'[^'`]*'|[\w./+:${}-]*)")
_FOR = re.compile(r"for\s+(?P<name>[A-Za-z_]\w*)\s+in\s+(?P<words>.*)")
_LOOP = re.compile(r"(?:for|while|until)\b.*")
#: Words that stand on a line of their own as well as after a semicolon.
_KEYWORD = re.compile(r"[ \t]*;[ \t]*(?=(?:do|done|then|fi)\b)|(?<=\bdo)[ \t]+(?=\S)")
#: More than any script does; loops in loops in loops are nobody's.
_MOST_LINES = 20_000
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<braced>\w+)\})")


@dataclass(frozen=True)
class AlternativeChoice:
    """One way that a name can be had.

    Attributes:
        slaves: name → path, of what comes and goes with it.
    """

    path: str
    priority: int
    slaves: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass
class Alternative:
    """A name with its choices, as a file of dpkg's says it.

    Attributes:
        link: path that leads to the choice.
        slaves: name → link.
        manual: whether an administrator chose.
    """

    name: str
    link: str
    manual: bool = False
    chosen: str = ""
    slaves: dict[str, str] = field(default_factory=dict)
    choices: dict[str, AlternativeChoice] = field(default_factory=dict)

    @property
    def best(self) -> AlternativeChoice:
        """The one that counts."""
        if self.manual and self.chosen in self.choices:
            return self.choices[self.chosen]
        return max(self.choices.values(), key=lambda choice: choice.priority)

    @classmethod
    def parse(cls, name: str, text: str) -> Alternative | None:
        """From dpkg's file; None when it can't be read."""
        lines = iter(text.split("\n"))
        try:
            found = cls(name, "", manual=next(lines) == "manual")
            found.link = next(lines)
            while slave := next(lines):
                found.slaves[slave] = next(lines)
            while path := next(lines):
                priority = int(next(lines))
                slaves = {slave: target for slave in found.slaves if (target := next(lines))}
                found.choices[path] = AlternativeChoice(path, priority, slaves)
        except (StopIteration, ValueError):
            return None
        return found

    def to_text(self) -> str:
        """For dpkg's file."""
        lines = ["manual" if self.manual else "auto", self.link]
        for slave, link in sorted(self.slaves.items()):
            lines += [slave, link]
        lines.append("")
        for path, choice in sorted(self.choices.items()):
            lines += [path, str(choice.priority)]
            lines += [choice.slaves.get(slave, "") for slave in sorted(self.slaves)]
        return "\n".join([*lines, "", ""])


@dataclass(frozen=True)
class InstallCall:
    """A call of `update-alternatives --install`."""

    link: str
    name: str
    choice: AlternativeChoice
    slaves: Mapping[str, str]


def installed_by(script: str) -> tuple[list[InstallCall], bool]:
    """What a script installs, and whether all of it could be read.

    Loops over words are gone through, as ImageMagick and Java have them; conditions are taken as met, since
    what isn't in the image is no choice in the end.
    """
    text = _CONTINUED.sub(" ", re.sub(r"^\s*#.*$", "", script, flags=re.MULTILINE))
    reading = _ScriptReading()
    reading.read([line.strip() for line in _KEYWORD.sub("\n", text).splitlines()])
    return reading.found, reading.whole


class _ScriptReading:
    """Goes through a script's lines, with the values that its variables have there."""

    def __init__(self) -> None:
        self.found: list[InstallCall] = []
        self.whole = True
        self._values: dict[str, str] = {}
        self._left = _MOST_LINES

    def read(self, lines: Sequence[str]) -> None:
        """Reads lines; loops again for each word."""
        at = 0
        while at < len(lines):
            self._left -= 1
            if self._left < 0:
                self.whole = False
                return
            if match := _FOR.fullmatch(lines[at]):
                end = _end_of_loop(lines, at)
                for word in self._expanded(match["words"]).split():
                    self._values[match["name"]] = word
                    self.read(lines[at + 1 : end])
                at = end
            else:
                self._read_line(lines[at])
            at += 1

    def _read_line(self, line: str) -> None:
        if match := _ASSIGNED.fullmatch(line):
            self._values[match["name"]] = self._expanded(match["value"].strip("\"'"))
        elif line.startswith("unset "):
            self._values |= dict.fromkeys(line.partition("|")[0].split()[1:], "")
        for call in _CALL.finditer(line):
            if "--install" not in call["words"]:
                continue
            words = self._expanded(call["words"])
            try:
                parts = shlex.split(words)
                if "$" in words or "`" in words:
                    raise ValueError
                self.found.append(_install(parts[parts.index("--install") + 1 :]))
            except (ValueError, IndexError):
                self.whole = False

    def _expanded(self, text: str) -> str:
        """With the variables whose values are known."""
        return _VARIABLE.sub(lambda m: self._values.get(m["plain"] or m["braced"], m[0]), text)


def _end_of_loop(lines: Sequence[str], start: int) -> int:
    """The line with a loop's `done`; the last one where there is none."""
    depth = 0
    for at in range(start, len(lines)):
        depth += _LOOP.fullmatch(lines[at]) is not None
        depth -= re.match(r"done\b", lines[at]) is not None
        if not depth:
            return at
    return len(lines)


def _install(words: Sequence[str]) -> InstallCall:
    link, name, path, priority, *rest = words
    links: dict[str, str] = {}
    slaves: dict[str, str] = {}
    while rest[:1] == ["--slave"]:
        _, slave_link, slave, target, *rest = rest
        links[slave], slaves[slave] = slave_link, target
    if not all(map(_NAME.fullmatch, (name, *slaves))) or not all(
        map(_is_plain, (link, path, *links.values()))
    ):
        raise ValueError
    return InstallCall(link, name, AlternativeChoice(path, int(priority), slaves), links)


def _is_plain(path: str) -> bool:
    return posixpath.isabs(path) and posixpath.normpath(path) == path


def merge(
    base: Mapping[str, bytes], installed: Sequence[InstallCall], is_there: Callable[[str], bool]
) -> list[Alternative]:
    """The alternatives that change.

    Args:
        base: files of the base, by path without a leading slash.
        installed: by the chosen packages.
        is_there: whether the image has a path.
    """
    changed: dict[str, Alternative] = {}
    for each in installed:
        if not is_there(each.choice.path):
            continue
        if each.name not in changed:
            text = base.get(_FOLDER + each.name, b"").decode("utf-8", "surrogateescape")
            changed[each.name] = Alternative.parse(each.name, text) or Alternative(each.name, each.link)
        alternative = changed[each.name]
        alternative.slaves.update(each.slaves)
        alternative.choices[each.choice.path] = each.choice
    return [changed[name] for name in sorted(changed)]


def links_of(alternative: Alternative, is_there: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Symbolic links of an alternative: path without a leading slash, and target."""
    best = alternative.best
    yield alternative.link.lstrip("/"), f"/{_LINKS}{alternative.name}"
    yield _LINKS + alternative.name, best.path
    for slave, target in sorted(best.slaves.items()):
        if is_there(target):
            yield alternative.slaves[slave].lstrip("/"), f"/{_LINKS}{slave}"
            yield _LINKS + slave, target


def admin_path(alternative: Alternative) -> str:
    """Where dpkg keeps it."""
    return _FOLDER + alternative.name
