"""Hatchling: [project] and [tool.hatch.build.targets.wheel].

Source: hatchling 1.27, docs "Build configuration" and "Wheel builder"; hatchling/builders/wheel.py for what
is taken when nothing is configured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gpuyard.building.project.pyproject import Part, Pyproject, Table
from gpuyard.building.project.static_version import from_git, literal, matched

_PATTERN = r"(?i)^(__version__|VERSION)(?: ?\: ?str)? *= *(['\"])v?(?P<version>.+?)\2"
#: What puts files into a wheel beside packages; `shared-data` and scripts lie outside of site-packages.
_BEYOND_PACKAGES = ("shared-data", "shared-scripts", "extra-metadata")
#: Hooks that change no more than the text on an index's page.
_HARMLESS_HOOKS = {"fancy-pypi-readme"}


def declared(pyproject: Pyproject, environ: Mapping[str, str]) -> Table:
    """[project] with the version that [tool.hatch.version] finds."""
    metadata = pyproject.tool("hatch", "metadata")
    if hooks := set(metadata.table("hooks").raw) - _HARMLESS_HOOKS:
        raise pyproject.not_static(f"it has metadata hooks: {', '.join(sorted(hooks))}")
    return pyproject.with_version(lambda: _version(pyproject, environ))


def _version(pyproject: Pyproject, environ: Mapping[str, str]) -> str:
    how = pyproject.tool("hatch", "version")
    source = how.text("source", "regex")
    path = pyproject.folder / how.text("path") if how.text("path") else None
    found = ""
    if source == "vcs":
        hook = pyproject.tool("hatch", "build", "hooks", "vcs")
        written = hook.text("version-file")
        found = from_git(
            pyproject.project.text("name"), pyproject.folder / written if written else None, environ
        )
    elif source == "env":
        found = environ.get(how.text("variable"), "")
    elif source == "code" and path:
        found = literal(path, how.text("expression", "__version__"))
    elif source == "regex" and path:
        pattern = how.text("pattern") if isinstance(how.raw.get("pattern"), str) else ""
        found = matched(path, pattern or _PATTERN)
    if not found:
        raise pyproject.not_static(f"its version ({source}) isn't written down")
    return found


def parts(pyproject: Pyproject, name: str) -> list[Part]:
    """What the wheel target takes."""
    build = pyproject.tool("hatch", "build")
    wheel = build.table("targets", "wheel")
    hooks = (set(build.table("hooks").raw) | set(wheel.table("hooks").raw)) - {"vcs"}
    if hooks:
        raise pyproject.not_static(f"it has build hooks: {', '.join(sorted(hooks))}")
    for key in _BEYOND_PACKAGES:
        if wheel.raw.get(key):
            raise pyproject.not_static(f"tool.hatch.build.targets.wheel.{key} is set")
    own = Table({**build.raw, **wheel.raw}, wheel.place)
    chosen = _chosen(pyproject, own, name)
    chosen += [
        Part(_tidy(target), pyproject.folder / source)
        for source, target in own.pairs("force-include").items()
    ]
    for part in chosen:
        if not part.path.exists():
            raise pyproject.not_static(f"{part.path} isn't there, which its wheel would have")
    return chosen


def _tidy(path: str) -> str:
    return path.strip("/").removeprefix("./")


def _chosen(pyproject: Pyproject, own: Table, name: str) -> list[Part]:
    root = pyproject.folder
    if packages := own.texts("packages"):
        return [Part(Path(path).name, root / _tidy(path)) for path in packages]
    only = own.texts("only-include")
    include = [_tidy(pattern) for pattern in own.texts("include")]
    if not only and include:
        if any(
            re.search(r"[*?\[!]", _tidy(pattern).removesuffix("/**").removesuffix("/*"))
            for pattern in include
        ):
            raise pyproject.not_static("tool.hatch.build.targets.wheel.include has patterns")
        only = tuple(pattern.removesuffix("/**").removesuffix("/*") for pattern in include)
    if only:
        return [Part(_renamed(own, _tidy(path)), root / _tidy(path)) for path in only]
    return _found(pyproject, name)


def _renamed(own: Table, path: str) -> str:
    """A path as `sources` puts it: a list of prefixes to drop, or a table of prefixes to replace."""
    sources = own.raw.get("sources", ())
    pairs = own.pairs("sources") if isinstance(sources, dict) else dict.fromkeys(own.texts("sources"), "")
    for source, target in sorted(pairs.items(), key=lambda pair: -len(pair[0])):
        prefix = _tidy(source) + "/" if _tidy(source) else ""
        if path.startswith(prefix) or path == prefix.rstrip("/"):
            return "/".join(step for step in (_tidy(target), path.removeprefix(prefix)) if step)
    return path


def _found(pyproject: Pyproject, name: str) -> list[Part]:
    """What is there under the project's name."""
    root = pyproject.folder
    for package in dict.fromkeys((re.sub(r"[-.]", "_", name), re.sub(r"[-_.]+", "_", name).lower())):
        for folder in (root, root / "src"):
            if (folder / package / "__init__.py").is_file():
                return [Part(package, folder / package)]
        if (root / f"{package}.py").is_file():
            return [Part(f"{package}.py", root / f"{package}.py")]
        inner = list(root.glob(f"*/{package}/__init__.py"))
        if len(inner) == 1:
            namespace = inner[0].parent.parent
            return [Part(namespace.name, namespace)]
    if pyproject.tool("hatch", "build", "targets", "wheel").raw.get("force-include"):
        return []
    raise pyproject.not_static(f"no package is named after the project ({name}), and nothing names another")
