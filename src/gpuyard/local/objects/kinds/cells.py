"""Cells of tables that many kinds share.

Sources: kubernetes `pkg/printers/internalversion/printers.go`, apimachinery `pkg/util/duration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import parse_time
from gpuyard.local.objects.kinds.kind import Column

NONE = "<none>"
UNKNOWN = "<unknown>"


def human_duration(seconds: float) -> str:
    """As short as kubectl's: 119s, 2m5s, 3h20m, 5d."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    return _pair(days // 365, "y", days % 365, "d") if days < 365 * 8 else f"{days // 365}y"


def since(text: str | None, now: datetime) -> str:
    """The time since then, `<unknown>` when there is none."""
    if not text:
        return UNKNOWN
    return human_duration((now - parse_time(text)).total_seconds())


def age(manifest: Manifest, now: datetime) -> str:
    """The time since the object was created."""
    return since(manifest["metadata"].get("creationTimestamp"), now)


def joined(values: Sequence[Any]) -> str:
    """Texts with commas, `<none>` without any."""
    return ",".join(str(value) for value in values) or NONE


def containers(spec: Mapping[str, Any], field: str) -> str:
    """One field of every container."""
    return joined([container.get(field, "") for container in spec.get("containers") or ()])


def text(value: Any) -> str:
    """The value, `<none>` when it is empty."""
    return str(value) if value else NONE


def label_selector(selector: Mapping[str, Any]) -> str:
    """A `LabelSelector` as text, empty without a clause."""
    clauses = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression.get("key", ""), expression.get("operator", "")
        if operator in ("Exists", "DoesNotExist"):
            clauses.append((key, key if operator == "Exists" else f"!{key}"))
        else:
            values = ",".join(sorted(expression.get("values") or ()))
            clauses.append((key, f"{key} {operator.lower()} ({values})"))
    return ",".join(clause for _, clause in sorted(clauses, key=lambda pair: pair[0]))


def _template_spec(manifest: Manifest) -> Mapping[str, Any]:
    found: Mapping[str, Any] = ((manifest.get("spec") or {}).get("template") or {}).get("spec") or {}
    return found


NAME = Column(
    "Name", lambda m, _now: m["metadata"].get("name", ""), format="name", description="Name of the object."
)
AGE = Column("Age", age, description="Time since the object was created.")
#: Of whatever makes pods by a template and knows them by a selector.
TEMPLATE_COLUMNS = (
    Column("Containers", lambda m, _now: containers(_template_spec(m), "name"), priority=1),
    Column("Images", lambda m, _now: containers(_template_spec(m), "image"), priority=1),
    Column(
        "Selector",
        lambda m, _now: text(label_selector((m.get("spec") or {}).get("selector") or {})),
        priority=1,
    ),
)


def _pair(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"
