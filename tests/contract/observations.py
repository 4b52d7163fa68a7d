"""What cases note down of answers: plain JSON, without what differs from one run to the next."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_PASSING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
)


def pick(raw: Any, *paths: str) -> Any:
    """The value at a dotted path; of several, an object from path to value. Absent is None."""
    if len(paths) > 1:
        return {path: pick(raw, path) for path in paths}
    for part in paths[0].split("."):
        if isinstance(raw, Sequence) and part.isdigit() and int(part) < len(raw):
            raw = raw[int(part)]
        elif isinstance(raw, Mapping):
            raw = raw.get(part)
        else:
            return None
    return raw


def without(raw: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    """All but some fields."""
    return {name: value for name, value in raw.items() if name not in fields}


def said(answer: Any) -> Any:
    """An answer in short: its code, and of a refusal the reason, the message, its object and the causes."""
    if not isinstance(answer.body, Mapping):
        return {"code": answer.code, "text": answer.body}
    if answer.body.get("kind") != "Status":
        return {"code": answer.code, "kind": answer.body.get("kind")}
    return {"code": answer.code, **status(answer.body)}


def status(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a Status says."""
    details = raw.get("details") or {}
    found = pick(raw, "status", "reason", "message")
    found["about"] = without(details, "causes", "uid")
    causes = [f"{cause.get('reason')} {cause.get('field')}" for cause in details.get("causes") or ()]
    # A cluster names a cause twice where an old and a new way to validate overlap.
    found["causes"] = list(dict.fromkeys(causes))
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def names(items: Sequence[Any]) -> list[str]:
    """Names of objects, in their order."""
    return [item["metadata"]["name"] for item in items]


def conditions(raw: Any) -> list[Any]:
    """Type, status, reason and message of each condition."""
    found = raw.get("status", {}).get("conditions") or []
    return [[c["type"], c["status"], c.get("reason"), c.get("message")] for c in found]


def seen(events: Sequence[Any]) -> list[Any]:
    """Type and name of each watch event; of an error what it says."""
    return [
        [event["type"], status(event["object"])]
        if event["type"] == "ERROR"
        else [event["type"], pick(event["object"], "metadata.name")]
        for event in events
    ]


def settled(observation: Any, namespace: str, image: str) -> Any:
    """The observation with the names of this run replaced by constant ones."""
    text = json.dumps(observation, sort_keys=True).replace(namespace, "NAMESPACE")
    if image:
        text = text.replace(image, "IMAGE")
    text = text.replace("gpuyard.io/host-process", "IMAGE")
    for pattern, constant in _PASSING:
        text = pattern.sub(constant, text)
    return json.loads(text)
