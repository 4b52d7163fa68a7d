"""What a setup.py hands to setup(), where that is written down as literals; nothing of it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

#: What decides what is installed, with its types; all else is for an index's page, or for builds of archives.
_COUNTING: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "version": (str,),
    "packages": (list, tuple),
    "package_dir": (dict,),
    "py_modules": (list, tuple),
    "install_requires": (list, tuple, str),
    "extras_require": (dict,),
    "entry_points": (dict,),
    "python_requires": (str,),
}
#: What only a build can do, or what lies outside of packages.
_BEYOND = frozenset(
    {
        "ext_modules", "ext_package", "cmdclass", "cffi_modules", "rust_extensions", "data_files", "scripts",
        "use_scm_version", "distclass", "namespace_packages", "libraries", "pbr",
    }
)  # fmt: skip
_FINDERS = {"find_packages": False, "find_namespace_packages": True}


def setup_keywords(text: str) -> Mapping[str, Any]:
    """The keywords that count of the call of setup(); `packages` may be `{"find": …}`, as in pyproject.toml.

    Raises:
        ValueError: only running it would tell, and why: there is none, or one of them is computed.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError("it can't be parsed") from error
    calls = [call for call in _calls(tree) if _called(call) == "setup"]
    if len(calls) != 1 or calls[0] not in list(_outermost_calls(tree.body)):
        raise ValueError("it doesn't call setup() once, at its outermost level")
    if not all(map(_is_harmless, tree.body)):
        raise ValueError("it does more than call setup()")
    (call,) = calls
    names = {keyword.arg for keyword in call.keywords}
    if call.args or None in names:
        raise ValueError("it computes what it hands to setup()")
    if beyond := sorted(name for name in names if name in _BEYOND):
        raise ValueError(f"it hands {', '.join(beyond)} to setup()")
    values = {keyword.arg: keyword.value for keyword in call.keywords}
    constants = _constants(tree)
    return {name: _value(name, values[name], constants) for name in _COUNTING if name in values}


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="setuptools"), attr=name):
            return name
    return ""


def _is_harmless(statement: ast.stmt) -> bool:
    """Whether it can't have made files that are packed then: it reads and names things, or calls setup()."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef():
            return True
        case ast.Assign() | ast.AnnAssign() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call() as call):
            return _called(call) == "setup"
        case ast.With(body=body) | ast.If(test=ast.Compare(left=ast.Name(id="__name__")), body=body):
            return all(map(_is_harmless, body))
    return False


def _outermost_calls(body: list[ast.stmt]) -> Iterator[ast.Call]:
    for statement in body:
        match statement:
            case ast.Expr(value=ast.Call() as call):
                yield call
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__")), body=inner):
                yield from _outermost_calls(inner)


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """Names that are assigned once, at the outermost level, and then only handed on to setup()."""
    found: dict[str, ast.expr] = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = value
    uses: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            uses[node.id] = uses.get(node.id, 0) + 1
    return {name: value for name, value in found.items() if uses[name] <= 2}


def _value(name: str, value: ast.expr, constants: Mapping[str, ast.expr]) -> Any:
    if isinstance(value, ast.Name) and value.id in constants:
        value = constants[value.id]
    if name == "packages" and isinstance(value, ast.Call) and _called(value) in _FINDERS:
        return {"find": _find(value) | {"namespaces": _FINDERS[_called(value)]}}
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"it computes {name}") from error
    if not isinstance(found, _COUNTING[name]):
        raise ValueError(f"{name} isn't what a reader can follow")
    return list(found) if isinstance(found, tuple) else found


def _find(call: ast.Call) -> dict[str, list[str]]:
    """The arguments of find_packages(), in the form of [tool.setuptools.packages.find]."""
    arguments = dict(zip(("where", "exclude", "include"), call.args, strict=False))
    arguments |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    try:
        found = {name: ast.literal_eval(value) for name, value in arguments.items()}
    except (ValueError, TypeError) as error:
        raise ValueError("it computes packages") from error
    return {name: [text] if isinstance(text, str) else list(text) for name, text in found.items()}
