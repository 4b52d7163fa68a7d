"""Label selectors and field selectors, as text and as `LabelSelector` objects.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ and field-selectors/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SET_BASED = r"^(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$"
_EQUALITY = r"^(?P<key>[^!=\s]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^!=\s]*)$"
_KEY = r"^[A-Za-z0-9][A-Za-z0-9._/-]*\Z"
_INTEGER = r"[+-]?[0-9]+"
#: Kubernetes compares 64-bit numbers; Python reads none of thousands of digits.
_MAX_DIGITS = 18


@dataclass(frozen=True)
class Requirement:
    """One clause: `key` against `values` by operator In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy the clause (a missing key satisfies NotIn)."""
        present = self.key in labels
        value = labels.get(self.key, "")
        match self.operator:
            case "In":
                return present and value in self.values
            case "NotIn":
                return not present or value not in self.values
            case "Exists":
                return present
            case "DoesNotExist":
                return not present
            case "Gt" | "Lt":
                # `int` alone takes more than Kubernetes does: "5_0" is a label value, and no number.
                numbers = [
                    int(text)
                    for text in (value, *self.values)
                    if len(text) <= _MAX_DIGITS and re.fullmatch(_INTEGER, text)
                ]
                if len(numbers) != 2:
                    return False
                left, right = numbers
                return left > right if self.operator == "Gt" else left < right
        raise ValueError(f"{self.operator!r} is not a selector operator")


@dataclass(frozen=True)
class Selector:
    """All requirements must hold; an empty selector matches everything."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Selector:
        """From a `LabelSelector`."""
        same = (Requirement(key, "In", (value,)) for key, value in (raw.get("matchLabels") or {}).items())
        return cls((*same, *requirements_of(raw.get("matchExpressions") or ())))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy every requirement."""
        return all(r.matches(labels) for r in self.requirements)


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a `LabelSelector` that may be absent matches these labels; an absent one matches none."""
    return selector is not None and Selector.of(selector).matches(labels)


def parse_label_selector(text: str) -> Selector:
    """`a=b,c!=d,e in (f,g),h,!i`.

    Raises:
        ValueError: a clause that is none of these.
    """
    clauses = [clause.strip() for clause in _clauses(text) if clause.strip()]
    return Selector(tuple(_parse_clause(clause) for clause in clauses))


def _clauses(text: str) -> list[str]:
    """Parts between commas that aren't in parentheses, in one pass over the text."""
    clauses: list[str] = []
    begin, depth = 0, 0
    for position, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == "," and depth <= 0:
            clauses.append(text[begin:position])
            begin = position + 1
    return [*clauses, text[begin:]]


def _parse_clause(clause: str) -> Requirement:
    if match := re.match(_SET_BASED, clause):
        values = tuple(value.strip() for value in match["values"].split(","))
        found = Requirement(match["key"], "In" if match["op"] == "in" else "NotIn", values)
    elif match := re.match(_EQUALITY, clause):
        found = Requirement(match["key"], "NotIn" if match["op"] == "!=" else "In", (match["value"],))
    elif clause.startswith("!"):
        found = Requirement(clause[1:].strip(), "DoesNotExist")
    else:
        found = Requirement(clause, "Exists")
    if not re.match(_KEY, found.key):
        raise ValueError(f"unable to parse requirement: {clause!r}")
    return found


def requirements_of(expressions: Sequence[Mapping[str, Any]]) -> tuple[Requirement, ...]:
    """`matchExpressions`, of labels or of a node selector term."""
    return tuple(Requirement(e["key"], e["operator"], tuple(e.get("values") or ())) for e in expressions)


def field_text(manifest: Mapping[str, Any], path: str) -> str:
    """The scalar at a dotted path as text; empty when absent, true/false in lower case."""
    value: Any = manifest
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class FieldSelector:
    """Clauses `path=value` or `path!=value` over an object's fields, which `read` finds."""

    clauses: tuple[tuple[str, bool, str], ...] = ()
    read: Callable[[Mapping[str, Any], str], str] = field_text

    def matches(self, manifest: Mapping[str, Any]) -> bool:
        """Whether every clause holds; an absent field counts as the empty text."""
        return all((self.read(manifest, path) == value) is equal for path, equal, value in self.clauses)


def parse_field_selector(text: str) -> FieldSelector:
    """`metadata.name=a,status.phase!=Running`.

    Raises:
        ValueError: a clause of another form.
    """
    clauses = []
    for clause in (part.strip() for part in text.split(",")):
        if not clause:
            continue
        match = re.match(_EQUALITY, clause)
        if match is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{clause}'")
        clauses.append((match["key"], match["op"] != "!=", match["value"]))
    return FieldSelector(tuple(clauses))
