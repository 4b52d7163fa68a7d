"""A distribution's metadata as its .dist-info has them (PEP 566, 621, entry points)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.building.project.pyproject import Table
from gpuyard.images.contents.contents import normalise

_EXTRA = re.compile(r"""extra == ['"]([^'"]+)['"]""")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class ProjectMetadata:
    """What one distribution says of itself.

    Attributes:
        name: as it is written.
        version: normalised.
        requires_python: specifier; empty for any.
        dependencies: requirements (PEP 508).
        optional: those by extra.
        entry_points: group → name → object; console scripts are a group.
        summary: one line.
    """

    name: str
    version: str
    requires_python: str
    dependencies: tuple[str, ...]
    optional: Mapping[str, tuple[str, ...]]
    entry_points: Mapping[str, Mapping[str, str]]
    summary: str = ""

    @property
    def key(self) -> str:
        """The name, normalised."""
        return normalise(self.name)

    @property
    def dist_info(self) -> str:
        """Name of the folder."""
        return f"{self.key.replace('-', '_')}-{self.version}.dist-info"

    @classmethod
    def of_project(cls, project: Table) -> ProjectMetadata:
        """From the fields of [project], all of them static by now.

        Raises:
            UsageError: one is missing or wrong.
        """
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.version import InvalidVersion, Version

        name = project.text("name")
        if not _NAME.fullmatch(name):
            raise errors.UsageError(f"{project.place}.name is {name!r}, which names no project")
        try:
            version = str(Version(project.text("version")))
        except InvalidVersion as error:
            raise errors.UsageError(f"{project.place}.version: {error}", remedy="mend the file") from error
        inner = project.table("optional-dependencies")
        optional = {normalise(extra): inner.texts(extra) for extra in inner.raw}
        entry_points = {
            group: project.table("entry-points").pairs(group) for group in project.table("entry-points").raw
        }
        entry_points |= {
            "console_scripts": project.pairs("scripts"),
            "gui_scripts": project.pairs("gui-scripts"),
        }
        found = cls(
            name,
            version,
            project.text("requires-python"),
            project.texts("dependencies"),
            optional,
            {group: pairs for group, pairs in entry_points.items() if pairs},
            project.text("description").partition("\n")[0],
        )
        for text in (*found.dependencies, *(text for texts in optional.values() for text in texts)):
            try:
                Requirement(text)
            except InvalidRequirement as error:
                raise errors.UsageError(
                    f"{project.place} requires {text!r}, which can't be read: {error}", remedy="mend the file"
                ) from error
        return found

    @classmethod
    def of_wheel(cls, path: Path) -> ProjectMetadata:
        """From a wheel's METADATA; its entry points are installed with it.

        Raises:
            BuildError: it has none that can be read.
        """
        import email
        import zipfile

        from packaging.requirements import Requirement

        try:
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
                header = email.message_from_bytes(archive.read(name))
        except (OSError, zipfile.BadZipFile, StopIteration) as error:
            raise errors.BuildError(f"{path} is not a wheel that can be read") from error
        dependencies: list[str] = []
        optional: dict[str, tuple[str, ...]] = {}
        for text in header.get_all("Requires-Dist", ()):
            requirement = Requirement(text)
            extra = _EXTRA.search(str(requirement.marker or ""))
            if extra is None:
                dependencies.append(text)
            else:
                # Its other conditions stay; which extra it is of, is known from here.
                marker = _EXTRA.sub("python_version >= '0'", str(requirement.marker))
                requirement.marker = None
                optional[extra[1]] = (*optional.get(extra[1], ()), f"{requirement} ; {marker}")
        return cls(
            str(header["Name"]),
            str(header["Version"]),
            str(header["Requires-Python"] or ""),
            tuple(dependencies),
            optional,
            {},
        )

    def required(self, extras: Iterable[str] = ()) -> list[str]:
        """The requirements with those of extras; an extra may name others of the same project."""
        from packaging.requirements import Requirement

        found = list(self.dependencies)
        waiting, seen = [normalise(extra) for extra in extras], set[str]()
        while waiting:
            extra = waiting.pop(0)
            if extra in seen:
                continue
            seen.add(extra)
            for text in self.optional.get(extra, ()):
                requirement = Requirement(text)
                if normalise(requirement.name) == self.key:
                    waiting += map(normalise, requirement.extras)
                else:
                    found.append(text)
        return list(dict.fromkeys(found))

    def to_text(self) -> str:
        """METADATA."""
        lines = ["Metadata-Version: 2.3", f"Name: {self.name}", f"Version: {self.version}"]
        lines += [f"Summary: {self.summary}"] if self.summary else []
        lines += [f"Requires-Python: {self.requires_python}"] if self.requires_python else []
        lines += [f"Requires-Dist: {text}" for text in self.dependencies]
        for extra, texts in self.optional.items():
            lines.append(f"Provides-Extra: {extra}")
            lines += [f"Requires-Dist: {_of_extra(text, extra)}" for text in texts]
        return "\n".join(lines) + "\n"

    def entry_points_text(self) -> str:
        """entry_points.txt; empty without any."""
        sections = (
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in sorted(pairs.items()))
            for group, pairs in sorted(self.entry_points.items())
        )
        return "\n".join(sections)


def _of_extra(text: str, extra: str) -> str:
    """A requirement that holds for an extra only."""
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    marker = f'extra == "{extra}"'
    if requirement.marker is not None:
        marker = f"({requirement.marker}) and {marker}"
        requirement.marker = None
    return f"{requirement} ; {marker}"
