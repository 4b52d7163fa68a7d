"""pdm-backend: [project] and [tool.pdm].

Source: pdm-backend 2.4, docs "Build Configuration" and "Dynamic project version"; pdm/backend/base.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpuyard.building.project.pyproject import Part, Pyproject, Table, matching
from gpuyard.building.project.static_version import from_git, matched

_PATTERN = r"^__version__\s*(?::[^=]+)?=\s*(['\"])(?P<version>.+?)\1"


def declared(pyproject: Pyproject, environ: Mapping[str, str]) -> Table:
    """[project] with the version that [tool.pdm.version] finds."""
    return pyproject.with_version(lambda: _version(pyproject, environ))


def _version(pyproject: Pyproject, environ: Mapping[str, str]) -> str:
    how = pyproject.tool("pdm", "version")
    found = ""
    if how.text("source") == "file":
        found = matched(pyproject.folder / how.text("path"), _PATTERN)
    elif how.text("source") == "scm":
        written = how.text("write_to")
        found = from_git(
            pyproject.project.text("name"), pyproject.folder / written if written else None, environ
        )
    if not found:
        raise pyproject.not_static(f"its version ({how.text('source') or 'dynamic'}) isn't written down")
    return found


def parts(pyproject: Pyproject, name: str) -> list[Part]:
    """What [tool.pdm.build] names, else the packages that lie there, else the modules."""
    build = pyproject.tool("pdm", "build")
    if (
        (pyproject.folder / "pdm_build.py").exists()
        or "custom-hook" in build
        or build.flag("run-setuptools", False)
    ):
        raise pyproject.not_static("it has a build hook")
    place = build.text("package-dir") or ("src" if (pyproject.folder / "src").is_dir() else ".")
    root = pyproject.folder / place
    tests = {"tests", *build.texts("source-includes"), *build.texts("excludes"), "build"}
    if includes := build.texts("includes"):
        paths = [
            path for pattern in includes for path in matching(pyproject.folder, pattern.removesuffix("/**/*"))
        ]
    elif root.is_dir():
        children = sorted(root.iterdir())
        packages = [child for child in children if (child / "__init__.py").is_file()]
        paths = packages or [child for child in children if child.suffix == ".py"]
    else:
        paths = []
    found = [
        Part(str(path.relative_to(root if path.is_relative_to(root) else pyproject.folder)), path)
        for path in paths
        if str(path.relative_to(pyproject.folder)) not in tests
    ]
    if not found:
        raise pyproject.not_static(f"there is no package in {root}")
    return found
