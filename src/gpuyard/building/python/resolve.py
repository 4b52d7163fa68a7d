"""uv as the resolver: which wheels meet the requirements on a base, and where its index has them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpuyard import errors
from gpuyard.atomic_files import temporary_folder
from gpuyard.building.python.platform_tags import LIKELY_GLIBC, machine
from gpuyard.building.python.pylock import is_lock, lock_files, locked_wheels, resolved_wheels
from gpuyard.building.python.uv_process import run_uv
from gpuyard.building.python.wheels import Wheel
from gpuyard.images.contents.contents import ImageContents, normalise
from gpuyard.images.oci import Platform
from gpuyard.regular_files import read_regular

#: glibc versions that uv knows a platform for, besides 2.17.
_GLIBC = (28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_OLD_GLIBC = 17


@dataclass(frozen=True)
class Resolved:
    """A set of wheels that fits.

    Attributes:
        sources: where the index has each, a URL or a path.
        base_packages: name → version of what the requirements name and the base brings.
    """

    sources: Mapping[Wheel, str]
    base_packages: Mapping[str, str]


class OwnProjects(Protocol):
    """Projects of the user's own, which are installed otherwise: `project.requested` has them."""

    path: Path

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
        platform: of the image.
        contents: what the base holds; it must have a Python.
        folder: where uv looks for its configuration, and above it.
        own: the user's own projects that the requirements ask for.
    """

    environ: Mapping[str, str]
    folder: Path
    platform: Platform
    contents: ImageContents
    own: OwnProjects | None = None

    async def resolve(self, requirements: Path, preferred: Iterable[Wheel] = ()) -> Resolved:
        """Finds wheels for a requirements file; what the base has and the file allows is left out.

        Args:
            requirements: in any form that uv reads.
            preferred: versions to keep where the requirements allow them.

        Raises:
            ResolveError: with uv's own reason.
            BuildError: a package comes without a wheel or without a hash, or with none that the file gives.
        """
        if is_lock(requirements):
            return await self._take_lock(requirements)
        asked = direct_requirements(requirements)
        for name, texts in self.own.asked.items() if self.own else ():
            asked[name] = [*asked.get(name, ()), *texts]
        excluded = {
            name: version
            for name, version in self.contents.packages.items()
            if all(allows(line, version) for line in asked.get(name, ()))
        }
        sources = await self._compile(requirements, excluded, preferred)
        _check_hashes(sources, requirements)
        return Resolved(sources, {name: excluded[name] for name in asked if name in excluded})

    async def _take_lock(self, requirements: Path) -> Resolved:
        """The wheels of a lock, less what the base has in the very version."""
        sources = await locked_wheels(requirements, self.platform, self.contents, self.environ)
        there = {
            wheel.name: version
            for wheel in sources
            if (version := self.contents.packages.get(wheel.name))
            and allows(f"{wheel.name}=={wheel.version}", version)
        }
        return Resolved({w: source for w, source in sources.items() if w.name not in there}, there)

    async def locate(self, wheels: Sequence[Wheel], requirements: Path | None = None) -> dict[Wheel, str]:
        """Where wheels are that gpuyard.lock names: in the requirements when they are a lock, else the index.

        Raises:
            BuildError: it has one no longer.
        """
        where = "the package index"
        if requirements and is_lock(requirements):
            where = requirements.name
            found = await locked_wheels(requirements, self.platform, self.contents, self.environ)
        else:
            with temporary_folder() as folder:
                pins = folder / "pins.txt"
                pins.write_text("".join(f"{w.name}=={w.version} --hash=sha256:{w.sha256}\n" for w in wheels))
                found = await self._compile(pins, {}, (), "--no-deps")
        by_hash = {wheel.sha256: source for wheel, source in found.items()}
        gone = [wheel.file for wheel in wheels if wheel.sha256 not in by_hash]
        if gone:
            raise errors.BuildError(
                f"{where} has no more what gpuyard.lock names: {', '.join(gone)}",
                remedy="build with --upgrade to lock what it has now",
            )
        return {wheel: by_hash[wheel.sha256] for wheel in wheels}

    async def _compile(
        self, requirements: Path, excluded: Iterable[str], preferred: Iterable[Wheel], *options: str
    ) -> dict[Wheel, str]:
        assert self.contents.python is not None
        with temporary_folder() as folder:
            output = folder / "pylock.toml"
            if pins := "".join(_preference(wheel) for wheel in preferred):
                output.write_text(f'lock-version = "1.0"\ncreated-by = "gpuyard"\n{pins}')
            excludes = folder / "excludes.txt"
            files, own = [requirements.absolute()], set[str]()
            if self.own and self.own.path == requirements:
                files, own = self.own.inputs(folder), set(self.own.projects)
            excludes.write_text("".join(f"{name}\n" for name in sorted({*excluded, *own})))
            done = await run_uv(
                (
                    "pip", "compile", *map(str, files),
                    "--format", "pylock.toml", "--output-file", str(output), "--no-header", "--quiet",
                    "--only-binary", ":all:",
                    "--python-version", self.contents.python.version,
                    "--python-platform", python_platform(self.platform, self.contents),
                    "--excludes", str(excludes), *options,
                ),
                folder=self.folder,
                environ=self.environ,
                reads=requirement_files(requirements),
            )  # fmt: skip
            if done.code:
                raise errors.ResolveError(
                    f"no wheels meet {requirements.name} for Python {self.contents.python.version} on "
                    f"{self.platform}:\n{done.err.replace(f'{folder}/', '')}",
                    remedy="change the requirements or the base; gpuyard installs wheels only, never sources",
                )
            return await asyncio.to_thread(resolved_wheels, output)


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


def requirement_files(requirements: Path) -> list[Path]:
    """The file and all that it includes by -r and -c, each once; of a lock what its content is in.

    Raises:
        UsageError: one can't be read.
    """
    if is_lock(requirements):
        return lock_files(requirements)
    found: list[Path] = []
    waiting = [requirements]
    while waiting:
        path = waiting.pop(0)
        if path.exists() and any(path.samefile(other) for other in found):
            continue
        found.append(path)
        for line in _lines(path):
            match = re.match(r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", line)
            if match and "://" not in match[1]:
                waiting.append(path.parent / match[1])
    return found


def read_requirements(requirements: Path) -> list[bytes]:
    """The bytes of the file and of all that it includes; raises UsageError."""
    return [_read(path) for path in requirement_files(requirements)]


def direct_requirements(requirements: Path) -> dict[str, list[str]]:
    """What the files ask for: normalised name → requirement texts. pyproject.toml gives none."""
    asked: dict[str, list[str]] = {}
    if requirements.suffix == ".toml":
        return asked
    for path in requirement_files(requirements):
        for line in _lines(path):
            text = re.split(r"\s--hash|\s+#", line)[0].strip()
            match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)
            if match:
                asked.setdefault(normalise(match[0]), []).append(text)
    return asked


def _check_hashes(wheels: Iterable[Wheel], requirements: Path) -> None:
    """Holds wheels against the file's `--hash` options, which uv hands on only to installs."""
    given = _hashes(requirements)
    for wheel in wheels:
        if wheel.name in given and f"sha256:{wheel.sha256}" not in given[wheel.name]:
            raise errors.BuildError(
                f"{wheel.file} has none of the hashes that {requirements.name} gives for {wheel.name}: "
                f"its own is sha256:{wheel.sha256}",
                remedy="lock the requirements anew for the base's Python and platform",
            )


def _hashes(requirements: Path) -> dict[str, set[str]]:
    """Normalised name → hashes that the files give for it; pyproject.toml gives none."""
    found: dict[str, set[str]] = {}
    for path in requirement_files(requirements) if requirements.suffix != ".toml" else ():
        for line in _lines(path):
            hashes = re.findall(r"\s--hash[=\s]\s*(\S+)", line)
            if hashes and (match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)):
                found.setdefault(normalise(match[0]), set()).update(text.lower() for text in hashes)
    return found


def allows(requirement: str, version: str) -> bool:
    """Whether a version that the base has meets a requirement; prereleases and local versions may."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion, Version

    try:
        parsed = Requirement(requirement)
        return parsed.url is None and parsed.specifier.contains(Version(version), prereleases=True)
    except (InvalidRequirement, InvalidVersion):
        return False


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise errors.UsageError(
            f"can't read the requirements {path}: {error.strerror}",
            remedy="name a requirements file that is there",
        ) from error


def _lines(path: Path) -> list[str]:
    try:
        text = _read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.UsageError(
            f"can't read the requirements {path}: it isn't text in UTF-8", remedy="save it as UTF-8"
        ) from error
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]
