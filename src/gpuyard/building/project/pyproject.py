"""A project's pyproject.toml with the types that its readers expect, and what they say when it can't do."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.regular_files import read_regular

NAME = "pyproject.toml"
#: What of [project] only an index's page shows.
_PAGE = frozenset({"readme", "description", "classifiers", "urls", "license"})


@dataclass(frozen=True)
class Part:
    """A package or a module of a project.

    Attributes:
        name: its path below site-packages: `pkg`, `ns/pkg` or `module.py`.
        path: the folder or file on this machine.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Table:
    """A table of TOML; each value is of the type asked for, or UsageError says where it isn't.

    Attributes:
        raw: as it was parsed.
        place: what messages call it.
    """

    raw: Mapping[str, Any]
    place: str

    def __contains__(self, key: str) -> bool:
        return key in self.raw

    def table(self, *keys: str) -> Table:
        """An inner table; empty when it isn't there."""
        found = self
        for key in keys:
            found = Table(found._typed(key, dict, {}, "a table"), f"{found.place}.{key}".lstrip("."))
        return found

    def text(self, key: str, default: str = "") -> str:
        """A string."""
        return str(self._typed(key, str, default, "a text"))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        found = self._typed(key, list, [], "a list of texts")
        if not all(isinstance(item, str) for item in found):
            raise self._wrong(key, "a list of texts")
        return tuple(found)

    def pairs(self, key: str) -> dict[str, str]:
        """A table of strings."""
        found = self._typed(key, dict, {}, "a table of texts")
        if not all(isinstance(item, str) for item in found.values()):
            raise self._wrong(key, "a table of texts")
        return dict(found)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self._typed(key, bool, default, "true or false"))

    def _typed(self, key: str, kind: type, default: object, called: str) -> Any:
        found = self.raw.get(key, default)
        if not isinstance(found, kind):
            raise self._wrong(key, called)
        return found

    def _wrong(self, key: str, called: str) -> errors.UsageError:
        return errors.UsageError(f"{self.place}.{key} must be {called}", remedy="mend the file")


@dataclass(frozen=True)
class Pyproject:
    """One pyproject.toml.

    Attributes:
        folder: that it is in.
        table: the whole; empty where there is no file, as for projects with setup.cfg alone.
    """

    folder: Path
    table: Table = field(hash=False)

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.folder / NAME

    @property
    def project(self) -> Table:
        """[project]."""
        return self.table.table("project")

    @property
    def build_system(self) -> Table:
        """[build-system]."""
        return self.table.table("build-system")

    def tool(self, *keys: str) -> Table:
        """[tool.…]."""
        return self.table.table("tool", *keys)

    def with_version(self, version: Callable[[], str]) -> Table:
        """[project] with what is dynamic of it.

        Args:
            version: finds the version, where that is dynamic.

        Raises:
            BuildError: something else is dynamic that decides what is installed.
        """
        found = dict(self.project.raw)
        for key in self.project.texts("dynamic"):
            if key == "version":
                found[key] = version()
            elif key not in _PAGE:
                raise self.not_static(f"{key} is dynamic")
        return Table(found, self.project.place)

    def not_static(self, why: str) -> errors.BuildError:
        """The error for what only a build could tell."""
        return errors.BuildError(
            f"the project in {self.folder} can't be taken without running its build: {why}",
            remedy="build with --build-project, which runs the build here; where the image is to have the "
            "project's requirements only, set package = false under [tool.uv] in its pyproject.toml",
        )


def read_pyproject(folder: Path) -> Pyproject:
    """The file of a folder; empty without one.

    Raises:
        UsageError: it can't be read.
    """
    path = folder / NAME
    try:
        raw = tomllib.loads(read_regular(path).decode("utf-8"))
    except FileNotFoundError:
        raw = {}
    except OSError as error:
        raise errors.UsageError(
            f"can't read {path}: {error.strerror}", remedy="mend its permissions"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"can't read {path}: {error}", remedy="mend the file") from error
    return Pyproject(folder, Table(raw, str(path)))


def existing_part(root: Path, name: str) -> Part | None:
    """The package or module of a dotted name below a folder, if it is there."""
    path = "/".join(name.split("."))
    if (root / path).is_dir():
        return Part(path, root / path)
    if (root / f"{path}.py").is_file():
        return Part(f"{path}.py", root / f"{path}.py")
    return None


def matching(folder: Path, pattern: str) -> list[Path]:
    """What a pattern of a pyproject.toml matches, sorted; raises UsageError where it is none."""
    try:
        return sorted(folder.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise errors.UsageError(
            f"{folder / NAME} has a pattern that can't be: {pattern!r}", remedy="mend the file"
        ) from error
