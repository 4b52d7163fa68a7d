"""Reads a tree of text by a schema, and finds all that is wrong with it at once (pure).

A schema is a reader: it takes a node and its path, and returns the node's value, or tells `Findings` what is
wrong. Readers are made of one another by the functions here. There are libraries for this; the import of one
takes more time than a whole `gpuyard run -d` has (docs/adr/0019).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gpuyard.workloads.spec.text_tree import Node, Path

_WHOLE_NUMBER = r"(?a)[+-]?\d{1,18}"


class Findings:
    """What is wrong with a tree: places and messages, in the order in which they were found."""

    def __init__(self, unknown_key: Callable[[Path, list[str]], str]) -> None:
        """`unknown_key` says what may be meant by a key, from its path and the keys that would do there."""
        self.all: list[tuple[Path, str]] = []
        self.unknown_key = unknown_key

    def add(self, path: Path, message: str) -> None:
        """Tells of one."""
        self.all.append((path, message))


Reader: TypeAlias = Callable[[Node, Path, Findings], Any]


class Fields:
    """A reader of a mapping that has these keys and no others.

    Its value is a dict of the keys that are written with a value, `null` being none.
    """

    def __init__(
        self,
        keys: Mapping[str, Reader],
        *,
        required: Mapping[str, str] | None = None,
        check: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Of `keys` those of `required` have to be there, and that says what to tell where one isn't.

        `check` raises ValueError for values that don't agree, once each is right for itself.
        """
        self.keys = keys
        self._required = required or {}
        self._check = check

    def __call__(self, node: Node, path: Path, findings: Findings) -> dict[str, Any]:
        """Reads it; a `Reader`."""
        if not isinstance(node, dict):
            findings.add(path, f"must be a mapping of keys to values, not {_seen(node)}")
            return {}
        before = len(findings.all)
        found: dict[str, Any] = {}
        for key, read in self.keys.items():
            if key in node and (node[key] is not None or key in self._required):
                found[key] = read(node[key], (*path, key), findings)
            elif key in self._required:
                findings.add((*path, key), self._required[key])
        for key in node:
            if key not in self.keys:
                place = (*path, key)
                findings.add(place, findings.unknown_key(place, list(self.keys)))
        if self._check and len(findings.all) == before:
            _told(self._check, found, path, findings)
        return found


def value(parse: Callable[[Any], Any]) -> Reader:
    """Whatever `parse` makes of it; that raises ValueError for what is wrong."""
    return lambda node, path, findings: _told(parse, node, path, findings)


def text(parse: Callable[[str], Any] = str) -> Reader:
    """Text, and what `parse` makes of it."""

    def read(node: Node, path: Path, findings: Findings) -> Any:
        if isinstance(node, str):
            return _told(parse, node, path, findings)
        findings.add(path, f"must be text, not {_seen(node)}")
        return None

    return read


def whole_number(least: int, most: int) -> Reader:
    """A whole number from `least` to `most`."""

    def read(node: Node, path: Path, findings: Findings) -> int | None:
        if not isinstance(node, str) or not re.fullmatch(_WHOLE_NUMBER, node.strip()):
            findings.add(path, f"must be a whole number, not {_seen(node)}")
            return None
        number = int(node)
        if not least <= number <= most:
            findings.add(path, f"must be at {'least' if number < least else 'most'} "
                         f"{least if number < least else most}")  # fmt: skip
            return None
        return number

    return read


def one_of(*words: str) -> Reader:
    """One of these words."""

    def read(node: Node, path: Path, findings: Findings) -> str | None:
        if isinstance(node, str) and node in words:
            return node
        *others, last = map(repr, words)
        findings.add(path, f"must be {', '.join(others)} or {last}, not {_seen(node)}")
        return None

    return read


def items(read_item: Reader, *, least: int = 0) -> Reader:
    """A list of such items, at least so many."""

    def read(node: Node, path: Path, findings: Findings) -> list[Any]:
        if not isinstance(node, list):
            findings.add(path, f"must be a list, not {_seen(node)}")
            return []
        if len(node) < least:
            findings.add(path, f"has {len(node)} items, and needs at least {least}")
        return [read_item(item, (*path, number), findings) for number, item in enumerate(node)]

    return read


def entries(parse_key: Callable[[str], Any], read_value: Reader) -> Reader:
    """A mapping of keys that `parse_key` takes to such values."""

    def read(node: Node, path: Path, findings: Findings) -> dict[str, Any]:
        if not isinstance(node, dict):
            findings.add(path, f"must be a mapping of keys to values, not {_seen(node)}")
            return {}
        for key in node:
            _told(parse_key, key, (*path, key), findings)
        return {key: read_value(entry, (*path, key), findings) for key, entry in node.items()}

    return read


def maybe(read: Reader) -> Reader:
    """The same, or nothing at all."""
    return lambda node, path, findings: None if node is None else read(node, path, findings)


def not_empty(written: str) -> str:
    """The text, or ValueError where there is none."""
    if not written:
        raise ValueError("is empty; write a value, or leave the key out")
    return written


def _told(parse: Callable[[Any], Any], node: Any, path: Path, findings: Findings) -> Any:
    try:
        return parse(node)
    except ValueError as error:
        findings.add(path, str(error))
        return None


def _seen(node: Node) -> str:
    if node is None:
        return "nothing"
    return "a mapping" if isinstance(node, dict) else "a list" if isinstance(node, list) else repr(node)
