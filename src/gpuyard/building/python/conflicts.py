"""Where the wheels of a build and the packages of its base don't go together."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gpuyard.building.python.wheels import Wheel
from gpuyard.images.contents.contents import normalise

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
        if wheel.name in base and not _equal(wheel.version, base[wheel.name])
    ]


def unmet(wheel: Wheel, path: Path, base: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[str]:
    """What a wheel requires and gets from the base in a version that won't do.

    Args:
        wheel: which one.
        path: of the file.
        base: version by name of what the base brings and the build doesn't install.
        environment: the base's marker variables.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    for text in _REQUIRES.findall(_metadata(path)):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        version = base.get(normalise(requirement.name))
        if version is None or requirement.specifier.contains(version, prereleases=True):
            continue
        if requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""}):
            asked = f"{requirement.name}{requirement.specifier}"
            yield f"{wheel.name} {wheel.version} requires {asked}, and the base brings {version}"


def _metadata(path: Path) -> str:
    """The header of the wheel's METADATA; empty where there is none, which installing it reports."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if _METADATA.fullmatch(name)), "")
            content = archive.read(name) if name else b""
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError):
        return ""
    return content.decode("utf-8", "replace").replace("\r\n", "\n").partition("\n\n")[0]


def _equal(one: str, other: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
