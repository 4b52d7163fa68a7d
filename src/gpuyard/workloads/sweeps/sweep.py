"""A run of many tasks: the same command with other values (pure).

One Indexed Job has them all. Their values travel once, in a ConfigMap that each pod has as one variable: what
a launcher reads there, launcher_sweep.py says. A task's number is the pod's completion index.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import ANNOTATION_SWEEP, ENV_SWEEP, LABEL_RUN
from gpuyard.workloads.sweeps.completion_indexes import format_indexes, parse_indexes

if TYPE_CHECKING:
    from gpuyard.workloads.sweeps.values import Sweep

#: That run at a time where nobody says how many.
DEFAULT_AT_ONCE = 100

_KEY = "tasks"
_DIGITS = 10
_MAX_SHOWN = 60
_PLACEHOLDER = r"\{\{[A-Za-z_]\w*\}\}|\{([A-Za-z_]\w*)\}"


@dataclass(frozen=True)
class Tasks:
    """What has become of the tasks, which are numbered from 0.

    Attributes:
        failed: those that aren't tried again.
    """

    total: int
    succeeded: frozenset[int]
    failed: frozenset[int]

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Tasks:
        """Of a sweep's Job."""
        status, total = job.get("status") or {}, int(job["spec"].get("completions") or 1)
        return cls(
            total,
            parse_indexes(status.get("completedIndexes") or "", total),
            parse_indexes(status.get("failedIndexes") or "", total),
        )

    @property
    def text(self) -> str:
        """`4 of 6 done`, and how many of these failed."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{len(self.succeeded) + len(self.failed)} of {self.total} done{failed}"

    @property
    def failed_text(self) -> str:
        """`2 of 6 tasks failed (1,4): `; empty where none did."""
        if not self.failed:
            return ""
        which = f" ({format_indexes(self.failed)})" if len(self.failed) > 1 else ""
        return f"{len(self.failed)} of {self.total} tasks failed{which}: "

    def to_json(self) -> dict[str, Any]:
        """Counts, and the numbers of those that failed."""
        return {"total": self.total, "succeeded": len(self.succeeded), "failed": sorted(self.failed)}


def of_config_map(config_map: Manifest) -> Sweep | None:
    """The sweep that it holds; None for anything else, since anybody may write one."""
    from gpuyard.workloads.sweeps.values import Sweep, ValueTable  # Few runs have one.

    try:
        raw = json.loads(config_map["data"][_KEY])
        tables = [
            ValueTable(tuple(t["names"]), tuple(tuple(map(str, row)) for row in t["rows"])) for t in raw
        ]
    except (KeyError, TypeError, ValueError):
        return None
    sound = all(t.rows and all(len(row) == len(t.names) for row in t.rows) for t in tables)
    return Sweep(tuple(tables)) if tables and sound else None


@dataclass(frozen=True)
class SweepObjects:
    """What the objects of a run have for its tasks."""

    name: str
    namespace: str
    sweep: Sweep

    @cached_property
    def config_map(self) -> Manifest:
        """What the pods read their values from."""
        text = self.sweep.as_json
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        metadata = {
            "name": f"{self.name}-sweep-{digest}",
            "namespace": self.namespace,
            "labels": {LABEL_RUN: self.name},
        }
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "immutable": True,
            "data": {_KEY: text},
        }

    @property
    def environment(self) -> list[dict[str, Any]]:
        """The variable that holds the tables."""
        source = {"name": self.config_map["metadata"]["name"], "key": _KEY}
        return [{"name": ENV_SWEEP, "valueFrom": {"configMapKeyRef": source}}]

    @property
    def annotations(self) -> dict[str, str]:
        """Of the Job: where the values of its tasks are."""
        return {ANNOTATION_SWEEP: self.config_map["metadata"]["name"]}

    def job_fields(self, at_once: int | None) -> dict[str, Any]:
        """Those that make the tasks, so many at a time; None is for a bound of ours."""
        size = self.sweep.size
        parallelism = min(size, at_once or DEFAULT_AT_ONCE)
        return {"completions": size, "parallelism": parallelism, "completionMode": "Indexed"}


def placeholders(words: Sequence[str]) -> Iterator[str]:
    """The names that stand in braces in a command; not those in two pairs of them."""
    for word in words:
        for match in re.finditer(_PLACEHOLDER, word):
            if match[1]:
                yield match[1]


def values_text(values: Mapping[str, str]) -> str:
    """`lr=1e-3 seed=1`, on one line; what is long is cut."""
    return " ".join(f"{name}={_shown(value)}" for name, value in values.items())


def _shown(value: str) -> str:
    if len(value) > _MAX_SHOWN:
        value = value[: _MAX_SHOWN - 1] + "…"
    is_plain = re.fullmatch(r"[^\s\"'=]+", value) and value.isprintable()
    return value if is_plain else json.dumps(value, ensure_ascii=False)
