"""What the base brings, offered to the resolver as wheels without content.

uv resolves for an empty environment: nothing counts as installed, and an override names no local version. So
it is shown a folder with a wheel of each package of the base, and prefers those. Where one doesn't meet what
something requires, it takes another version from the index, or says why there is none.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard.images.contents.contents import normalise

Requires = Mapping[str, Iterable[str]]

_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)")


@dataclass(frozen=True)
class BaseWheels:
    """A folder with them.

    Attributes:
        folder: where they are.
        versions: version by name of those that are there.
    """

    folder: Path
    versions: Mapping[str, str]

    @classmethod
    def write(cls, folder: Path, packages: Mapping[str, str], requires: Requires) -> BaseWheels:
        """Makes the folder; a package whose version is none (PEP 440) is left out.

        Args:
            folder: to make.
            packages: version by name.
            requires: by name what a package requires.
        """
        folder.mkdir()
        versions = {name: version for name, version in packages.items() if is_version(version)}
        for name, version in versions.items():
            _write(folder, name, version, requires.get(name, ()))
        return cls(folder, versions)

    def preferences(self) -> str:
        """What makes uv prefer them, as the packages of a pylock.toml."""
        return "".join(
            f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
            for name, version in self.versions.items()
        )


def met_by_itself(packages: Mapping[str, str], requires: Requires) -> dict[str, list[str]]:
    """Of what the base's packages require, that which the base has: it may leave out what it knows better."""
    return {name: [text for text in texts if _meets(text, packages)] for name, texts in requires.items()}


def _meets(text: str, packages: Mapping[str, str]) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False
    version = packages.get(normalise(requirement.name), "")
    return is_version(version) and requirement.specifier.contains(version, prereleases=True)


def same_version(one: str, other: str) -> bool:
    """Whether both write the same version."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _write(folder: Path, name: str, version: str, requires: Iterable[str]) -> None:
    stem = f"{name.replace('-', '_')}-{version}"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    for text in filter(_is_requirement, requires):
        lines += [f"Requires-Dist: {text}", *(f"Provides-Extra: {extra}" for extra in _EXTRA.findall(text))]
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(
            f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def _is_requirement(text: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


def is_version(text: str) -> bool:
    """Whether it can be compared (PEP 440)."""
    from packaging.version import InvalidVersion, Version

    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
