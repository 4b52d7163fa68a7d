"""Where a project's requirements come from when not from the usual index: [tool.uv.sources], workspaces
and Poetry's sources.

Source: uv 0.9, docs "Managing dependencies", "Dependency sources" and "Using workspaces".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.building.project.pyproject import NAME, Pyproject, Table, matching, read_pyproject
from gpuyard.images.contents.contents import normalise


@dataclass(frozen=True)
class ProjectSources:
    """What holds for one project, its workspace's included.

    Attributes:
        folders: projects of this machine, by normalised name.
        others: what uv is to be told, by name as written; paths in it are absolute.
        indexes: [[tool.uv.index]], paths in them absolute.
        written: `others` and `indexes` as the files have them, the workspace's first.
        default: NAME=URL of an index that takes the place of the usual one; empty for that.
        notices: what the user should know.
    """

    folders: Mapping[str, Path]
    others: Mapping[str, Any]
    indexes: tuple[Mapping[str, Any], ...]
    written: tuple[Any, ...]
    default: str = ""
    notices: tuple[str, ...] = ()


def sources_of(pyproject: Pyproject) -> ProjectSources:
    """The sources of a project.

    Raises:
        UsageError: one names a member that the workspace hasn't.
        BuildError: one leads to this machine under a condition.
    """
    root = _workspace(pyproject)
    folders: dict[str, Path] = {}
    others: dict[str, Any] = {}
    indexes: list[Mapping[str, Any]] = []
    written: list[Any] = []
    for owner in dict.fromkeys((root, pyproject) if root else (pyproject,)):
        for name, raw in owner.tool("uv", "sources").raw.items():
            folders.pop(normalise(name), None)
            others.pop(name, None)
            if (folder := _folder(owner, root, name, raw)) is not None:
                folders[normalise(name)] = folder
            else:
                others[name] = _absolute(owner, raw)
                written.append((name, raw))
        found = owner.tool("uv").raw.get("index", [])
        indexes += [_absolute(owner, index) for index in found if isinstance(index, dict)]
        written.append(found)
    if "poetry" not in pyproject.tool():
        return ProjectSources(folders, others, tuple(indexes), tuple(written))
    from gpuyard.building.project.backends.poetry_sources import poetry_sources

    poetry = poetry_sources(pyproject)
    return ProjectSources(
        folders,
        {**poetry.sources, **others},
        (*indexes, *poetry.indexes),
        (*written, poetry.sources, poetry.indexes, poetry.default),
        poetry.default,
        poetry.notices,
    )


def _workspace(pyproject: Pyproject) -> Pyproject | None:
    """The root of the workspace that a project is a member of, or is itself."""
    for folder in (pyproject.folder, *pyproject.folder.parents):
        if not (folder / NAME).is_file():
            continue
        found = read_pyproject(folder)
        if "workspace" in found.tool("uv"):
            return found if folder == pyproject.folder or pyproject.folder in _members(found) else None
    return None


def _members(root: Pyproject) -> Iterator[Path]:
    workspace = root.tool("uv", "workspace")
    excluded = {path for pattern in workspace.texts("exclude") for path in matching(root.folder, pattern)}
    for pattern in workspace.texts("members"):
        for path in matching(root.folder, pattern):
            if path not in excluded and (path / NAME).is_file():
                yield Path(path.resolve()) if ".." in path.parts else path


def _folder(owner: Pyproject, root: Pyproject | None, name: str, raw: Any) -> Path | None:
    """The folder of a source that is a project of this machine."""
    if isinstance(raw, list):
        if any(isinstance(one, dict) and ("workspace" in one or _path(owner, one)) for one in raw):
            raise owner.not_static(f"the source of {name} is a folder under a condition")
        return None
    if not isinstance(raw, dict):
        raise errors.UsageError(f"{owner.path}: tool.uv.sources.{name} must be a table")
    if raw.get("workspace"):
        for member in (root.folder, *_members(root)) if root else ():
            if normalise(read_pyproject(member).project.text("name")) == normalise(name):
                return member
        raise errors.UsageError(
            f"{owner.path}: tool.uv.sources.{name} is a member of the workspace, which has none of that name",
            remedy="add it to tool.uv.workspace.members",
        )
    return _path(owner, raw)


def _path(owner: Pyproject, raw: Mapping[str, Any]) -> Path | None:
    path = Table(raw, str(owner.path)).text("path")
    folder = owner.folder / path
    return folder if path and folder.is_dir() else None


def _absolute(owner: Pyproject, raw: Any) -> Any:
    """A source or an index with paths that hold from elsewhere, too."""
    if isinstance(raw, list):
        return [_absolute(owner, one) for one in raw]
    if not isinstance(raw, dict):
        return raw
    found = dict(raw)
    for key in ("path", "url"):
        text = found.get(key)
        if isinstance(text, str) and "://" not in text and not text.startswith("file:"):
            found[key] = str((owner.folder / text).absolute())
    return found
