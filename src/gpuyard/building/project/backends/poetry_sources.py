"""Poetry's package sources, [[tool.poetry.source]], as the indexes of uv.

Source: Poetry 2.1, docs "Repositories", "Package sources": what a dependency names is the only one for it; a
primary one takes the place of PyPI; a supplemental one is asked last; an explicit one for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpuyard import errors
from gpuyard.building.project.pyproject import Pyproject, Table

_PYPI = "pypi"
_PYPI_URL = f"https://{_PYPI}.org/simple"
_PRIORITIES = ("primary", "default", "supplemental", "explicit")


@dataclass(frozen=True)
class PoetrySources:
    """What uv is told in their place.

    Attributes:
        sources: [tool.uv.sources] of dependencies that name theirs.
        indexes: [[tool.uv.index]] for these.
        default: NAME=URL of the one that takes the place of PyPI; empty where none does.
        notices: what is otherwise than with Poetry.
    """

    sources: Mapping[str, Any]
    indexes: tuple[Mapping[str, Any], ...]
    default: str
    notices: tuple[str, ...]


def poetry_sources(pyproject: Pyproject) -> PoetrySources:
    """Reads them.

    Raises:
        UsageError: one is wrong, or uv couldn't do what Poetry does.
    """
    raw = pyproject.tool("poetry").raw.get("source", [])
    if not isinstance(raw, list) or not all(isinstance(one, dict) for one in raw):
        raise errors.UsageError(f"{pyproject.path}: tool.poetry.source must be a list of tables")
    tables = [Table(one, f"{pyproject.path}: tool.poetry.source") for one in raw]
    urls = {_PYPI: _PYPI_URL} | {_index(table): _url(table) for table in tables}
    priorities = {_index(table): _priority(table) for table in tables}
    primary = [name for name, priority in priorities.items() if priority in ("primary", "default")]
    if len(primary) > 1:
        raise errors.UsageError(
            f"{pyproject.path}: Poetry looks for each package in all of its primary sources, "
            f"{', '.join(primary)}, and uv takes the first that has it",
            remedy='keep one, give the others priority = "explicit", and name them as the `source` of what '
            "they are for",
        )
    default = next((name for name in primary if name != _PYPI), "")
    usual = {default or _PYPI}
    named = {name: index for name, index in _named(pyproject, urls) if index not in usual}
    notices = tuple(
        f"{pyproject.path.name}: the supplemental source {name} is asked only for what has it as its `source`"
        for name, priority in priorities.items()
        if priority == "supplemental"
    )
    return PoetrySources(
        {name: {"index": index} for name, index in named.items()},
        tuple({"name": name, "url": urls[name], "explicit": True} for name in dict.fromkeys(named.values())),
        f"{default}={urls[default]}" if default else "",
        notices,
    )


def _index(table: Table) -> str:
    """A source's name as uv allows it."""
    name = table.text("name")
    if not name:
        raise errors.UsageError(f"{table.place} has one without a name", remedy="mend the file")
    return _key(name)


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name) if name.lower() != _PYPI else _PYPI


def _url(table: Table) -> str:
    url = table.text("url", _PYPI_URL if _index(table) == _PYPI else "")
    if "://" not in url:
        raise errors.UsageError(
            f"{table.place}: {table.text('name')} has no URL that is one: {url!r}", remedy="mend the file"
        )
    return url


def _priority(table: Table) -> str:
    """With what Poetry 1 had in its place."""
    old = "default" if table.flag("default", False) else "secondary" if table.flag("secondary", False) else ""
    priority = table.text("priority", old or "primary").lower()
    if priority not in _PRIORITIES:
        raise errors.UsageError(
            f"{table.place}: the priority of {table.text('name')} is {priority}, which is read no longer",
            remedy="make it primary, supplemental or explicit",
        )
    return priority


def _named(pyproject: Pyproject, urls: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Dependencies that name a source, with its name."""
    for name, value in pyproject.tool("poetry", "dependencies").raw.items():
        forms = value if isinstance(value, list) else [value]
        found = {str(form.get("source", "")) if isinstance(form, dict) else "" for form in forms}
        if found <= {""}:
            continue
        if len(found) > 1:
            raise errors.UsageError(
                f"{pyproject.path}: {name} comes from several sources, under conditions",
                remedy="name one source for all of its forms",
            )
        index = _key(found.pop())
        if index not in urls:
            raise errors.UsageError(
                f"{pyproject.path}: {name} comes from the source {index}, which tool.poetry.source hasn't",
                remedy="add it with its URL",
            )
        yield name, index
