"""Manifests that depend on options, written once: as plain objects for an install, and for a Helm chart.

A tree of dicts and lists may have parts that are there under a condition only, and `@name@` in its texts for
the value of an option. `resolve` makes plain manifests of it; `chart` makes Helm's notation of the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

Options = TypeVar("Options")

_MARK = re.compile(r'^\s*(?:- )?"@(if|end)[0-9]+@": "?(.*?)"?$')
_WHOLE = re.compile(r"@([A-Za-z]+)@")
_PART = re.compile(r'"@json:([A-Za-z]+)@"|@([A-Za-z]+)@')


@dataclass(frozen=True)
class Condition(Generic[Options]):
    """When a part is there: for an install's options, and in a chart's notation over its values."""

    holds: Callable[[Options], bool]
    helm: str


@dataclass(frozen=True)
class Only:
    """A dict's value, a list's item or a whole manifest that is there only under a condition."""

    condition: Condition[Any]
    value: Any


def resolve(tree: Any, options: Any, values: Mapping[str, Any]) -> Any:
    """The tree as it is for these options.

    Args:
        tree: dicts, lists, texts, numbers.
        options: what the conditions look at.
        values: what stands for `@name@`; a text that is nothing else becomes the value itself.
    """
    if isinstance(tree, Only):
        return resolve(tree.value, options, values)
    if isinstance(tree, Mapping):
        return {
            name: resolve(value, options, values) for name, value in tree.items() if _there(value, options)
        }
    if isinstance(tree, (list, tuple)):
        return [resolve(item, options, values) for item in tree if _there(item, options)]
    if not isinstance(tree, str):
        return tree
    tree = tree.replace("@json:", "@")
    if whole := _WHOLE.fullmatch(tree):
        return values[whole[1]]
    return _WHOLE.sub(lambda found: str(values[found[1]]), tree)


def _there(value: Any, options: Any) -> bool:
    return not isinstance(value, Only) or value.condition.holds(options)


def chart(
    manifests: Sequence[Any],
    to_yaml: Callable[[Sequence[Mapping[str, Any]]], str],
    expressions: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    """Each manifest as a Helm template: its file name and its text.

    Args:
        manifests: trees with `kind` and `metadata.name`.
        to_yaml: writes plain manifests, every text on one line, in double quotes unless it is a plain word.
        expressions: what stands for `@name@` where that isn't the chart's value of this name.
    """
    numbers = count()
    for manifest in manifests:
        whole = manifest if isinstance(manifest, Only) else None
        tree = manifest.value if isinstance(manifest, Only) else manifest
        text = _finish(to_yaml([_marked(tree, numbers)]), expressions)
        if whole:
            text = f"{{{{- if {whole.condition.helm} }}}}\n{text}{{{{- end }}}}\n"
        yield f"{tree['kind'].lower()}-{tree['metadata']['name'].strip('@')}.yaml", text


def _marked(tree: Any, numbers: Iterator[int]) -> Any:
    """The tree with its conditions as entries before and after what they are about."""
    if isinstance(tree, Mapping):
        marked: dict[str, Any] = {}
        for name, value in tree.items():
            if isinstance(value, Only):
                number = next(numbers)
                marked[f"@if{number}@"] = value.condition.helm
                marked[name] = _marked(value.value, numbers)
                marked[f"@end{number}@"] = "-"
            else:
                marked[name] = _marked(value, numbers)
        return marked
    if isinstance(tree, (list, tuple)):
        items: list[Any] = []
        for item in tree:
            if isinstance(item, Only):
                number = next(numbers)
                items.append({f"@if{number}@": item.condition.helm})
                items.append(_marked(item.value, numbers))
                items.append({f"@end{number}@": "-"})
            else:
                items.append(_marked(item, numbers))
        return items
    return tree


def _finish(text: str, expressions: Mapping[str, str]) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        if mark := _MARK.match(line):
            condition = mark[2].replace('\\"', '"')
            lines.append(f"{{{{- if {condition} }}}}" if mark[1] == "if" else "{{- end }}")
        else:
            lines.append(_PART.sub(lambda found: _value(found, expressions), line))
    return "\n".join(lines) + "\n"


def _value(found: re.Match[str], expressions: Mapping[str, str]) -> str:
    name = found[1] or found[2]
    value = expressions.get(name, f".Values.{name}")
    return f"{{{{ toJson {value} }}}}" if found[1] else f"{{{{ {value} }}}}"
