"""Manifests as YAML that every parser reads alike.

kubectl's parser knows YAML 1.1, where a bare `on` is true and `1e3` a number; others know 1.2. So text
that could be taken for anything else is quoted, in block style with plain words, double quotes and, for text
of several lines that it holds as they are, literal blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(
    r"[A-Za-z_/](?:[A-Za-z0-9_./@=+-]|:(?=[A-Za-z0-9_./@=+-]))*|[0-9]+(?:[KMGT]i|m)", re.ASCII
)
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def to_yaml(manifests: Sequence[Mapping[str, Any]]) -> str:
    """All of them, as one stream of documents."""
    return "---\n".join("\n".join(_lines(manifest)) + "\n" for manifest in manifests)


def _lines(value: Any) -> Iterator[str]:
    """Block lines of a mapping or list."""
    if not value:
        yield _scalar(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item)
    else:
        for item in value:
            yield from _item(item)


def _entry(head: str, item: Any) -> Iterator[str]:
    if _is_literal(item):
        yield from _literal(head, item)
        return
    if not _is_block(item):
        yield f"{head} {_scalar(item)}"
        return
    yield head
    # Lists stand at their key's own indent, as kubectl writes them.
    indent = "" if isinstance(item, (list, tuple)) else "  "
    yield from (indent + line if line else "" for line in _lines(item))


def _item(item: Any) -> Iterator[str]:
    if _is_literal(item):
        yield from _literal("-", item)
        return
    if not _is_block(item):
        yield f"- {_scalar(item)}"
        return
    for number, line in enumerate(_lines(item)):
        yield (("  " if number else "- ") + line) if line else ""


def _is_literal(value: Any) -> bool:
    """Whether a literal block holds the text as it is, and every parser reads it alike."""
    if not isinstance(value, str) or "\n" not in value[:-1]:
        return False
    # A block takes its indent from its first line; of empty lines at its end all but one are dropped.
    if value[0] in " \t\n" or value.endswith("\n\n"):
        return False
    return value.replace("\n", "").replace("\t", "").isprintable()


def _literal(head: str, text: str) -> Iterator[str]:
    yield f"{head} |" if text.endswith("\n") else f"{head} |-"
    for line in text.removesuffix("\n").split("\n"):
        yield f"  {line}" if line else ""


def _is_block(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple)) and len(value) > 0


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character == " " or character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
