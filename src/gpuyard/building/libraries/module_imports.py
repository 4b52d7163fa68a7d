"""Which modules of a wheel its packages import: found in the source, since nothing is run during a build."""

from __future__ import annotations

import ast
import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

#: `_imaging.cpython-311-x86_64-linux-gnu.so`, `cv2.abi3.so`.
_EXTENSION = re.compile(r"(?P<name>[^/.]+)(?P<tag>\.(?:cpython-\d|abi3)[^/]*)?\.so")
_MOST_MODULES = 3000


class Import(enum.IntEnum):
    """How sure it is that a module is imported.

    CERTAIN: whenever somebody imports a package of the wheel.
    TRIED: then, but somewhere where a failure or a condition may be meant.
    OFFERED: by a user who asks for it; it lies directly in a package.
    """

    OFFERED = 1
    TRIED = 2
    CERTAIN = 3


@dataclass(frozen=True)
class ModuleFiles:
    """A wheel's modules: dotted name → path below site-packages."""

    sources: Mapping[str, str]
    extensions: Mapping[str, str]

    @classmethod
    def of(cls, paths: Iterable[str]) -> ModuleFiles:
        """Sorts a wheel's files out."""
        sources: dict[str, str] = {}
        extensions: dict[str, str] = {}
        for path in paths:
            folder, _, name = path.rpartition("/")
            if name.endswith(".py"):
                inner = "" if name == "__init__.py" else name[:-3]
                sources[_dotted(folder, inner)] = path
            elif match := _EXTENSION.fullmatch(name):
                extensions.setdefault(_dotted(folder, match["name"]), path)
        return cls(sources, extensions)

    @property
    def packages(self) -> list[str]:
        """The top level: what a user imports."""
        return sorted({name.partition(".")[0] for name in (*self.sources, *self.extensions)} - {""})


def imported_extensions(files: ModuleFiles, read: Callable[[str], bytes]) -> dict[str, Import]:
    """Extension modules that somebody gets to by importing the wheel's packages.

    Args:
        files: of the wheel.
        read: a file's content, by path.

    Returns:
        How sure it is, by path.
    """
    reached: dict[str, Import] = {}
    waiting = [(name, Import.CERTAIN) for name in files.packages]
    while waiting and len(reached) < _MOST_MODULES:
        name, certainty = waiting.pop()
        if reached.get(name, 0) >= certainty:
            continue
        reached[name] = certainty
        if name in files.sources:
            path = files.sources[name]
            package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
            waiting += [
                (module, min(certainty, sure))
                for module, sure in _imports(read(path), package)
                if module in files.sources or module in files.extensions
            ]
    found = {
        path: reached[name]
        for name, path in files.extensions.items()
        if name in reached and name not in files.sources
    }
    for name, path in files.extensions.items():
        package, _, last = name.rpartition(".")
        # A package that loads the extension module of its own name: cv2/cv2.abi3.so.
        if package == last and reached.get(package) == Import.CERTAIN:
            found[path] = Import.CERTAIN
        elif _is_offered(path, package, last):
            found.setdefault(path, Import.OFFERED)
    return found


def _is_offered(path: str, package: str, name: str) -> bool:
    tagged = _EXTENSION.fullmatch(path.rpartition("/")[2])
    return (
        "." not in package and not name.startswith("_") and tagged is not None and tagged["tag"] is not None
    )


def _dotted(folder: str, name: str) -> str:
    return ".".join(part for part in (*folder.split("/"), name) if part)


def _imports(source: bytes, package: str) -> Iterator[tuple[str, Import]]:
    """The modules that a module imports while it is imported; names that are no modules come too."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    waiting: list[tuple[ast.AST, Import]] = [(tree, Import.CERTAIN)]
    while waiting:
        node, sure = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from ((name, sure) for name in _with_parents(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield from ((name, sure) for name in _with_parents(base))
            yield from ((f"{base}.{alias.name}", sure) for alias in node.names)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.expr)):
            inner = (
                Import.TRIED if isinstance(node, (ast.If, ast.Try, ast.For, ast.While, ast.Match)) else sure
            )
            waiting += [(child, min(sure, inner)) for child in ast.iter_child_nodes(node)]


def _with_parents(name: str) -> Iterator[str]:
    """A module's name, after those of the packages that it is in."""
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """What a `from … import` imports from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join((*base, node.module) if node.module else base)
