"""A project's version where a file says it, found without running anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from gpuyard.regular_files import read_regular

#: What a version that comes from git is called: nobody reads git here, and everybody can see that.
FROM_GIT = "0+unknown"
#: How setuptools-scm and hatch-vcs are told a version from outside.
_PRETEND = "SETUPTOOLS_SCM_PRETEND_VERSION"


def source_text(path: Path) -> str:
    """A file's text; empty when there is none to read."""
    try:
        return read_regular(path).decode("utf-8")
    except (OSError, ValueError):
        return ""


def literal(path: Path, name: str) -> str:
    """What a module assigns to a name at its top level, if that is a literal; else empty.

    Numbers in a tuple or list make a version, as setuptools takes them.
    """
    try:
        body = ast.parse(source_text(path)).body
    except (SyntaxError, ValueError, RecursionError):
        return ""
    found = ""
    for statement in body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign) and statement.value:
            targets = [statement.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            found = _version_of(statement.value)  # type: ignore[attr-defined]
    return found


def _version_of(value: ast.expr) -> str:
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ""
    if isinstance(found, tuple | list):
        return ".".join(map(str, found))
    return found if isinstance(found, str) else ""


def matched(path: Path, pattern: str) -> str:
    """The group `version` of a pattern in a file; empty without a match."""
    try:
        match = re.search(pattern, source_text(path), re.MULTILINE)
    except re.error:
        return ""
    return (match.groupdict().get("version") or "") if match else ""


def from_git(name: str, written: Path | None, environ: Mapping[str, str]) -> str:
    """The version of a project that takes it from git.

    Args:
        name: of the project.
        written: the file that its build writes it to, if it does.
        environ: may say the version, as the plugins have it.
    """
    own = re.sub(r"[-_.]+", "_", name).upper()
    if told := environ.get(f"{_PRETEND}_FOR_{own}") or environ.get(_PRETEND):
        return told
    if written is None:
        return FROM_GIT
    return literal(written, "__version__") or literal(written, "version")
