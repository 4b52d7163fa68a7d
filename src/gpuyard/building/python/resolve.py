"""uv as the resolver: which wheels meet the requirements on a base, and where its index has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gpuyard import errors
from gpuyard.atomic_files import temporary_folder
from gpuyard.building.python.byte_code import find_python
from gpuyard.building.python.index.settings import read_settings, with_keyring
from gpuyard.building.python.platform_tags import LIKELY_GLIBC, machine
from gpuyard.building.python.pylock import Found, all_wheels, is_lock, locked_wheels, resolved_wheels
from gpuyard.building.python.resolving.base_packages import BaseWheels, Requires, met_by_itself, same_version
from gpuyard.building.python.resolving.local_wheels import archives_with_paths, with_paths
from gpuyard.building.python.resolving.lock_age import check_age
from gpuyard.building.python.resolving.requirements_file import Requirements
from gpuyard.building.python.resolving.resolve_errors import NO_SOLUTION, unresolved
from gpuyard.building.python.sources import ALL_SOURCES, Source
from gpuyard.building.python.uv_process import ISOLATED, UvDone, build_environ, run_uv
from gpuyard.building.python.wheels import Wheel, local_path
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.layers import EPOCH
from gpuyard.images.oci import Platform

#: glibc versions that uv knows a platform for, besides 2.17.
_GLIBC = (28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_OLD_GLIBC = 17
_OUTPUT = "pylock.toml"


@dataclass(frozen=True)
class Resolved:
    """A set of wheels that fits.

    Attributes:
        sources: where the index has each, a URL or a path.
        base_packages: name → version of what the requirements name and the base brings.
        to_build: where there are sources of what has no wheel.
    """

    sources: Mapping[Wheel, str]
    base_packages: Mapping[str, str]
    to_build: Mapping[Source, str] = field(default_factory=dict)


class OwnProjects(Protocol):
    """Projects of the user's own, which are installed otherwise: `project.requested` has them."""

    path: Path
    builds: tuple[str, ...]
    default_index: str

    @property
    def projects(self) -> Mapping[str, object]:
        """Them by normalised name; no index is to be asked for these."""

    @property
    def asked(self) -> Mapping[str, Sequence[str]]:
        """What they require of others: normalised name → requirements."""

    def inputs(self, folder: Path) -> list[Path]:
        """The requirements without them, and their own ones; what has to be written goes into `folder`."""


@dataclass(frozen=True)
class Resolver:
    """Runs `uv pip compile` for one base and platform, with uv's own configuration of indexes.

    Attributes:
        environ: of the uv process.
        folder: of the lock; where uv looks for its configuration, and above it.
        platform: of the image.
        contents: what the base holds; it must have a Python.
        requires: by name what the base's packages require.
        own: the user's own projects that the requirements ask for.
    """

    environ: Mapping[str, str]
    folder: Path
    platform: Platform
    contents: ImageContents
    requires: Requires = field(default_factory=dict, hash=False)
    own: OwnProjects | None = None

    async def resolve(self, path: Path, preferred: Sequence[Wheel] = ()) -> Resolved:
        """Finds wheels for a requirements file, less what the base has in a version that all allow.

        Args:
            path: of requirements in any form that uv reads.
            preferred: versions to keep where the requirements allow them.

        Raises:
            ResolveError: with uv's own reason.
            BuildError: a package comes without a wheel or without a hash, or with none that the file gives.
        """
        requirements = Requirements(path.absolute(), self.environ)
        if is_lock(path):
            return await self._take_lock(requirements.path)
        requirements.check_hashes_given()
        asked = requirements.asked()
        for name, texts in self.own.asked.items() if self.own else ():
            asked[name] = [*asked.get(name, ()), *texts]
        kept = [
            f"{name}=={version}"
            for name, version in self.contents.packages.items()
            if name in asked and all(allows(text, version) for text in asked[name])
        ]
        offline = 0 < len(asked) == len(kept)
        found, to_build = await self._compile(requirements, preferred, kept=kept, offline=offline)
        there = {
            wheel.name: self.contents.packages[wheel.name]
            for wheel in found
            if self._is_there(wheel, asked.get(wheel.name, ()))
        }
        sources = {wheel: source for wheel, source in found.items() if wheel.name not in there}
        requirements.check_hashes(sources)
        return Resolved(
            with_paths(sources, self.folder),
            {name: there[name] for name in asked if name in there},
            archives_with_paths(to_build, self.folder),
        )

    def _is_there(self, wheel: Wheel, asked: Iterable[str]) -> bool:
        """Whether the base brings what was found; what is asked for by its place is installed anyway."""
        version = self.contents.packages.get(wheel.name)
        by_place = any("@" in text.partition(";")[0] or ".whl" in text for text in asked)
        return version is not None and not by_place and same_version(wheel.version, version)

    async def _take_lock(self, path: Path) -> Resolved:
        """The wheels of a lock, less what the base has in the very version."""
        await check_age(path, self.environ, await self._python())
        sources, to_build = await self._locked(path)
        there = {
            wheel.name: version
            for wheel in sources
            if (version := self.contents.packages.get(wheel.name))
            and allows(f"{wheel.name}=={wheel.version}", version)
        }
        left = {wheel: source for wheel, source in sources.items() if wheel.name not in there}
        return Resolved(with_paths(left, self.folder), there, archives_with_paths(to_build, self.folder))

    async def _locked(self, path: Path) -> Found:
        return await locked_wheels(path, self.platform, self.contents, self.environ, self._builds)

    async def _python(self) -> str:
        assert self.contents.python is not None
        return await find_python(self.contents.python.minor, self.environ)

    @property
    def _builds(self) -> tuple[str, ...]:
        return self.own.builds if self.own else ()

    async def locate(self, wheels: Sequence[Wheel], path: Path | None = None) -> dict[Wheel, str]:
        """Where wheels of gpuyard.lock are: where it says, in requirements that are a lock, else the index.

        Raises:
            BuildError: it has one no longer.
        """
        local = {wheel: str(self.folder / wheel.path) for wheel in wheels if wheel.path}
        wanted = [wheel for wheel in wheels if not wheel.path]
        if not wanted:
            return local
        where = "the package index"
        if path and is_lock(path):
            where = path.name
            found, _ = await self._locked(path.absolute())
        else:
            found, _ = await self._pinned(wanted, path, all_files=True)
        by_hash = {wheel.sha256: source for wheel, source in found.items()}
        gone = [wheel.file for wheel in wanted if wheel.sha256 not in by_hash]
        if gone:
            raise errors.BuildError(
                f"{where} has no more what the lock names: {', '.join(gone)}",
                remedy="build with --upgrade to lock what it has now",
            )
        return local | {wheel: by_hash[wheel.sha256] for wheel in wanted}

    async def locate_source(self, source: Source, wheel: Wheel, path: Path | None) -> str:
        """Where the archive is that a wheel of gpuyard.lock was built of.

        Raises:
            BuildError: there is none with its hash.
        """
        if source.commit or "/" in source.url:
            local = None if source.commit else local_path(source.url)
            return str(self.folder / local) if local else source.url
        _, found = await (
            self._locked(path.absolute()) if path and is_lock(path) else self._pinned([wheel], path)
        )
        if source not in found:
            raise errors.BuildError(
                f"the package index has no more what {wheel.file} was built of: {source.text}",
                remedy="build with --upgrade to lock what it has now",
            )
        return found[source]

    async def _pinned(self, wheels: Iterable[Wheel], path: Path | None, *, all_files: bool = False) -> Found:
        """What there is of the versions; the requirements beside them say which index each comes from."""
        with temporary_folder() as folder:
            pins = folder / "pins.txt"
            pins.write_text("".join(f"{wheel.name}=={wheel.version}\n" for wheel in wheels))
            requirements = Requirements(path.absolute() if path else pins, self.environ)
            return await self._compile(requirements, (), "--no-deps", str(pins), all_files=all_files)

    async def _compile(
        self,
        requirements: Requirements,
        preferred: Sequence[Wheel],
        *more: str,
        kept: Sequence[str] = (),
        offline: bool = False,
        all_files: bool = False,
    ) -> Found:
        """Runs uv.

        Args:
            requirements: whose folder relative paths in it start from.
            preferred: besides what the base brings.
            more: options and files of requirements.
            kept: what of the base the requirements name and allow.
            offline: whether that may be all, so that no index needs to be asked.
            all_files: of each version, and not just the fitting one.
        """
        packages = self.contents.packages
        with temporary_folder() as folder:
            base = BaseWheels.write(folder / "base", packages, self.requires)
            words = [*self._words(requirements.path, folder), *more]
            files, environ = requirements.files(), self._uv_environ(requirements, folder)
            output, python = folder / _OUTPUT, await self._python()

            async def run(base: BaseWheels, kept: Iterable[str], *options: str) -> UvDone:
                # In a file: options of the command would take the place of what uv's variables say.
                (folder / "kept.txt").write_text("".join(f"{text}\n" for text in kept))
                (folder / "base.txt").write_text(f"--find-links {base.folder.as_uri()}\n-c kept.txt\n")
                output.unlink(missing_ok=True)
                if preference := base.preferences() + "".join(map(_preference, preferred)):
                    output.write_text(f'lock-version = "1.0"\ncreated-by = "gpuyard"\n{preference}')
                return await run_uv(
                    (*words, str(folder / "base.txt"), *options, "--output-file", str(output)),
                    folder=requirements.path.parent,
                    environ=environ,
                    reads=files,
                    builds=bool(self._builds),
                    python=python,
                )

            done = await run(base, kept, "--no-index") if offline else None
            if done is None or done.code:
                done = await run(base, kept)
            if done.code and NO_SOLUTION in done.err and not more:
                # The base's own packages may require what nobody has any more: then they count as they are.
                met = met_by_itself(packages, self.requires)
                done = await run(BaseWheels.write(folder / "as-it-is", packages, met), ())
            if done.code:
                assert self.contents.python is not None
                place = f"Python {self.contents.python.version} on {self.platform}"
                said = done.err.replace(f"{folder}/", "")
                raise unresolved(said, f"{requirements.path.name} for {place}", packages, environ)
            if all_files:
                return await asyncio.to_thread(all_wheels, output, self._builds), {}
            return await asyncio.to_thread(resolved_wheels, output, self._builds)

    def _uv_environ(self, requirements: Requirements, folder: Path) -> dict[str, str]:
        environ = dict(self.environ)
        if index := self.own.default_index if self.own else "":
            # Not as an option, which other users of the machine see with the login in it.
            environ = {name: value for name, value in environ.items() if name != "UV_INDEX_URL"}
            environ["UV_DEFAULT_INDEX"] = index
        environ = with_keyring(environ, read_settings(self.environ, self.folder, requirements))
        return build_environ(environ, folder, EPOCH, requirements.files()) if self._builds else environ

    def _words(self, path: Path, folder: Path) -> list[str]:
        """What is the same of each run for a file of requirements."""
        assert self.contents.python is not None
        files, own = [path], list[str]()
        if self.own and self.own.path.absolute() == path:
            files, own = self.own.inputs(folder), sorted(self.own.projects)
        excludes = folder / "excludes.txt"
        excludes.write_text("".join(f"{name}\n" for name in own))
        excluding = ["--excludes", str(excludes)] if own else []
        return [
            "pip", "compile", *map(str, files),
            "--format", "pylock.toml", "--no-header", "--quiet",
            *(() if self._builds else ISOLATED), *self._binaries(),
            "--python-version", self.contents.python.version,
            "--python-platform", python_platform(self.platform, self.contents),
            "--project", str(self.folder), *excluding,
        ]  # fmt: skip

    def _binaries(self) -> list[str]:
        """Which packages may be built: none but those that the user names."""
        if ALL_SOURCES in self._builds:
            return []
        return ["--only-binary", ":all:", *(word for name in self._builds for word in ("--no-binary", name))]


def python_platform(platform: Platform, contents: ImageContents) -> str:
    """uv's name for a platform and C library; raises BuildError where wheels aren't made for it."""
    name = machine(platform)
    if contents.libc == "musl":
        return f"{name}-unknown-linux-musl"
    _, minor = contents.libc_version
    known = [version for version in _GLIBC if version <= (minor or LIKELY_GLIBC)]
    return f"{name}-manylinux_2_{known[-1] if known else _OLD_GLIBC}"


def _preference(wheel: Wheel) -> str:
    return f'[[packages]]\nname = "{wheel.name}"\nversion = "{wheel.version}"\n'


def allows(requirement: str, version: str) -> bool:
    """Whether a version that the base has meets a requirement; prereleases and local versions may."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion, Version

    try:
        parsed = Requirement(requirement)
        return parsed.url is None and parsed.specifier.contains(Version(version), prereleases=True)
    except (InvalidRequirement, InvalidVersion):
        return False
