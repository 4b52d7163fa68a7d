"""What requirements ask for besides wheels: the user's own projects, and the rest, without them, for uv."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuyard import errors
from gpuyard.building.project.pyproject import NAME
from gpuyard.building.python.resolving.requirement_lines import Kind, RequirementLine, local_path
from gpuyard.building.python.resolving.requirements_file import read_lines
from gpuyard.images.contents.contents import normalise

if TYPE_CHECKING:
    from gpuyard.building.project.project import Project


_MOVED = {Kind.INCLUDE: "-r", Kind.CONSTRAINTS: "-c", Kind.LINKS: "-f"}


@dataclass(frozen=True)
class AskedProject:
    """A project that is to be in the image.

    Attributes:
        marker: of the environments in which it is; empty for all.
    """

    project: Project
    marker: str = ""


@dataclass(frozen=True)
class Needs:
    """What one asked project requires of others.

    Attributes:
        requires: requirements (PEP 508).
        sources, indexes: [tool.uv.sources] and [[tool.uv.index]] for them.
        written: the same as the files have it.
    """

    name: str
    requires: tuple[str, ...]
    sources: Mapping[str, Any]
    indexes: tuple[Mapping[str, Any], ...]
    written: tuple[Any, ...] = ()

    def to_text(self) -> str:
        """A pyproject.toml that requires the same."""
        from gpuyard.building.project.toml import to_toml

        names = {normalise(name) for text in self.requires if (name := requirement_name(text))}
        uv = {
            "sources": {name: raw for name, raw in self.sources.items() if normalise(name) in names},
            "index": list(self.indexes),
        }
        project = {"name": self.name, "version": "0", "dependencies": list(self.requires)}
        return to_toml(
            {"project": project, "tool": {"uv": {key: value for key, value in uv.items() if value}}}
        )


@dataclass
class Requested:
    """What a requirements file asks for besides wheels; `read_requested` makes it.

    Attributes:
        path: of the file.
        projects: by normalised name.
        needs: what these, and projects that aren't installed, require of others, by their folder.
        lines: of each requirements file what its lines ask for, by their number.
        changed: of each requirements file what is in the place of some of its lines, by their number.
        instead: whether the needs are all, and the file itself isn't one that uv is to read.
        text: what counts in the place of the file's own lines.
        builds: normalised names of distributions that are built of their sources, or ALL_SOURCES.
        notices: what the user should know.
        requires_python: specifier; empty for any.
        settings: [tool.uv] of a project's file, as far as it may decide which wheels there are.
        default_index: NAME=URL of what a project takes in the place of the usual index; empty for that.
    """

    path: Path
    projects: dict[str, AskedProject] = field(default_factory=dict)
    needs: dict[Path, Needs] = field(default_factory=dict)
    lines: dict[Path, list[RequirementLine]] = field(default_factory=dict)
    changed: dict[Path, dict[int, str]] = field(default_factory=dict)
    instead: bool = False
    text: tuple[str, ...] | None = None
    builds: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    requires_python: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    default_index: str = ""

    @property
    def asked(self) -> dict[str, list[str]]:
        """What the projects require of others: normalised name → requirements."""
        found: dict[str, list[str]] = {}
        for text in self._required():
            found.setdefault(normalise(requirement_name(text)), []).append(text)
        return found

    def _required(self) -> Iterator[str]:
        for needs in self.needs.values():
            yield from (
                text for text in needs.requires if normalise(requirement_name(text)) not in self.projects
            )

    @property
    def fingerprint(self) -> bytes:
        """What of the projects decides which wheels there are: changes with it, not with their code.

        A copy of all in another folder has the same.
        """
        decides: list[Any] = [self.settings] if self.settings else []
        for folder, needs in self.needs.items():
            # Poetry's paths were made absolute.
            place = folder.as_uri()
            decides.append((needs.name, [text.replace(place, "file:.") for text in needs.requires]))
            decides.append(needs.written)
        return json.dumps(decides, sort_keys=True, default=str).encode() if decides else b""

    def inputs(self, folder: Path) -> list[Path]:
        """The files that uv is to read; those that aren't the user's own are written into `folder`."""
        folder = folder / "requested"
        folder.mkdir()
        found = [] if self.instead else [self._written(folder, self.path.absolute())]
        for index, needs in enumerate(self.needs.values()):
            place = folder / str(index)
            place.mkdir()
            left = tuple(
                text for text in needs.requires if normalise(requirement_name(text)) not in self.projects
            )
            text = Needs(needs.name, left, needs.sources, needs.indexes).to_text()
            (place / NAME).write_text(text, "utf-8")
            found.append(place / NAME)
        return found

    def _written(self, folder: Path, path: Path) -> Path:
        """A requirements file without its projects; itself where no file of those it includes has any."""
        if not any(self.changed.values()) and self.text is None:
            return path
        place = folder / f"{len(list(folder.iterdir()))}-{path.name}"
        place.touch()
        changed = self.changed[path]
        lines = enumerate(self.lines[path])
        text = "\n".join(changed.get(number, self._moved(line, path, folder)) for number, line in lines)
        place.write_text(text + "\n", "utf-8")
        return place

    def read_lines(self, path: Path) -> list[str]:
        """A file's lines with those joined that go on; comments are empty lines."""
        if self.text is not None and path == self.path.absolute():
            return list(self.text)
        return read_lines(path)

    def _moved(self, line: RequirementLine, path: Path, folder: Path) -> str:
        """A line whose paths hold from another folder, too."""
        option = _MOVED.get(line.kind)
        target = local_path(line.where, path.parent.absolute()) if option else None
        if target is None:
            return line.text
        if line.kind is Kind.INCLUDE:
            target = self._written(folder, target)
        return f"{option} {target}"


def requirement_name(text: str) -> str:
    """The name that a requirement begins with, as it is written."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)
    return match[0] if match else ""


def projects_for(
    requested: Requested, python: str, environment: Mapping[str, str], place: str
) -> tuple[Project, ...]:
    """The projects that are to be in one image.

    Args:
        requested: by its requirements.
        python: of the base, such as 3.11.
        environment: its marker variables.
        place: what messages call it.

    Raises:
        ResolveError: one doesn't run on the base's Python.
    """
    if not requested.projects and not requested.requires_python:
        return ()
    from packaging.markers import Marker

    _check_python(requested.path.name, requested.requires_python, python, place)
    found = []
    for asked in requested.projects.values():
        if asked.marker and not Marker(asked.marker).evaluate({**environment, "extra": ""}):
            continue
        metadata = asked.project.metadata
        _check_python(metadata.name, metadata.requires_python, python, place)
        found.append(asked.project)
    return tuple(found)


def _check_python(name: str, bound: str, python: str, place: str) -> None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        allowed = SpecifierSet(bound)
    except InvalidSpecifier as error:
        raise errors.UsageError(f"{name} requires Python {bound!r}, which is no specifier") from error
    # The base's Python is known by its minor version: any release of it may do.
    if not any(allowed.contains(f"{python}.{patch}") for patch in (0, 99)):
        raise errors.ResolveError(
            f"{name} requires Python {bound}, and {place} has {python}",
            remedy="choose another base, or change what is required",
        )
