"""Status conditions: a list of {type, status, reason, message, lastTransitionTime}, one per type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_PREEMPTION = r"(?s),?\s*(?:no new claims to deallocate,|(?:pod group )?preemption: ).*"


def find_condition(manifest: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    """The condition of this type in `status.conditions`, if any."""
    for condition in (manifest.get("status") or {}).get("conditions") or ():
        if condition.get("type") == type_:
            found: Mapping[str, Any] = condition
            return found
    return None


def condition_is_true(manifest: Mapping[str, Any], type_: str) -> bool:
    """Whether the condition is there with status "True"."""
    condition = find_condition(manifest, type_)
    return condition is not None and condition.get("status") == "True"


def with_condition(
    conditions: Sequence[Mapping[str, Any]],
    type_: str,
    status: str,
    *,
    now: str,
    reason: str = "",
    message: str = "",
) -> list[dict[str, Any]]:
    """A new list with this condition set; `lastTransitionTime` moves only when `status` changes."""
    new: dict[str, Any] = {"type": type_, "status": status, "lastTransitionTime": now}
    if reason:
        new["reason"] = reason
    if message:
        new["message"] = message
    result: list[dict[str, Any]] = []
    replaced = False
    for old in conditions:
        if old.get("type") != type_:
            result.append(dict(old))
            continue
        if old.get("status") == status:
            new["lastTransitionTime"] = old.get("lastTransitionTime", now)
        result.append({**{k: v for k, v in old.items() if k not in ("reason", "message")}, **new})
        replaced = True
    if not replaced:
        result.append(new)
    return result


def without_preemption(message: str) -> str:
    """kube-scheduler's message without its account of claims and of what preemption could do."""
    return re.sub(_PREEMPTION, "", message)
