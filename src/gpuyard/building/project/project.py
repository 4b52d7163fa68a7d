"""One project of the user's: what it is called, what it requires and where its packages are.

Nothing of it is run. What its build backend would do is known for the backends of `backends/`, as far as
files say it; of all others, and where they don't, only a build can tell, and the error says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.building.project.metadata import ProjectMetadata
from gpuyard.building.project.pyproject import Part, Pyproject, Table, read_pyproject
from gpuyard.building.python.wheels import Wheel

_LEGACY = "setuptools.build_meta:__legacy__"


@dataclass(frozen=True)
class _BuildBackend:
    """How one backend's projects are read.

    Attributes:
        module: of `backends`, loaded when there is such a project: it costs start-up time.
        harmless: distributions that may be required for a build, and change nothing that matters here.
    """

    module: str
    harmless: frozenset[str]

    def declared(self, pyproject: Pyproject, environ: Mapping[str, str]) -> Table:
        """See `backends`."""
        found: Table = self._loaded.declared(pyproject, environ)
        return found

    def parts(self, pyproject: Pyproject, name: str) -> list[Part]:
        """See `backends`."""
        found: list[Part] = self._loaded.parts(pyproject, name)
        return found

    @property
    def _loaded(self) -> Any:
        return import_module(f"gpuyard.building.project.backends.{self.module}")


_SETUPTOOLS = _BuildBackend(
    "setuptools", frozenset({"setuptools", "wheel", "setuptools-scm", "pip", "build", "packaging"})
)
_POETRY = _BuildBackend("poetry", frozenset({"poetry-core", "poetry", "setuptools"}))
_BACKENDS = {
    "setuptools.build_meta": _SETUPTOOLS,
    _LEGACY: _SETUPTOOLS,
    "hatchling.build": _BuildBackend(
        "hatchling", frozenset({"hatchling", "hatch-vcs", "hatch-fancy-pypi-readme"})
    ),
    "flit_core.buildapi": _BuildBackend("flit", frozenset({"flit-core"})),
    "pdm.backend": _BuildBackend("pdm", frozenset({"pdm-backend"})),
    "poetry.core.masonry.api": _POETRY,
    "poetry.masonry.api": _POETRY,
    "uv_build": _BuildBackend("uv", frozenset({"uv-build"})),
}


@dataclass(frozen=True)
class Project:
    """A project as its files describe it.

    Attributes:
        folder: absolute, on this machine.
        parts: packages and modules; none of one that was built.
        wheel: what its build made; it is in the cache.
    """

    folder: Path
    metadata: ProjectMetadata
    parts: tuple[Part, ...]
    wheel: Wheel | None = None


def is_project(folder: Path) -> bool:
    """Whether a folder has what pip and uv know a project by."""
    return any((folder / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg"))


def is_package(pyproject: Pyproject) -> bool:
    """Whether a project is there to be installed, by uv's rule: it has a build system, unless it says."""
    mode = pyproject.tool("poetry").flag("package-mode", "build-system" in pyproject.table)
    return pyproject.tool("uv").flag("package", mode)


def read_project(folder: Path, environ: Mapping[str, str]) -> Project:
    """Reads a project.

    Args:
        folder: with its pyproject.toml, setup.cfg or setup.py.
        environ: variables by which backends are told a version.

    Raises:
        UsageError: a file of it is wrong.
        BuildError: only a build could tell what it is.
    """
    folder = folder.absolute()
    pyproject = read_pyproject(folder)
    backend = _backend(pyproject)
    try:
        metadata = ProjectMetadata.of_project(backend.declared(pyproject, environ))
        parts = tuple(backend.parts(pyproject, metadata.name))
    except OSError as error:
        raise errors.UsageError(f"can't read {error.filename}: {error.strerror}") from error
    return Project(folder, metadata, parts)


def _backend(pyproject: Pyproject) -> _BuildBackend:
    from packaging.requirements import InvalidRequirement, Requirement

    from gpuyard.images.contents.contents import normalise

    system = pyproject.build_system
    if system.texts("backend-path"):
        raise pyproject.not_static("its build backend lies in the project itself")
    name = system.text("build-backend", _LEGACY)
    backend = _BACKENDS.get(name)
    if backend is None:
        raise pyproject.not_static(f"its build backend is {name}")
    for text in system.texts("requires"):
        try:
            need = normalise(Requirement(text).name)
        except InvalidRequirement:
            need = text
        if need not in backend.harmless:
            raise pyproject.not_static(f"its build requires {need}, which may do anything")
    return backend
