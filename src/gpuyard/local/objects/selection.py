"""Which objects a list or watch is about: label and field selectors together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gpuyard import errors
from gpuyard.kube.objects import labels_of
from gpuyard.kube.selectors import FieldSelector, Selector, parse_field_selector, parse_label_selector
from gpuyard.local.objects.kinds.kind import KindSpec

#: Each is held against each object of the kind.
MAX_CLAUSES = 1_000


@dataclass(frozen=True)
class Selection:
    """Both selectors must match; an empty selection holds everything and need not decode objects."""

    labels: Selector
    fields: FieldSelector

    @property
    def is_empty(self) -> bool:
        """Whether it holds everything."""
        return not self.labels.requirements and not self.fields.clauses

    def matches(self, manifest: Mapping[str, Any]) -> bool:
        """Whether it holds this object."""
        return self.labels.matches(labels_of(manifest)) and self.fields.matches(manifest)

    def matches_bytes(self, value: bytes) -> bool:
        """The same for an encoded object."""
        return self.is_empty or self.matches(orjson.loads(value))


#: Selects every object.
EVERYTHING = Selection(Selector(), FieldSelector())


def parse_selection(spec: KindSpec, label_selector: str, field_selector: str) -> Selection:
    """Reads both texts.

    Raises:
        BadRequest: one isn't a selector, or names a field that this kind can't be selected by.
    """
    if not label_selector and not field_selector:
        return EVERYTHING
    try:
        labels, fields = parse_label_selector(label_selector), parse_field_selector(field_selector)
    except ValueError as error:
        raise errors.BadRequest(str(error)) from error
    if (count := len(labels.requirements) + len(fields.clauses)) > MAX_CLAUSES:
        raise errors.BadRequest(f"a selector has at most {MAX_CLAUSES} clauses, this one has {count}")
    for path, _, _ in fields.clauses:
        if not spec.selects(path):
            raise errors.BadRequest(spec.unknown_field(path))
    return Selection(labels, FieldSelector(fields.clauses, spec.field_text))
