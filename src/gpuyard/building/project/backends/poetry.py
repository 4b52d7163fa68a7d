"""poetry-core: [tool.poetry], or [project] with poetry's packages.

Source: Poetry 2.1, docs "The pyproject.toml file" and "Dependency specification";
poetry/core/masonry/utils/module.py for what is taken when no packages are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gpuyard.building.project.pyproject import Part, Pyproject, Table, existing_part

_RELEASE = re.compile(r"\d+(?:\.\d+)*")


def declared(pyproject: Pyproject, environ: Mapping[str, str]) -> Table:
    """[project] with what [tool.poetry] says in its place."""
    poetry = pyproject.tool("poetry")
    if isinstance(poetry.raw.get("build"), str) or "script" in poetry.table("build"):
        raise pyproject.not_static("it has a build script")
    found = dict(pyproject.project.raw)
    if "version" not in found:
        found["version"] = poetry.text("version")
    if "project" in pyproject.table:
        if "dependencies" not in pyproject.project:
            found["dependencies"] = list(_dependencies(pyproject, optional=False))
    else:
        optional = dict(_optional(pyproject))
        found |= {
            "name": poetry.text("name"),
            "requires-python": _specifier(
                pyproject, str(poetry.table("dependencies").raw.get("python", "*"))
            ),
            "dependencies": list(_dependencies(pyproject, optional=False)),
            "optional-dependencies": {
                extra: [
                    text
                    for name in poetry.table("extras").texts(extra)
                    for text in optional.get(_key(name), ())
                ]
                for extra in poetry.table("extras").raw
            },
        }
    scripts = poetry.table("scripts")
    if any(not isinstance(value, str) for value in scripts.raw.values()):
        raise pyproject.not_static("it has scripts that are files or want extras")
    own = Table(found, pyproject.project.place)
    found["scripts"] = {**scripts.raw, **own.pairs("scripts")}
    plugins = poetry.table("plugins")
    mine = {group: plugins.pairs(group) for group in plugins.raw}
    found["entry-points"] = {**mine, **own.table("entry-points").raw}
    return Table(found, str(pyproject.path))


def left_out(pyproject: Pyproject) -> Iterator[str]:
    """Says which groups aren't taken that `poetry install` takes."""
    poetry = pyproject.tool("poetry")
    groups = [
        name for name in poetry.table("group").raw if not poetry.table("group", name).flag("optional", False)
    ]
    groups += ["dev"] if "dev-dependencies" in poetry else []
    if groups := [name for name in dict.fromkeys(groups) if name != "main"]:
        yield (
            f"{pyproject.path.name}: only Poetry's main group is taken, and not {', '.join(groups)}; "
            f"for one: poetry export --with {groups[0]} --output requirements.txt"
        )


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _optional(pyproject: Pyproject) -> Iterator[tuple[str, list[str]]]:
    for name, value in pyproject.tool("poetry", "dependencies").raw.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and one.get("optional"):
                yield _key(name), [_requirement(pyproject, name, one)]


def _dependencies(pyproject: Pyproject, *, optional: bool) -> Iterator[str]:
    for name, value in pyproject.tool("poetry", "dependencies").raw.items():
        for one in value if isinstance(value, list) else [value]:
            wanted = isinstance(one, dict) and bool(one.get("optional"))
            if name != "python" and wanted is optional:
                yield _requirement(pyproject, name, one)


def _requirement(pyproject: Pyproject, name: str, value: Any) -> str:
    """One dependency as PEP 508 writes it."""
    table = (
        Table({"version": value} if isinstance(value, str) else value, f"{pyproject.path}: {name}")
        if isinstance(value, str | dict)
        else None
    )
    if table is None:
        raise pyproject.not_static(f"its dependency {name} isn't written as poetry has it")
    extras = f"[{','.join(table.texts('extras'))}]" if "extras" in table else ""
    if git := table.text("git"):
        reference = table.text("rev") or table.text("tag") or table.text("branch")
        url = f"git+{git}" + (f"@{reference}" if reference else "")
        text = f"{name}{extras} @ {url}" + (
            f"#subdirectory={table.text('subdirectory')}" if "subdirectory" in table else ""
        )
    elif path := table.text("path"):
        text = f"{name}{extras} @ {(pyproject.folder / path).absolute().as_uri()}"
    elif url := table.text("url"):
        text = f"{name}{extras} @ {url}"
    else:
        text = f"{name}{extras}{_specifier(pyproject, table.text('version', '*'))}"
    markers = [
        f"({text})"
        for text in (table.text("markers"), _python_marker(pyproject, table), _platform(table))
        if text
    ]
    return text + (f" ; {' and '.join(markers)}" if markers else "")


def _python_marker(pyproject: Pyproject, table: Table) -> str:
    bounds = _specifier(pyproject, table.text("python", "*"))
    found = []
    for bound in filter(None, bounds.split(",")):
        operator, version = re.match(r"([<>=!~]+)(.*)", bound).groups()  # type: ignore[union-attr]
        variable = (
            "python_version" if version.count(".") < 2 or version.endswith(".*") else "python_full_version"
        )
        found.append(f'{variable} {operator} "{version}"')
    return " and ".join(found)


def _platform(table: Table) -> str:
    platform = table.text("platform")
    return f'sys_platform == "{platform}"' if platform else ""


def _specifier(pyproject: Pyproject, constraint: str) -> str:
    """A constraint of poetry's as PEP 440 writes it."""
    if "|" in constraint:
        raise pyproject.not_static(f"the constraint {constraint!r} has alternatives")
    found: list[str] = []
    joined = re.sub(r"([<>=!~^])\s+", r"\1", constraint.strip())
    for word in filter(None, re.split(r"[,\s]+", joined)):
        found += _bounds(pyproject, word)
    return ",".join(found)


def _bounds(pyproject: Pyproject, word: str) -> list[str]:
    if word == "*":
        return []
    if word[0] == "^" or (word[0] == "~" and not word.startswith("~=")):
        version = word[1:]
        match = _RELEASE.match(version)
        if not match:
            raise pyproject.not_static(f"the constraint {word!r} isn't a version")
        steps = [int(step) for step in match[0].split(".")]
        if word[0] == "~":
            index = min(1, len(steps) - 1)
        else:
            index = next((i for i, step in enumerate(steps) if step), len(steps) - 1)
        upper = [*steps[:index], steps[index] + 1]
        upper += [0] * (len(steps) - len(upper))
        return [f">={version}", f"<{'.'.join(map(str, upper))}"]
    if word[0] in "<>=!~":
        return [
            word if word[:2] in ("==", "!=", "<=", ">=", "~=") or word[0] in "<>" else f"=={word.lstrip('=')}"
        ]
    return [f"=={word}"]


def parts(pyproject: Pyproject, name: str) -> list[Part]:
    """The packages that are named, else the one that has the project's name."""
    poetry = pyproject.tool("poetry")
    root = pyproject.folder
    if poetry.raw.get("packages"):
        return [part for raw in poetry.raw["packages"] if (part := _named(pyproject, raw))]
    module = re.sub(r"[-_.]+", "_", name)
    for folder in (root, root / "src"):
        for candidate in dict.fromkeys((module, module.lower())):
            if part := existing_part(folder, candidate):
                return [part]
    raise pyproject.not_static(f"no package is named after the project ({name}), and nothing names another")


def _named(pyproject: Pyproject, raw: Any) -> Part | None:
    if not isinstance(raw, dict):
        raise pyproject.not_static("tool.poetry.packages has something that is no table")
    table = Table(raw, "tool.poetry.packages")
    formats = [table.text("format")] if isinstance(raw.get("format"), str) else table.texts("format")
    if formats and "wheel" not in formats:
        return None
    include = table.text("include").removesuffix("/**/*").removesuffix("/**").removesuffix("/*").rstrip("/")
    path = pyproject.folder / table.text("from") / include
    if re.search(r"[*?\[]", include) or not path.exists():
        raise pyproject.not_static(f"its package {table.text('include')} isn't there under that name")
    return Part("/".join(step for step in (table.text("to").strip("/"), include) if step), path)
