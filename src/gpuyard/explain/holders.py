"""Who holds what on a node, by the names that people know them by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

from gpuyard.scheduling.amounts import by_importance, in_words, quantity
from gpuyard.scheduling.requests import PodRequest

_MOST_COMBINATIONS = 5_000


@dataclass(frozen=True)
class Holder:
    """A run, or what else made pods, and what they hold on one node or of one quota.

    Attributes:
        kind: `run`, `deployment`, `job`, …; `pod` for one that nothing made.
        is_near: of the namespace of whoever asks, so that its name alone says which.
        amounts: cpu in millicores, all others in whole base units.
        since: start of its oldest pod there, RFC 3339.
        ending: all its pods there are being deleted already.
    """

    namespace: str
    kind: str
    name: str
    amounts: Mapping[str, int]
    pods: int
    priority: int
    since: str
    ending: bool
    is_near: bool = False

    @property
    def title(self) -> str:
        """`run train-a`, `deployment default/web`."""
        return _title(self.namespace, self.kind, self.name, self.is_near)

    def owns(self, pod: PodRequest) -> bool:
        """Whether this pod, on whatever node, is one of the holder's."""
        return (pod.key.namespace, *pod.holder) == (self.namespace, self.kind, self.name)

    def describe(self, resources: Collection[str]) -> str:
        """`run train-a (4 GPUs, since 2026-01-31 12:00 UTC)`, with the amounts of these resources."""
        parts = [self.amounts_text(resources)]
        if self.since:
            parts.append("since " + self.since.replace("T", " ").removesuffix("Z")[:16] + " UTC")
        if self.ending:
            parts.append("ending")
        return f"{self.title} ({', '.join(filter(None, parts))})"

    def amounts_text(self, resources: Collection[str]) -> str:
        """`4 GPUs, 2 CPUs`: how much of these resources it holds."""
        held = sorted((r for r in resources if self.amounts.get(r)), key=by_importance)
        return ", ".join(in_words(r, self.amounts[r]) for r in held)

    def to_json(self) -> dict[str, Any]:
        """The same with amounts as Kubernetes quantities."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "kind": self.kind,
            "holds": {r: quantity(r, self.amounts[r]) for r in sorted(self.amounts, key=by_importance)},
            "pods": self.pods,
            "priority": self.priority,
            "since": self.since,
            "ending": self.ending,
        }


def title_of(pod: PodRequest, home: str) -> str:
    """What people would stop to end this pod, as one of namespace `home` calls it."""
    return _title(pod.key.namespace, *pod.holder, pod.key.namespace == home)


def _title(namespace: str, kind: str, name: str, is_near: bool) -> str:
    return f"{kind} {name}" if kind in ("run", "service") and is_near else f"{kind} {namespace}/{name}"


def holders_of(pods: Iterable[PodRequest], resources: Collection[str], home: str) -> tuple[Holder, ...]:
    """Who holds any of these resources, the largest part of the first one first.

    Args:
        pods: of one node, or of one namespace.
        resources: that are asked about.
        home: namespace of whoever asks.
    """
    groups: dict[tuple[str, str, str], list[PodRequest]] = {}
    for pod in pods:
        groups.setdefault((pod.key.namespace, *pod.holder), []).append(pod)
    holders = (_holder(*key, pods, home) for key, pods in groups.items())
    first = sorted(resources, key=by_importance)
    return tuple(
        sorted(
            (h for h in holders if any(h.amounts.get(r) for r in resources)),
            key=lambda h: ([-h.amounts.get(r, 0) for r in first], h.namespace, h.name),
        )
    )


def _holder(namespace: str, kind: str, name: str, pods: list[PodRequest], home: str) -> Holder:
    amounts: dict[str, int] = {}
    for pod in pods:
        for resource, count in pod.resources.items():
            amounts[resource] = amounts.get(resource, 0) + count
    return Holder(
        namespace=namespace,
        name=name,
        kind=kind,
        amounts=amounts,
        pods=len(pods),
        priority=max(pod.priority for pod in pods),
        since=min((pod.since for pod in pods if pod.since), default=""),
        ending=all(pod.ending for pod in pods),
        is_near=namespace == home,
    )


def smallest_release(
    pods: Iterable[PodRequest], missing: Mapping[str, int], home: str
) -> tuple[Holder, ...] | None:
    """Whose end would free what is missing; None when all together don't hold enough.

    Those of low priority before those of a higher one, then the fewest, then the youngest; those that
    are ending anyway before all others.
    """
    holders = holders_of(pods, missing.keys(), home)
    levels = sorted({h.priority for h in holders if not h.ending})
    candidates = [h for h in holders if h.ending]
    if _frees(candidates, missing):
        return _fewest(candidates, missing)
    for level in levels:
        candidates += [h for h in holders if not h.ending and h.priority == level]
        if _frees(candidates, missing):
            return _fewest(candidates, missing)
    return None


def _frees(holders: Collection[Holder], missing: Mapping[str, int]) -> bool:
    return all(sum(h.amounts.get(r, 0) for h in holders) >= count for r, count in missing.items())


def _fewest(candidates: list[Holder], missing: Mapping[str, int]) -> tuple[Holder, ...]:
    for size in range(1, len(candidates)):
        if comb(len(candidates), size) > _MOST_COMBINATIONS:
            return _greedily(candidates, missing)
        if found := [group for group in combinations(candidates, size) if _frees(group, missing)]:
            return max(found, key=_cheapness)
    return tuple(candidates)


def _cheapness(group: tuple[Holder, ...]) -> tuple[int, str, list[str]]:
    stopped = [h for h in group if not h.ending]
    return -len(stopped), min((h.since for h in stopped), default=""), [h.name for h in group]


def _greedily(candidates: list[Holder], missing: Mapping[str, int]) -> tuple[Holder, ...]:
    """Not always the fewest, but none of them is superfluous; for nodes with very many pods."""

    def share(holder: Holder) -> float:
        return sum(min(holder.amounts.get(r, 0) / count, 1.0) for r, count in missing.items())

    kept = sorted(candidates, key=lambda h: (share(h), h.name))
    for holder in tuple(kept):
        rest = [h for h in kept if h is not holder]
        if _frees(rest, missing):
            kept = rest
    return tuple(kept)
