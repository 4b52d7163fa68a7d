"""uv_build: [project] and [tool.uv.build-backend].

Source: uv 0.9, docs "The uv build backend" and "Settings", build-backend.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpuyard.building.project.pyproject import Part, Pyproject, Table
from gpuyard.images.contents.contents import normalise


def declared(pyproject: Pyproject, environ: Mapping[str, str]) -> Table:
    """[project], of which uv_build fills in nothing."""
    if dynamic := pyproject.project.texts("dynamic"):
        raise pyproject.not_static(f"{', '.join(dynamic)} are dynamic, which uv_build doesn't know")
    return pyproject.project


def parts(pyproject: Pyproject, name: str) -> list[Part]:
    """The modules that are named, else the one that has the project's name."""
    own = pyproject.tool("uv", "build-backend")
    if own.pairs("data"):
        raise pyproject.not_static("tool.uv.build-backend.data is set")
    root = pyproject.folder / own.text("module-root", "src")
    written = own.raw.get("module-name")
    if isinstance(written, list):
        modules = own.texts("module-name")
    else:
        modules = (own.text("module-name") or normalise(name).replace("-", "_"),)
    found = []
    for module in modules:
        path = module.replace(".", "/")
        if not (root / path).is_dir():
            raise pyproject.not_static(f"its module {module} isn't in {root}")
        found.append(Part(path, root / path))
    return found
