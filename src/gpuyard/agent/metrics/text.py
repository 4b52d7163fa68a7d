"""Prometheus' text format, version 0.0.4 (pure).

https://prometheus.io/docs/instrumenting/exposition_formats
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpuyard.agent.metrics.families import Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def label_text(labels: Mapping[str, str]) -> str:
    """`gpu="0",UUID="GPU-…"`; a label without a value is left out, which means the same."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items() if value)


def joined(*labels: str) -> str:
    """Texts of `label_text` as one."""
    return labels[0] if len(labels) == 1 else ",".join(filter(None, labels))


class MetricsText:
    """Collects samples by family, in the order in which families come first."""

    def __init__(self) -> None:
        self._lines: dict[Family, list[str]] = {}

    def add(self, family: Family, value: float, *labels: str) -> None:
        """One sample. `labels` are texts of `label_text`."""
        if (lines := self._lines.get(family)) is None:
            lines = self._lines[family] = []
        shown = int(value) if isinstance(value, bool) else value
        lines.append(f"{family.name}{{{joined(*labels)}}} {shown}")

    def __str__(self) -> str:
        return "".join(self._parts())

    def _parts(self) -> Iterable[str]:
        for family, lines in self._lines.items():
            yield f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n"
            yield "\n".join(lines)
            yield "\n"
