"""Events (core v1).

Sources: kubernetes `pkg/apis/core/validation/events.go`, printEvent in `pkg/printers/internalversion`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gpuyard.kube.objects import EVENTS, Manifest
from gpuyard.local.objects.kinds.cells import NAME, since
from gpuyard.local.objects.kinds.fields import invalid
from gpuyard.local.objects.kinds.kind import Column, FieldError, KindSpec


def _default(event: Manifest) -> None:
    event.setdefault("source", {})
    for field in ("reportingComponent", "reportingInstance"):
        event.setdefault(field, "")
    for field in ("firstTimestamp", "lastTimestamp", "eventTime"):
        event.setdefault(field, None)


def _validate(event: Manifest, _old: Manifest | None) -> list[FieldError]:
    involved = event.get("involvedObject") or {}
    namespace = event["metadata"].get("namespace", "")
    # Objects of the cluster have their events in the namespace default.
    if (involved.get("namespace") or "default") != namespace and namespace:
        detail = "does not match event.namespace"
        return [invalid("involvedObject.namespace", involved.get("namespace", ""), detail)]
    return []


def _first_seen(event: Manifest, now: datetime) -> str:
    return since(event.get("firstTimestamp") or event.get("eventTime"), now)


def _last_seen(event: Manifest, now: datetime) -> str:
    if series := event.get("series"):
        return since(series.get("lastObservedTime"), now)
    return since(event["lastTimestamp"], now) if event.get("lastTimestamp") else _first_seen(event, now)


def _count(event: Manifest, _now: datetime) -> int:
    series: dict[str, Any] = event.get("series") or {}
    return int(series.get("count") or event.get("count") or 1)


def _object(event: Manifest, _now: datetime) -> str:
    involved = event.get("involvedObject") or {}
    kind = str(involved.get("kind", "")).lower()
    return f"{kind}/{involved['name']}" if involved.get("name") else kind


def _source(event: Manifest, _now: datetime) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else component


EVENT = KindSpec(
    resource=EVENTS,
    short_names=("ev",),
    default=_default,
    validate=_validate,
    columns=(
        Column("Last Seen", _last_seen),
        Column("Type", lambda e, _now: e.get("type", "")),
        Column("Reason", lambda e, _now: e.get("reason", "")),
        Column("Object", _object),
        Column("Subobject", lambda e, _now: (e.get("involvedObject") or {}).get("fieldPath", ""), priority=1),
        Column("Source", _source, priority=1),
        Column("Message", lambda e, _now: e.get("message", "").strip()),
        Column("First Seen", _first_seen, priority=1),
        Column("Count", _count, priority=1),
        Column(NAME.name, NAME.cell, format="name", priority=1),
    ),
    selectable_fields=frozenset(
        (
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        )
    ),
)
