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
_ASSIGNED = re.compile(
    r"^\s*(?P<name>[A-Za-z_]\w*)=(?P<value>\"[^\"$`]*\"|'[^'$`]*'|[\w./+:-]*)\s*$", re.MULTILINE
)
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
    """What a script installs, and whether all of it could be read."""
    text = _CONTINUED.sub(" ", re.sub(r"^\s*#.*$", "", script, flags=re.MULTILINE))
    values = {m["name"]: m["value"].strip("\"'") for m in _ASSIGNED.finditer(text)}
    found: list[InstallCall] = []
    whole = True
    for call in _CALL.finditer(text):
        if "--install" not in call["words"]:
            continue
        words = _VARIABLE.sub(lambda m: values.get(m["plain"] or m["braced"], m[0]), call["words"])
        try:
            parts = shlex.split(words)
            if "$" in words or "`" in words:
                raise ValueError
            found.append(_install(parts[parts.index("--install") + 1 :]))
        except (ValueError, IndexError):
            whole = False
    return found, whole


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
