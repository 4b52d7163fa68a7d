"""uv as the resolver: which wheels meet the requirements on a base, and where its index has them."""

from __future__ import annotations

import asyncio
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.images.base import BaseContents, normalise
from gpuyard.images.oci import Platform
from gpuyard.images.wheels import Wheel

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: glibc versions that uv knows a platform for, besides 2.17.
_GLIBC = (28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_OLD_GLIBC = 17
#: Taken when the base's glibc isn't known: that of the oldest distributions still in use.
_LIKELY_GLIBC = 28


@dataclass(frozen=True)
class Resolved:
    """A set of wheels that fits.

    Attributes:
        sources: where the index has each, a URL or a path.
        base_packages: name → version of what the requirements name and the base brings.
    """

    sources: Mapping[Wheel, str]
    base_packages: Mapping[str, str]


@dataclass(frozen=True)
class Resolver:
    """Runs `uv pip compile` for one base and platform, with uv's own configuration of indexes.

    Attributes:
        environ: of the uv process.
        platform: of the image.
        contents: what the base holds; it must have a Python.
        folder: where uv looks for its configuration, and above it.
    """

    environ: Mapping[str, str]
    folder: Path
    platform: Platform
    contents: BaseContents

    async def resolve(self, requirements: Path, preferred: Iterable[Wheel] = ()) -> Resolved:
        """Finds wheels for a requirements file; what the base has and the file allows is left out.

        Args:
            requirements: in any form that uv reads.
            preferred: versions to keep where the requirements allow them.

        Raises:
            ResolveError: with uv's own reason.
            BuildError: a package comes without a wheel or without a hash, or with none that the file gives.
        """
        asked = direct_requirements(requirements)
        excluded = {
            name: version
            for name, version in self.contents.packages.items()
            if all(allows(line, version) for line in asked.get(name, ()))
        }
        pylock = await self._compile(requirements, excluded, preferred)
        sources = _wheels(pylock)
        _check_hashes(sources, requirements)
        return Resolved(sources, {name: excluded[name] for name in asked if name in excluded})

    async def locate(self, wheels: Sequence[Wheel]) -> dict[Wheel, str]:
        """Where the index has wheels that a lock names.

        Raises:
            BuildError: it has one no longer.
        """
        with tempfile.TemporaryDirectory(prefix="gpuyard-") as folder:
            pins = Path(folder) / "pins.txt"
            pins.write_text("".join(f"{w.name}=={w.version} --hash=sha256:{w.sha256}\n" for w in wheels))
            found = _wheels(await self._compile(pins, {}, (), "--no-deps"))
        by_hash = {wheel.sha256: source for wheel, source in found.items()}
        gone = [wheel.file for wheel in wheels if wheel.sha256 not in by_hash]
        if gone:
            raise errors.BuildError(
                f"the package index has no more what gpuyard.lock names: {', '.join(gone)}",
                remedy="build with --upgrade to lock what it has now",
            )
        return {wheel: by_hash[wheel.sha256] for wheel in wheels}

    async def _compile(
        self, requirements: Path, excluded: Iterable[str], preferred: Iterable[Wheel], *options: str
    ) -> dict[str, Any]:
        import uv

        assert self.contents.python is not None
        with tempfile.TemporaryDirectory(prefix="gpuyard-") as folder:
            output = Path(folder) / "pylock.toml"
            if pins := "".join(_preference(wheel) for wheel in preferred):
                output.write_text(f'lock-version = "1.0"\ncreated-by = "gpuyard"\n{pins}')
            excludes = Path(folder) / "excludes.txt"
            excludes.write_text("".join(f"{name}\n" for name in sorted(excluded)))
            process = await asyncio.create_subprocess_exec(
                uv.find_uv_bin(), "pip", "compile", str(requirements.absolute()),
                "--format", "pylock.toml", "--output-file", str(output), "--no-header", "--quiet",
                "--only-binary", ":all:", "--no-progress", "--color", "never",
                "--python-version", self.contents.python.version,
                "--python-platform", python_platform(self.platform, self.contents),
                "--excludes", str(excludes), *options,
                cwd=self.folder,
                env={k: v for k, v in self.environ.items() if k != "VIRTUAL_ENV"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                _, said = await process.communicate()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise
            if process.returncode:
                raise errors.ResolveError(
                    f"no wheels meet {requirements.name} for Python {self.contents.python.version} on "
                    f"{self.platform}:\n{said.decode('utf-8', 'replace').strip()}",
                    remedy="change the requirements or the base; gpuyard installs wheels only, never sources",
                )
            return tomllib.loads(output.read_text())


def python_platform(platform: Platform, contents: BaseContents) -> str:
    """uv's name for a platform and C library; raises BuildError where wheels aren't made for it."""
    machine = _MACHINES.get(platform.architecture)
    if platform.os != "linux" or machine is None:
        raise errors.BuildError(
            f"there are no wheels for {platform}", remedy="build for linux/amd64 or linux/arm64"
        )
    if contents.libc == "musl":
        return f"{machine}-unknown-linux-musl"
    _, minor = contents.libc_version
    known = [version for version in _GLIBC if version <= (minor or _LIKELY_GLIBC)]
    return f"{machine}-manylinux_2_{known[-1] if known else _OLD_GLIBC}"


def _preference(wheel: Wheel) -> str:
    return f'[[packages]]\nname = "{wheel.name}"\nversion = "{wheel.version}"\n'


def _wheels(pylock: Mapping[str, Any]) -> dict[Wheel, str]:
    found: dict[Wheel, str] = {}
    for package in pylock.get("packages", ()):
        wheels = package.get("wheels") or ([package["archive"]] if "archive" in package else [])
        if not wheels:
            raise errors.BuildError(
                f"{package['name']} {package.get('version', '')} has no wheel for this base",
                remedy="require a version that has one; gpuyard installs wheels only, never sources",
            )
        raw = wheels[0]
        source = raw.get("url") or raw.get("path") or ""
        file = raw.get("name") or source.partition("#")[0].partition("?")[0].rpartition("/")[2]
        wheel = Wheel(
            _unquoted(file), str((raw.get("hashes") or {}).get("sha256", "")), int(raw.get("size", 0))
        )
        found[wheel] = source
    return found


def _unquoted(file: str) -> str:
    return file.replace("%2B", "+").replace("%2b", "+")


def requirement_files(requirements: Path) -> list[Path]:
    """The file and all that it includes by -r and -c, each once.

    Raises:
        UsageError: one can't be read.
    """
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
    return [path.read_bytes() for path in requirement_files(requirements)]


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


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't text in UTF-8"
        raise errors.UsageError(
            f"can't read the requirements {path}: {reason}", remedy="name a requirements file that is there"
        ) from error
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]
