"""flit-core: [project] and [tool.flit.module].

Source: flit 3.12, docs "The pyproject.toml config file"; flit_core/common.py, `Module`.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpuyard.building.project.pyproject import Part, Pyproject, Table, existing_part
from gpuyard.building.project.static_version import literal


def declared(pyproject: Pyproject, environ: Mapping[str, str]) -> Table:
    """[project] with the version of the module's `__version__`."""
    if "project" not in pyproject.table:
        raise pyproject.not_static("it has flit's metadata of before [project]")
    project = pyproject.project
    found = dict(project.raw)
    if "version" in project.texts("dynamic"):
        (part,) = parts(pyproject, project.text("name"))
        source = part.path / "__init__.py" if part.path.is_dir() else part.path
        found["version"] = literal(source, "__version__")
        if not found["version"]:
            raise pyproject.not_static(f"{source} has no __version__ that is a literal")
    return Table(found, project.place)


def parts(pyproject: Pyproject, name: str) -> list[Part]:
    """The one module or package, in the folder or in src."""
    if pyproject.tool("flit", "external-data").raw:
        raise pyproject.not_static("tool.flit.external-data is set")
    module = pyproject.tool("flit", "module").text("name") or name.replace("-", "_")
    for root in (pyproject.folder, pyproject.folder / "src"):
        if part := existing_part(root, module):
            return [part]
    raise pyproject.not_static(f"its module {module} isn't there")
