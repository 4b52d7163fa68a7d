"""YAML read as what its writer typed: every scalar is text, every place knows its line.

YAML's own typing turns `on` into true, `1e-3` into a number and `007` into 7; a spec's environment must
get none of that, so nothing is typed here and the model decides. What a small file needs no part of
(anchors, tags, several documents) is refused, which also keeps expansion bombs out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from gpuyard.errors import Problem
from gpuyard.workloads.spec.text_tree import Node, Path, Tree, UnreadableYaml, format_path

_MAX_CHARACTERS = 1 << 20
_MAX_DEPTH = 32


def read_yaml(text: str) -> Tree:
    """Reads one document whose top level is a mapping.

    Raises:
        UnreadableYaml: anything else.
    """
    if len(text) > _MAX_CHARACTERS:
        raise UnreadableYaml(f"the file is larger than {_MAX_CHARACTERS} characters", 0)
    try:
        return _Builder().build(_events(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableYaml(_explain(error), mark.line + 1 if mark else 0) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"character U+{ord(text[error.position]):04X} can't stand in YAML; is this a text file?"
        raise UnreadableYaml(what, line) from error
    except (YAMLError, ValueError, OverflowError, LookupError, AttributeError, TypeError) as error:
        # The parser's own slips on odd input (escapes out of range, stray indicators).
        raise UnreadableYaml(f"not readable as YAML ({error})", 0) from error


def _events(text: str) -> Iterator[Event]:
    events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
    return events


def _explain(error: MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "not readable as YAML")
    if "'\\t'" in problem:
        return "a tab can't indent YAML; use spaces"
    return f"not readable as YAML: {problem}" + (f" ({error.context})" if error.context else "")


@dataclass
class _Open:
    """A collection being filled, and the key that waits for its value."""

    value: dict[str, Node] | list[Node]
    path: Path
    key: str | None = None


class _Builder:
    """Builds the tree from parse events with a stack of its own, so depth can't exhaust Python's."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.stack: list[_Open] = []
        self.documents = 0

    def build(self, events: Iterator[Event]) -> Tree:
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    raise UnreadableYaml("a second document starts here; a spec is one document", line)
            elif isinstance(event, AliasEvent) or getattr(event, "anchor", None):
                raise UnreadableYaml("anchors and aliases (&, *) aren't read; write the value out", line)
            elif isinstance(event, (MappingStartEvent, SequenceStartEvent, ScalarEvent)):
                self._value(event, line)
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                self.stack.pop()
        if not self.documents:
            raise UnreadableYaml("the file is empty; write at least `run: python train.py`", 1)
        return self.tree

    def _value(self, event: Event, line: int) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            raise UnreadableYaml(f"the tag {tag} isn't read; write the plain value", line)
        if not self.stack:
            self._top(event, line)
            return
        top = self.stack[-1]
        if isinstance(top.value, dict) and top.key is None:
            self._key(event, line, top, top.value)
            return
        if isinstance(event, ScalarEvent):
            value: Node = _scalar(event, line)
        else:
            value = {} if isinstance(event, MappingStartEvent) else []
        if isinstance(top.value, list):
            path = (*top.path, len(top.value))
            top.value.append(value)
            self.tree.lines[path] = line
        else:
            assert top.key is not None
            path = (*top.path, top.key)
            top.value[top.key] = value
            top.key = None
        if isinstance(value, (dict, list)):
            if len(self.stack) >= _MAX_DEPTH:
                raise UnreadableYaml(f"nested deeper than {_MAX_DEPTH} levels", line)
            self.stack.append(_Open(value, path))

    def _top(self, event: Event, line: int) -> None:
        if isinstance(event, ScalarEvent) and not event.value:
            raise UnreadableYaml("the file is empty; write at least `run: python train.py`", line)
        if not isinstance(event, MappingStartEvent):
            raise UnreadableYaml(
                "a spec is a mapping of keys to values, such as `run: python train.py`", line
            )
        self.stack.append(_Open(self.tree.root, ()))

    def _key(self, event: Event, line: int, top: _Open, mapping: dict[str, Node]) -> None:
        if not isinstance(event, ScalarEvent):
            raise UnreadableYaml("a key must be plain text, not a list or a mapping", line)
        key = _scalar(event, line) or ""
        path = (*top.path, key)
        if key in mapping:
            first = self.tree.lines[path]
            self.tree.problems.append(
                Problem(format_path(path), f"this key is there already, on line {first}; keep one", line)
            )
        else:
            self.tree.lines[path] = line
        top.key = key


def _scalar(event: ScalarEvent, line: int) -> str | None:
    text = str(event.value)
    if not text and event.style is None:
        return None
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UnreadableYaml("text can't hold a NUL character or half a surrogate pair", line)
    return text
