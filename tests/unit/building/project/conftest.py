"""Projects on disk, and what their real backends make of them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uv

WriteFiles = Callable[[Mapping[str, str]], Path]
BuildWheel = Callable[[Path], Path]

_HOOK = """\
import importlib, sys
name, _, inner = sys.argv[1].partition(":")
backend = importlib.import_module(name)
for step in filter(None, inner.split(".")):
    backend = getattr(backend, step)
print(backend.build_wheel(sys.argv[2]), file=sys.stderr)
"""


@pytest.fixture
def write_files(tmp_path: Path) -> WriteFiles:
    """Writes files below tmp_path/project."""

    def write(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "project"

    return write


@pytest.fixture
def build_wheel(tmp_path: Path) -> BuildWheel:
    """Runs a project's own backend, as it is installed here."""

    def build(folder: Path) -> Path:
        import tomllib

        system = {}
        if (folder / "pyproject.toml").exists():
            system = tomllib.loads((folder / "pyproject.toml").read_text()).get("build-system", {})
        backend = system.get("build-backend", "setuptools.build_meta:__legacy__")
        out = tmp_path / "built"
        out.mkdir()
        if backend == "uv_build":
            command = [uv.find_uv_bin(), "build", "--wheel", "--offline", "--no-cache", "-o", str(out)]
        else:
            command = [sys.executable, "-c", _HOOK, backend, str(out)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (wheel,) = out.glob("*.whl")
        return wheel

    return build


def wheel_facts(wheel: Path) -> dict[str, object]:
    """What a wheel tells of itself: its modules, name, version, requirements and entry points."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        info = next(name.partition("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = f"{info}/entry_points.txt"
        points = archive.read(entry_points).decode() if entry_points in names else ""
    modules = {name for name in names if name.endswith(".py") and not name.startswith(info)}
    return facts(modules, metadata, points)


def facts(modules: set[str], metadata: str, entry_points: str) -> dict[str, object]:
    """The same of the texts of a .dist-info."""
    import configparser
    import email

    header = email.message_from_string(metadata)
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(entry_points)
    points = {group: dict(parser.items(group)) for group in parser.sections() if parser.items(group)}
    return {
        "modules": modules,
        "name": header["Name"],
        "version": header["Version"],
        "python": {part.strip() for part in (header["Requires-Python"] or "").split(",") if part.strip()},
        "requires": set(map(_requirement, header.get_all("Requires-Dist") or ())),
        "extras": set(header.get_all("Provides-Extra") or ()),
        "entry_points": points,
    }


def _requirement(text: str) -> str:
    """Backends differ in the order of a marker's conditions."""
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    conditions = sorted(str(requirement.marker or "").split(" and "))
    requirement.marker = None
    return f"{requirement} ; {' and '.join(conditions)}"
