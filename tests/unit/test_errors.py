"""The tree of errors: complete, as its docstring draws it, and the only place of its kind."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import gpuyard
from gpuyard import errors

SOURCE = Path(gpuyard.__file__).parent

#: Exceptions with a home of their own, and why. None of them reaches a user.
ELSEWHERE = {
    ("launcher_gpus.py", "Unfit"): "the launcher runs inside of pods and imports nothing of ours",
    ("launcher_gang.py", "NotTogether"): "as the launcher's",
    ("workloads/spec/text_tree.py", "UnreadableYaml"): "becomes a SpecError once the file's name is known",
    ("devices/nvml/library.py", "NoDriver"): "carries an enum of devices; the backend makes a snapshot of it",
    ("local/kubelet/image_pulls.py", "CannotGet"): "carries a container's waiting reason, for its status",
    ("local/kubelet/probing/http_get.py", "_GetError"): "becomes what a probe answered",
    ("local/objects/writes.py", "_Raced"): "the writer tries again",
    ("local/objects/kinds/schema.py", "_Mismatch"): "becomes a field's error",
    ("local/http/request.py", "ClientGone"): "nobody is there any more who could be told",
}

#: What is raised of Python's own: a pure parser's ValueError is wrapped by its caller, who knows the place;
#: OSError and EOFError are the operating system's word where a function stands in for it.
PYTHONS = {
    "ValueError",
    "TypeError",
    "OSError",
    "EOFError",
    "FileNotFoundError",
    "TimeoutError",
    "AssertionError",
    "StopAsyncIteration",
    "AttributeError",  # of a module that has no such name
}

_LINE = re.compile(r"^    (?P<bars>(?:[│ ]   )*)[├└]── (?P<text>.+)$")
_NAMES = re.compile(r"[A-Z]\w+(?: \d+)?(?:, [A-Z]\w+(?: \d+)?)*,?")


def _drawn() -> dict[str, tuple[str, int | None]]:
    """Of each class in the docstring's tree: its parent, and the HTTP status beside it."""
    found: dict[str, tuple[str, int | None]] = {}
    path = ["GpuyardError"]
    for line in (errors.__doc__ or "").splitlines():
        if not (match := _LINE.match(line)):
            continue
        depth, text = len(match["bars"]) // 4 + 1, match["text"]
        listed = text if _NAMES.fullmatch(text) else text.split()[0]
        for part in listed.strip(",").split(", "):
            name, _, code = part.partition(" ")
            found[name] = (path[depth - 1], int(code) if code else None)
            path[depth:] = [name]
    return found


def _classes(base: type[errors.GpuyardError] = errors.GpuyardError) -> Iterator[type[errors.GpuyardError]]:
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _classes(child)


def test_the_docstring_draws_every_class_under_its_parent() -> None:
    codes = {c.__name__: c.code for c in _classes() if issubclass(c, errors.ApiError)}
    del codes["ApiError"]
    there = {c.__name__: (c.__bases__[0].__name__, codes.get(c.__name__)) for c in _classes()}
    assert _drawn() == there


@pytest.mark.parametrize("kind", [errors.GpuyardError, *_classes()])
def test_misuse_ends_with_2_and_every_other_failure_with_1(kind: type[errors.GpuyardError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)


@cache
def _modules() -> list[tuple[str, ast.Module]]:
    names = {file.relative_to(SOURCE).as_posix(): file for file in sorted(SOURCE.rglob("*.py"))}
    return [
        (name, ast.parse(file.read_text()))
        for name, file in names.items()
        if not name.startswith("_proto/") and name != "errors.py"
    ]


def _is_exception(base: ast.expr) -> bool:
    if isinstance(base, ast.Attribute):
        return isinstance(base.value, ast.Name) and base.value.id == "errors"
    known = getattr(builtins, base.id, None) if isinstance(base, ast.Name) else None
    return isinstance(known, type) and issubclass(known, BaseException)


def test_exceptions_are_at_home_in_errors() -> None:
    found = {
        (name, node.name)
        for name, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(map(_is_exception, node.bases))
    }
    assert found == ELSEWHERE.keys()


def test_what_is_raised_of_pythons_own_is_what_a_caller_wraps() -> None:
    raised: dict[str, str] = {}
    for name, tree in _modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if _is_exception(what) and isinstance(what, ast.Name):
                raised[what.id] = f"{name}:{node.lineno}"
    assert {what: where for what, where in raised.items() if what not in PYTHONS} == {}


def test_every_class_is_used() -> None:
    used = {
        node.attr
        for _, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "errors"
    }
    # Those of the API are made by their status: see `client/http/failures.py`.
    leaves = {c.__name__ for c in _classes() if not c.__subclasses__() and not issubclass(c, errors.ApiError)}
    imported = {
        alias.name
        for _, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "gpuyard.errors"
        for alias in node.names
    }
    assert leaves - used - imported == set()


def test_nothing_is_raised_where_an_early_python_wraps_it() -> None:
    """Python 3.11.2, Debian 12's, makes a group of what an `except*` raises, and no one catches that."""
    wrapped = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for clause in ast.walk(ast.parse(path.read_text()))
        if isinstance(clause, ast.TryStar)
        for handler in clause.handlers
        for node in ast.walk(handler)
        if isinstance(node, ast.Raise)
    ]
    assert wrapped == []
