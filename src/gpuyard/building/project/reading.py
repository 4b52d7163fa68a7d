"""Reads requirements for the user's own projects and for sources, before uv sees them.

uv would run their builds to learn what they require. It is then given the rest, with the projects' own
requirements in their place.
"""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from gpuyard import errors
from gpuyard.building.project.pyproject import NAME, Pyproject, Table, read_pyproject
from gpuyard.building.project.requested import (
    AskedProject,
    Needs,
    Requested,
    requirement_name,
)
from gpuyard.building.python.pylock import UV_LOCK, is_lock
from gpuyard.building.python.resolving.requirement_lines import Kind, RequirementLine, local_path, parse_line
from gpuyard.building.python.resolving.requirements_file import PROJECT_FILES
from gpuyard.building.python.sources import ALL_SOURCES
from gpuyard.images.contents.contents import normalise
from gpuyard.regular_files import read_regular

if TYPE_CHECKING:
    from gpuyard.building.project.conda import CondaEnvironment
    from gpuyard.building.project.metadata import ProjectMetadata
    from gpuyard.building.project.project import Project

_OTHER_LOCKS = {
    "poetry.lock": "name pyproject.toml, or export the lock: poetry export --output requirements.txt",
    "Pipfile": "export it: pipenv requirements > requirements.txt",
    "Pipfile.lock": "export it: pipenv requirements --hash > requirements.txt",
    "pdm.lock": "export it: pdm export --format pylock --output pylock.toml",
    "conda-lock.yml": "name environment.yml",
}
_CONDA_SUFFIXES = (".yml", ".yaml")
#: Keys of [tool.uv] that change no wheel that is required, or are in a project's needs.
_NO_SETTINGS = (
    "build-backend",
    "cache-keys",
    "default-groups",
    "dependency-groups",
    "dev-dependencies",
    "index",
    "managed",
    "package",
    "sources",
    "workspace",
)

#: Reads a project, or builds it where the user wants that.
ReadProject: TypeAlias = "Callable[[Path], Awaitable[Project]]"


class _RequirementsReader:
    """Goes from requirements to projects and from those to the projects that they require."""

    def __init__(
        self,
        path: Path,
        read: ReadProject,
        environ: Mapping[str, str],
        builds: Collection[str],
        *,
        frozen: bool,
    ) -> None:
        self.found = Requested(path)
        self._read = read
        self._environ = environ
        self._builds = builds
        self._frozen = frozen
        self._seen: set[tuple[Path, tuple[str, ...]]] = set()

    async def file(self, path: Path) -> None:
        """A requirements file with those that it includes."""
        path = path.absolute()
        if path in self.found.lines:
            return
        changed = self.found.changed[path] = {}
        texts = self.found.read_lines(path)
        self.found.lines[path] = [parse_line(text, path.parent, self._environ) for text in texts]
        for number, line in enumerate(self.found.lines[path]):
            if line.kind is Kind.INCLUDE:
                included = local_path(line.where, path.parent)
                assert included is not None
                await self.file(included)
            elif line.kind is Kind.FOLDER:
                folder = local_path(line.where, path.parent)
                assert folder is not None
                await self.project(folder, line.extras, line.marker, asked_by=f"{path.name}: {line.text}")
                changed[number] = ""
            elif line.kind in (Kind.SOURCES, Kind.NO_BINARY, Kind.REMOTE):
                if not self._is_built(path, line):
                    changed[number] = ""
                elif line.kind is Kind.SOURCES:
                    changed[number] = f"{line.name} @ {line.where}" if line.name else line.where
                    changed[number] += f" ; {line.marker}" if line.marker else ""

    async def project(
        self, folder: Path, extras: tuple[str, ...], marker: str, *, asked_by: str, whole: bool = True
    ) -> None:
        """A project with what it requires; whole where it is to be installed, too."""
        # Most builds have no project of their own, and don't wait for this.
        from gpuyard.building.project.project import is_project
        from gpuyard.building.project.workspace import sources_of

        folder = Path(folder.resolve())
        if (folder, extras) in self._seen:
            return
        self._seen.add((folder, extras))
        if not is_project(folder):
            raise errors.UsageError(
                f"{asked_by}: {folder} has no pyproject.toml, setup.cfg or setup.py",
                remedy="name a project's folder, or a file that ends in .whl",
            )
        pyproject = read_pyproject(folder)
        sources = sources_of(pyproject)
        if whole:
            project = await self._read(folder)
            metadata = project.metadata
            self.found.projects.setdefault(metadata.key, AskedProject(project, marker))
        else:
            metadata = _declared_only(pyproject)
        left_out = self._not_built(folder, metadata.required(extras), sources.others)
        requires = [
            _under(text, marker)
            for text in metadata.required(extras)
            if normalise(requirement_name(text)) not in left_out
            and not await self._local(text, folder, sources.folders, marker)
        ]
        before = self.found.needs.get(folder)
        kept = dict.fromkeys((*(before.requires if before else ()), *requires))
        self._take_default(folder, sources.default)
        self.found.notices += tuple(text for text in sources.notices if text not in self.found.notices)
        self.found.needs[folder] = Needs(
            metadata.key, tuple(kept), sources.others, sources.indexes, sources.written
        )

    def _take_default(self, folder: Path, index: str) -> None:
        before = self.found.default_index
        if index and before and index != before:
            raise errors.UsageError(
                f"{folder / NAME} takes {index} for all packages, and another project {before}",
                remedy="name the same primary source in both",
            )
        self.found.default_index = index or before

    async def _local(self, text: str, folder: Path, folders: Mapping[str, Path], marker: str) -> bool:
        """Follows a requirement that is a project of this machine; False of what is left for uv."""
        from packaging.requirements import Requirement

        requirement = Requirement(text)
        place = folders.get(normalise(requirement.name))
        if requirement.url is not None:
            line = parse_line(f"{requirement.name} @ {requirement.url}", folder, self._environ)
            if line.kind is Kind.SOURCES and not self._is_built(folder / NAME, line):
                return True
            place = local_path(line.where, folder) if line.kind is Kind.FOLDER else None
        if place is None:
            return False
        both = _both(marker, str(requirement.marker or ""))
        inner = read_pyproject(place)
        await self.project(
            place, tuple(sorted(requirement.extras)), both, asked_by=str(folder), whole=_is_wanted(inner)
        )
        return True

    def _not_built(self, folder: Path, requires: list[str], others: Mapping[str, Any]) -> set[str]:
        """What [tool.uv.sources] has of repositories and archives of sources that nobody builds now."""
        found = set()
        wanted = {normalise(requirement_name(text)) for text in requires}
        for name, raw in others.items():
            for one in raw if isinstance(raw, list) else [raw]:
                if not isinstance(one, dict):
                    raise errors.UsageError(f"{folder / NAME}: tool.uv.sources.{name} must be a table")
                where = str(one.get("git") or one.get("url") or one.get("path") or "")
                if normalise(name) in wanted and where and ("git" in one or not where.endswith(".whl")):
                    line = RequirementLine(Kind.SOURCES, f"{name} from {where}", where, name)
                    if not self._is_built(folder / NAME, line):
                        found.add(normalise(name))
        return found

    def _is_built(self, path: Path, line: RequirementLine) -> bool:
        """Whether something is built that would have to be; else it is refused, unless the lock stands."""
        name = line.where if line.kind is Kind.NO_BINARY else line.name
        if line.kind is not Kind.REMOTE and {ALL_SOURCES, normalise(name)} & set(self._builds):
            return True
        if self._frozen:
            return False
        raise _refused(path, line)


async def read_requested(
    path: Path,
    read: ReadProject,
    environ: Mapping[str, str],
    builds: Collection[str] = (),
    *,
    frozen: bool = False,
) -> Requested:
    """Reads a requirements file for the projects and the sources that it asks for; nothing is run.

    Args:
        path: a requirements file, a project's pyproject.toml, setup.cfg or setup.py, or a lock.
        read: reads a project.
        environ: for variables in requirements.
        builds: normalised names of distributions that may be built; ALL_SOURCES for all.
        frozen: whether wheels are those of gpuyard.lock, whatever is asked for.

    Raises:
        UsageError: a file can't be read or says nonsense.
        BuildError: it asks for sources, which only a build makes into something to install.
    """
    reader = _RequirementsReader(path, read, environ, builds, frozen=frozen)
    reader.found.builds = tuple(sorted(builds))
    if path.name in (*PROJECT_FILES, UV_LOCK):
        from gpuyard.building.project.project import is_package

        folder = path.absolute().parent
        whole = path.name not in (NAME, UV_LOCK) or is_package(read_pyproject(folder))
        reader.found.instead = True
        settings = read_pyproject(folder).tool("uv").raw
        reader.found.settings = {key: raw for key, raw in settings.items() if key not in _NO_SETTINGS}
        if (folder / NAME).is_file() or path.name != UV_LOCK:
            await reader.project(folder, (), "", asked_by=str(path), whole=whole)
        if path.name == NAME:
            reader.found.notices += tuple(_groups_left_out(read_pyproject(folder)))
    elif path.name in _OTHER_LOCKS:
        raise errors.UsageError(f"{path.name} isn't read", remedy=_OTHER_LOCKS[path.name])
    elif path.suffix in _CONDA_SUFFIXES:
        from gpuyard.building.project.conda import read_environment

        environment = read_environment(path)
        reader.found.text, reader.found.requires_python = environment.lines, environment.python
        reader.found.notices = tuple(_conda_notices(path, environment))
        await reader.file(path)
    elif is_lock(path):
        for place, marker in _locked_folders(path):
            await reader.project(place, (), marker, asked_by=str(path))
    else:
        await reader.file(path)
    return reader.found


def _groups_left_out(pyproject: Pyproject) -> Iterator[str]:
    if "poetry" in pyproject.tool():
        from gpuyard.building.project.backends.poetry import left_out

        yield from left_out(pyproject)


def _conda_notices(path: Path, environment: CondaEnvironment) -> Iterator[str]:
    yield f"{path.name}: its Python packages come as wheels of the package index, not from conda's channels"
    if environment.left:
        yield (
            f"{path.name}: not taken, for they are no Python packages: {', '.join(environment.left)}; "
            "CUDA comes with the base or with wheels, and Debian's packages by system_packages"
        )


def _locked_folders(path: Path) -> Iterator[tuple[Path, str]]:
    """Projects of this machine that a pylock.toml names."""
    for package in Table(_toml(path), str(path)).raw.get("packages", ()):
        directory = package.get("directory") if isinstance(package, dict) else None
        if isinstance(directory, dict) and isinstance(directory.get("path"), str):
            yield path.absolute().parent / directory["path"], str(package.get("marker", ""))


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(read_regular(path).decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}  # The lock's own reader says it better.


def _declared_only(pyproject: Pyproject) -> ProjectMetadata:
    """The requirements of a project that isn't to be installed."""
    from gpuyard.building.project.backends import poetry
    from gpuyard.building.project.metadata import ProjectMetadata

    if "project" not in pyproject.table:
        declared = poetry.declared(pyproject, {}).raw
        # Poetry wants neither of one with package-mode = false.
        named = {"name": declared.get("name") or "unnamed", "version": declared.get("version") or "0"}
        return ProjectMetadata.of_project(Table({**declared, **named}, str(pyproject.path)))
    project = pyproject.project
    if dynamic := {"dependencies", "optional-dependencies"}.intersection(project.texts("dynamic")):
        raise pyproject.not_static(f"{' and '.join(sorted(dynamic))} are dynamic")
    return ProjectMetadata.of_project(Table({**project.raw, "version": "0"}, project.place))


def _is_wanted(pyproject: Pyproject) -> bool:
    """Whether a project that another requires is to be installed: by the rule of uv."""
    from gpuyard.building.project.project import is_package

    return not pyproject.table.raw or is_package(pyproject)


def _both(one: str, other: str) -> str:
    return f"({one}) and ({other})" if one and other else one or other


def _under(text: str, marker: str) -> str:
    """A requirement that holds only where a marker does."""
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    own = str(requirement.marker or "")
    requirement.marker = None
    both = _both(own, marker)
    return f"{requirement} ; {both}" if both else str(requirement)


def _refused(path: Path, line: RequirementLine) -> errors.BuildError:
    name = line.name or "NAME"
    what = {
        Kind.SOURCES: f"asks for sources: {line.text}",
        Kind.NO_BINARY: f"asks for a build of {line.where}: {line.text}",
        Kind.REMOTE: f"includes {line.where}, which may ask for builds",
    }[line.kind]
    remedy = {
        Kind.SOURCES: f"require a wheel of it, or build it with --build-sources {name}"
        + ("" if line.name else f": `{name} @ {line.where}`"),
        Kind.NO_BINARY: f"take the line out, or build with --build-sources {line.where}",
        Kind.REMOTE: "fetch it and include the file",
    }[line.kind]
    return errors.BuildError(f"{path.name} {what}; no build is run unless it is asked for", remedy=remedy)
