"""Prometheus' text format as agents and proxies write it (pure).

Source: its documentation, "Exposition formats".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_LINE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?\s*")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?\s*')
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n", "\\": "\\", '"': '"'}
_ESCAPES = str.maketrans({written: f"\\{letter}" for letter, written in _UNESCAPED.items()})

#: More than the agent of any node or the proxy of any service has; what comes after isn't read.
_MAX_SAMPLES = 100_000


@dataclass(frozen=True)
class MetricSample:
    """One value of a metric, and the labels that tell it from the others."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse_metrics(text: str) -> list[MetricSample]:
    """All samples in the order in which they stand there.

    Lines that are none are left out: what is no answer of either has no samples. So are values that are no
    number of anything (`NaN`, `+Inf`).
    """
    samples: list[MetricSample] = []
    # Only this ends a line: a label may have what `splitlines` takes for an end, such as U+2028.
    for line in text.split("\n"):
        if line.startswith("#") or not (found := _LINE.fullmatch(line)):
            continue
        name, labels, written = found.groups()
        try:
            value = float(written)
        except ValueError:
            continue
        if len(samples) == _MAX_SAMPLES:
            break
        if math.isfinite(value):
            samples.append(MetricSample(name, _labels(labels or ""), value))
    return samples


def label_value(text: str) -> str:
    """A label's value as it is written between its quotes: it ends neither them nor the line."""
    return text.translate(_ESCAPES)


def _labels(text: str) -> dict[str, str]:
    return {name: _unescaped(value) if "\\" in value else value for name, value in _LABEL.findall(text)}


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda found: _UNESCAPED.get(found[1], found[0]), value)
