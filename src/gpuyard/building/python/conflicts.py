"""Where the wheels of a build and the packages of its base don't go together."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard.building.python.resolving.base_packages import Requires, is_version, same_version
from gpuyard.building.python.wheels import Wheel
from gpuyard.images.contents.contents import normalise

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_REQUIRES = re.compile(r"^Requires-Dist:[ \t]*(.+?)[ \t]*$", re.MULTILINE)


def replaced(wheels: Iterable[Wheel], base: Mapping[str, str]) -> list[str]:
    """Packages that a build installs in another version than the base brings, for everything in the image.

    Args:
        wheels: what is installed.
        base: version by name of what it brings.
    """
    return [
        f"{wheel.name} {wheel.version} (the base has {base[wheel.name]})"
        for wheel in sorted(wheels)
        if wheel.name in base and not same_version(wheel.version, base[wheel.name])
    ]


@dataclass(frozen=True)
class InImage:
    """What the Python of an image will import.

    Attributes:
        wheels: version by name of what is installed.
        base: version by name of what the base brings; where a wheel has the name, the wheel counts.
        requires: by name what the base's packages require.
        variables: the base's marker variables.
    """

    wheels: Mapping[str, str]
    base: Mapping[str, str]
    requires: Requires
    variables: Mapping[str, str]

    def unmet(self, files: Mapping[Wheel, Path], *, missing: bool) -> Iterator[tuple[str, str]]:
        """What wheels require, also through packages of the base, and don't get: its name, and words for it.

        Args:
            files: the wheels to look at.
            missing: whether a requirement that is nowhere counts, too.
        """
        waiting = [
            (f"{wheel.name} {wheel.version}", wheel.name, _requires(path), "")
            for wheel, path in sorted(files.items())
        ]
        seen: set[tuple[str, str]] = set()
        told: set[str] = set()
        while waiting:
            who, owner, texts, extra = waiting.pop(0)
            of_base = owner not in self.wheels
            for requirement in filter(None, map(_parsed, texts)):
                if not self._applies(requirement, extra):
                    continue
                name = normalise(requirement.name)
                if (said := self._said(requirement, of_base)) and (missing or name in self.base):
                    text = f"{who} requires {requirement.name}{requirement.specifier}, and {said}"
                    if text not in told:
                        told.add(text)
                        yield name, text
                for wanted in ("", *sorted(requirement.extras)):
                    if name in self.base and name not in self.wheels and (name, wanted) not in seen:
                        seen.add((name, wanted))
                        through = (
                            f"{who} requires {requirement.name}, and the base's {name} {self.base[name]}"
                        )
                        waiting.append((through, name, list(self.requires.get(name, ())), wanted))

    def _applies(self, requirement: Requirement, extra: str) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({**self.variables, "extra": extra})

    def _said(self, requirement: Requirement, of_base: bool) -> str:
        """How the image falls short of it; empty when it doesn't, or the base alone does."""
        name = normalise(requirement.name)
        version = self.wheels.get(name) or self.base.get(name)
        if version is None:
            return "" if of_base else "neither the base nor a wheel brings it"
        if name not in self.wheels and of_base:
            return ""
        if (
            requirement.url
            or not is_version(version)
            or requirement.specifier.contains(version, prereleases=True)
        ):
            return ""
        return f"{'a wheel' if name in self.wheels else 'the base'} brings {version}"


def _parsed(text: str) -> Requirement | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


@lru_cache(1024)
def _requires(path: Path) -> list[str]:
    """What a wheel of the cache requires, read once: each layer's wheels are looked at, then a new lock's."""
    return _REQUIRES.findall(_metadata(path))


def _metadata(path: Path) -> str:
    """The header of the wheel's METADATA; empty where there is none, which installing it reports."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if _METADATA.fullmatch(name)), "")
            content = archive.read(name) if name else b""
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError):
        return ""
    return content.decode("utf-8", "replace").replace("\r\n", "\n").partition("\n\n")[0]
