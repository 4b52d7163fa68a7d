"""Which of a ReplicaSet's pods go first when there are too many (pure).

Source: kubernetes `pkg/controller/controller_utils.go` (ActivePodsWithRanks).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import cmp_to_key

from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.timestamps import parse_time

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def to_delete(
    pods: Sequence[PodView], count: int, related: Sequence[PodView], now: datetime
) -> list[PodView]:
    """So many of the active pods, those first that are missed least.

    Without a node before with one, pending before running, unready before ready, cheap before dear, one of
    many on its node before one of few, then the youngest: ages of one order of magnitude count as equal, so
    that it isn't always the same one's turn.

    Args:
        pods: of which some go.
        count: how many.
        related: active pods of all ReplicaSets of the same Deployment, for who is crowded.
        now: ages are measured from here.
    """
    crowd = Counter(pod.node for pod in related if pod.node)

    def compare(left: PodView, right: PodView) -> int:
        first, second = _rank(left, crowd), _rank(right, crowd)
        if first != second:
            return -1 if first < second else 1
        return _compare_ages(left, right, now)

    return sorted(pods, key=cmp_to_key(compare))[:count]


def ready_since(pod: PodView) -> datetime | None:
    """When it became ready; None while it isn't."""
    condition = find_condition({"status": pod.status}, "Ready")
    if condition is None or condition.get("status") != "True":
        return None
    return _moment(str(condition.get("lastTransitionTime", "")))


def _rank(pod: PodView, crowd: Counter[str]) -> tuple[bool, int, bool, int, int]:
    return pod.scheduled, _PHASES.get(pod.phase, 1), pod.ready, pod.deletion_cost, -crowd[pod.node]


def _compare_ages(left: PodView, right: PodView, now: datetime) -> int:
    if left.ready and right.ready and (order := _younger(ready_since(left), ready_since(right), now)):
        return order if abs(order) == 1 else _sign(left.uid, right.uid)
    if left.restarts != right.restarts:
        return right.restarts - left.restarts
    order = _younger(_moment(left.created_at), _moment(right.created_at), now)
    return order if abs(order) == 1 else _sign(left.uid, right.uid)


def _younger(left: datetime | None, right: datetime | None, now: datetime) -> int:
    """-1 where the left is of a younger order of magnitude, 1 of an older, 0 of the same moment; else 2."""
    if left == right:
        return 0
    difference = _magnitude(left, now) - _magnitude(right, now)
    return 2 if difference == 0 else (-1 if difference < 0 else 1)


def _magnitude(moment: datetime | None, now: datetime) -> int:
    age_s = (now - moment).total_seconds() if moment is not None else 0.0
    return int(math.log2(age_s * 1e9)) if age_s > 0 else -1


def _sign(left: str, right: str) -> int:
    return (left > right) - (left < right)


def _moment(text: str) -> datetime | None:
    try:
        return parse_time(text)
    except ValueError:
        return None
