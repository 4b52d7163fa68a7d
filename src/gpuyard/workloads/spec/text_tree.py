"""A spec file as a tree of text, with the line of every place in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from gpuyard.errors import Problem

#: A scalar is text, or None where a key has no value at all.
Node: TypeAlias = "str | dict[str, Node] | list[Node] | None"
Path: TypeAlias = tuple[str | int, ...]


class UnreadableYaml(Exception):
    """The text is not YAML of the kind read here; `problem` says what and where."""

    def __init__(self, message: str, line: int, path: str = "yaml") -> None:
        super().__init__(message)
        self.problem = Problem(path, message, line)


@dataclass
class Tree:
    """A parsed document.

    Attributes:
        root: the top-level mapping.
        lines: 1-based line of each key and list item, by path.
        problems: what is wrong without making the rest unreadable (duplicate keys).
    """

    root: dict[str, Node] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def format_path(path: Path) -> str:
    """`("tolerations", 0, "key")` → `tolerations[0].key`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def is_text(value: str) -> bool:
    """Whether the API and a process take it: UTF-8, no NUL. Other bytes are half a surrogate pair each."""
    return "\0" not in value and (
        value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def places_of_no_text(node: Node, path: Path = ()) -> Iterator[Path]:
    """Where a tree has values that aren't text."""
    if isinstance(node, str):
        if not is_text(node):
            yield path
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node or ()):
        yield from places_of_no_text(value, (*path, key))
