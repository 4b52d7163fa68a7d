"""setuptools: [project] and [tool.setuptools], or setup.cfg, with its rules for finding packages.

Source: setuptools 80, docs "Package Discovery and Namespace Packages" and "Configuring setuptools using
pyproject.toml files"; setuptools/discovery.py for what is left out of a flat layout.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gpuyard.building.project.backends.setup_py import setup_keywords
from gpuyard.building.project.pyproject import Part, Pyproject, Table, existing_part
from gpuyard.building.project.static_version import from_git, literal, source_text

_FLAT_EXCLUDE = (
    "ci", "bin", "debian", "doc", "docs", "documentation", "manpages", "news", "newsfragments", "changelog",
    "test", "tests", "unit_test", "unit_tests", "example", "examples", "scripts", "tools", "util", "utils",
    "python", "build", "dist", "venv", "env", "requirements", "tasks", "fabfile", "site_scons", "benchmark",
    "benchmarks", "exercise", "exercises", "htmlcov", "[._]*",
)  # fmt: skip
_FLAT_MODULE_EXCLUDE = (
    "setup", "conftest", "test", "tests", "example", "examples", "build", "toxfile", "noxfile", "pavement",
    "dodo", "tasks", "fabfile", "[Ss][Cc]onstruct", "conanfile", "manage", "benchmark", "benchmarks",
    "exercise", "exercises", "[._]*",
)  # fmt: skip
_ALWAYS_EXCLUDE = ("ez_setup", "*__pycache__")
#: What a wheel would have and a folder of packages hasn't.
_BEYOND_PACKAGES = ("ext-modules", "cmdclass", "data-files", "script-files")


def declared(pyproject: Pyproject, environ: Mapping[str, str]) -> Table:
    """[project] with the fields that [tool.setuptools.dynamic] or setup.cfg say."""
    for key in _BEYOND_PACKAGES:
        if key in pyproject.tool("setuptools"):
            raise pyproject.not_static(f"tool.setuptools.{key} is set")
    keywords = _setup_keywords(pyproject)
    if "project" not in pyproject.table:
        return _of_keywords(pyproject, keywords) if keywords else _of_setup_cfg(pyproject)
    if keywords:
        raise pyproject.not_static("its setup.py says more than its [project]")
    project = pyproject.project
    found = dict(project.raw)
    dynamic = pyproject.tool("setuptools", "dynamic")
    for key in project.texts("dynamic"):
        if key == "version":
            found[key] = _version(pyproject, dynamic, environ)
        elif key == "dependencies":
            found[key] = _lines_of(pyproject, dynamic, key)
        elif key == "optional-dependencies":
            inner = dynamic.table(key)
            found[key] = {extra: _lines_of(pyproject, inner, extra) for extra in inner.raw}
        elif key in ("scripts", "gui-scripts", "entry-points", "requires-python"):
            raise pyproject.not_static(f"{key} is dynamic")
    return Table(found, project.place)


def _setup_keywords(pyproject: Pyproject) -> Mapping[str, Any]:
    """What a setup.py says; nothing without one."""
    path = pyproject.folder / "setup.py"
    if not path.exists():
        return {}
    try:
        return setup_keywords(source_text(path))
    except ValueError as error:
        raise pyproject.not_static(f"its setup.py has to be run: {error}") from error


def _of_keywords(pyproject: Pyproject, keywords: Mapping[str, Any]) -> Table:
    """A setup.py's keywords as the fields of [project]."""
    if any(name in _setup_cfg(pyproject) for name in ("metadata", "options")):
        raise pyproject.not_static("both its setup.py and its setup.cfg describe it")
    if not keywords.get("name") or not keywords.get("version"):
        raise pyproject.not_static("its setup.py states no name and version")
    points = keywords.get("entry_points", {})
    entry_points = {group: _pairs(_joined(lines)) for group, lines in points.items()}
    found: dict[str, Any] = {
        "name": keywords["name"],
        "version": keywords["version"],
        "requires-python": keywords.get("python_requires", ""),
        "dependencies": _requirements(_joined(keywords.get("install_requires", ()))),
        "optional-dependencies": {
            extra: _requirements(_joined(texts))
            for extra, texts in keywords.get("extras_require", {}).items()
        },
        "scripts": entry_points.pop("console_scripts", {}),
        "gui-scripts": entry_points.pop("gui_scripts", {}),
        "entry-points": entry_points,
    }
    return Table(found, str(pyproject.folder / "setup.py"))


def _joined(texts: Any) -> str:
    return texts if isinstance(texts, str) else "\n".join(map(str, texts))


def _version(pyproject: Pyproject, dynamic: Table, environ: Mapping[str, str]) -> str:
    if "version" in dynamic:
        how = dynamic.table("version")
        found = ""
        if attribute := how.text("attr"):
            found = _attribute(pyproject, attribute)
        elif "file" in how:
            found = "\n".join(_files(pyproject, how, "file")).strip()
        if not found:
            raise pyproject.not_static("the version isn't written as a literal")
        return found
    scm = pyproject.tool("setuptools_scm")
    written = scm.text("version_file") or scm.text("write_to")
    if not written and not any("setuptools" in need and "scm" in need for need in _needs(pyproject)):
        raise pyproject.not_static("the version is dynamic, and nothing says from what")
    found = from_git(pyproject.project.text("name"), pyproject.folder / written if written else None, environ)
    if not found:
        raise pyproject.not_static(f"its build writes {written}, which isn't there")
    return found


def _needs(pyproject: Pyproject) -> Sequence[str]:
    return pyproject.build_system.texts("requires")


def _attribute(pyproject: Pyproject, attribute: str) -> str:
    module, _, name = attribute.rpartition(".")
    roots = [pyproject.folder / path for path in pyproject.tool("setuptools").pairs("package-dir").values()]
    for root in (*roots, pyproject.folder / "src", pyproject.folder):
        base = root / module.replace(".", "/")
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if found := literal(path, name):
                return found
    return ""


def _lines_of(pyproject: Pyproject, dynamic: Table, key: str) -> list[str]:
    """Requirements of files, as [tool.setuptools.dynamic] names them."""
    texts = _files(pyproject, dynamic.table(key), "file")
    lines = [line.partition(" #")[0].strip() for text in texts for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not texts or any(line.startswith("-") for line in lines):
        raise pyproject.not_static(f"{key} is dynamic, and no plain file says it")
    return lines


def _files(pyproject: Pyproject, table: Table, key: str) -> list[str]:
    names = [table.text(key)] if isinstance(table.raw.get(key), str) else table.texts(key)
    return [source_text(pyproject.folder / name) for name in names if (pyproject.folder / name).is_file()]


def parts(pyproject: Pyproject, name: str) -> list[Part]:
    """Packages and modules, by what is configured, else by what lies there."""
    own = pyproject.tool("setuptools") if "project" in pyproject.table else _old_layout(pyproject)
    places = own.pairs("package-dir")
    modules = own.texts("py-modules")
    if isinstance(own.raw.get("packages"), list):
        packages = list(own.texts("packages"))
    elif "find" in own.table("packages"):
        packages = _configured(pyproject.folder, own.table("packages", "find"), places)
    elif "py-modules" in own:
        packages = []
    else:
        return _discovered(pyproject, places)
    found = [_place(pyproject, package, places) for package in _outermost(packages)]
    return found + [_place(pyproject, module, places) for module in modules]


def _configured(root: Path, find: Table, places: dict[str, str]) -> list[str]:
    where = find.texts("where") or (".",)
    include, exclude = find.texts("include") or ("*",), find.texts("exclude")
    found: list[str] = []
    for folder in where:
        names = list(_walk(root / folder, include, exclude, find.flag("namespaces", True)))
        if folder not in (".", ""):
            places.update({package: f"{folder}/{package.replace('.', '/')}" for package in _outermost(names)})
        found += names
    return found


def _walk(
    folder: Path, include: Sequence[str], exclude: Sequence[str], namespaces: bool, above: str = ""
) -> Iterator[str]:
    """Dotted names of packages, as setuptools' finders give them."""
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        package = f"{above}{child.name}"
        if not child.is_dir() or "." in child.name:
            continue
        if not namespaces and not (child / "__init__.py").is_file():
            continue
        left_out = _matches(package, (*exclude, *_ALWAYS_EXCLUDE))
        if not left_out and _matches(package, include) and _has_modules(child):
            yield package
        if f"{package}*" not in exclude and f"{package}.*" not in exclude:
            yield from _walk(child, include, exclude, namespaces, f"{package}.")


def _has_modules(folder: Path) -> bool:
    """Whether it, or a folder in it, has a module: folders of data alone aren't worth a path."""
    return any(folder.rglob("*.py"))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _outermost(packages: Sequence[str]) -> list[str]:
    """Those that lie in no other."""
    return sorted(name for name in set(packages) if not any(name.startswith(f"{p}.") for p in packages))


def _place(pyproject: Pyproject, name: str, places: Mapping[str, str]) -> Part:
    """Where package-dir has a package."""
    steps = name.split(".")
    for count in range(len(steps), -1, -1):
        if (place := places.get(".".join(steps[:count]))) is not None:
            break
    else:
        place, count = ".", 0
    found = existing_part(pyproject.folder / place, ".".join(steps[count:])) if count < len(steps) else None
    path = found.path if found else pyproject.folder / place
    if not (found or (count == len(steps) and path.is_dir())):
        raise pyproject.not_static(f"its package {name} isn't there")
    return Part("/".join(steps) + (".py" if path.is_file() else ""), path)


def _discovered(pyproject: Pyproject, places: Mapping[str, str]) -> list[Part]:
    """By setuptools' own look at the folder."""
    if explicit := [name for name in places if name]:
        return [_place(pyproject, name, places) for name in _outermost(explicit)]
    source = pyproject.folder / places.get("", "src")
    if source.is_dir():
        packages = _outermost(list(_walk(source, ("*",), (), namespaces=True)))
        modules = [path.stem for path in sorted(source.glob("*.py")) if path.stem.isidentifier()]
        found = [existing_part(source, name) for name in (*packages, *modules)]
        return [part for part in found if part]
    exclude = (*_FLAT_EXCLUDE, *(f"{name}.*" for name in _FLAT_EXCLUDE))
    walked = _outermost(list(_walk(pyproject.folder, ("*",), exclude, namespaces=True)))
    names = [name for name in walked if all(step.isidentifier() for step in name.split("."))]
    kind = "packages"
    if not names:
        kind = "modules"
        stems = [path.stem for path in sorted(pyproject.folder.glob("*.py")) if path.stem.isidentifier()]
        names = [stem for stem in stems if not _matches(stem, _FLAT_MODULE_EXCLUDE)]
    if len(names) > 1:
        raise pyproject.not_static(
            f"it has several {kind} side by side ({', '.join(names)}), and setuptools takes none of them "
            "unless [tool.setuptools] names them"
        )
    return [part for name in names if (part := existing_part(pyproject.folder, name))]


def _of_setup_cfg(pyproject: Pyproject) -> Table:
    """setup.cfg's [metadata] and [options] as the fields of [project]."""
    cfg = _setup_cfg(pyproject)
    metadata, options = cfg.get("metadata", {}), cfg.get("options", {})
    version = metadata.get("version", "")
    if version.startswith("attr:"):
        version = _attribute(pyproject, version.removeprefix("attr:").strip())
    elif version.startswith("file:"):
        version = source_text(pyproject.folder / version.removeprefix("file:").strip()).strip()
    if not metadata.get("name") or not version:
        raise pyproject.not_static("no file states its name and version")
    entry_points = {group: _pairs(text) for group, text in cfg.get("options.entry_points", {}).items()}
    found: dict[str, Any] = {
        "name": metadata["name"],
        "version": version,
        "requires-python": options.get("python_requires", ""),
        "dependencies": _requirements(options.get("install_requires", "")),
        "optional-dependencies": {
            extra: _requirements(text) for extra, text in cfg.get("options.extras_require", {}).items()
        },
        "scripts": entry_points.pop("console_scripts", {}),
        "gui-scripts": entry_points.pop("gui_scripts", {}),
        "entry-points": entry_points,
    }
    if any("file:" in line for line in found["dependencies"]) or "ext_modules" in options:
        raise pyproject.not_static("its setup.cfg says more than a reader can follow")
    return Table(found, str(pyproject.folder / "setup.cfg"))


def _old_layout(pyproject: Pyproject) -> Table:
    """The packages of setup.py or setup.cfg in the form of [tool.setuptools]."""
    if keywords := _setup_keywords(pyproject):
        names = {"packages": "packages", "package_dir": "package-dir", "py_modules": "py-modules"}
        own = {names[name]: value for name, value in keywords.items() if name in names}
        return Table(own, str(pyproject.folder / "setup.py"))
    cfg = _setup_cfg(pyproject)
    options = cfg.get("options", {})
    found: dict[str, Any] = {}
    if "py_modules" in options:
        found["py-modules"] = _list(options["py_modules"])
    if "package_dir" in options:
        found["package-dir"] = _pairs(options["package_dir"])
    packages = options.get("packages", "").strip()
    if packages in ("find:", "find_namespace:"):
        find = {key: _list(text) for key, text in cfg.get("options.packages.find", {}).items()}
        found["packages"] = {"find": find | {"namespaces": packages == "find_namespace:"}}
    elif packages:
        found["packages"] = _list(packages)
    return Table(found, str(pyproject.folder / "setup.cfg"))


def _setup_cfg(pyproject: Pyproject) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(source_text(pyproject.folder / "setup.cfg"))
    except configparser.Error as error:
        raise pyproject.not_static(f"its setup.cfg can't be read: {error}") from error
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _requirements(text: str) -> list[str]:
    """One a line: commas and semicolons are parts of requirements."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _list(text: str) -> list[str]:
    lines = text.splitlines() if "\n" in text else text.split(",")
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _pairs(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in _list(text))
    return {name.strip(): value.strip() for name, _, value in pairs}
