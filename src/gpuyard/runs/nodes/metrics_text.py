"""Prometheus' text format as the agents write it (pure). Source: its documentation, "Exposition formats"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LINE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?\s*")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?\s*')
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


@dataclass(frozen=True)
class MetricSample:
    """One value of a metric, and the labels that tell it from the others."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse_metrics(text: str) -> list[MetricSample]:
    """All samples in the order in which they stand there.

    Lines that are none are left out: what is no answer of an agent has no samples.
    """
    samples = []
    for line in text.splitlines():
        if line.startswith("#") or not (found := _LINE.fullmatch(line)):
            continue
        name, labels, value = found.groups()
        try:
            samples.append(MetricSample(name, _labels(labels or ""), float(value)))
        except ValueError:
            continue
    return samples


def _labels(text: str) -> dict[str, str]:
    return {name: _unescaped(value) if "\\" in value else value for name, value in _LABEL.findall(text)}


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda found: _UNESCAPED.get(found[1], found[0]), value)
