"""How many pods each ReplicaSet of a Deployment is to have next (pure).

Two promises hold at every step, whatever the pods do meanwhile: all ReplicaSets together never ask for more
than the wanted pods and the surge, and no step takes away an available pod while there are no more than
`ReplicaBounds.fewest`.

Sources: kubernetes `pkg/controller/deployment/rolling.go`, `sync.go` (scale) and
`util/deployment_util.go` (ResolveFenceposts, GetReplicaSetProportion).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReplicaBounds:
    """What a Deployment allows, in pods.

    Attributes:
        wanted: as its spec says.
        surge: so many more while it is updated.
        unavailable: so many fewer while it is updated.
    """

    wanted: int
    surge: int = 0
    unavailable: int = 0

    @property
    def most(self) -> int:
        """All pods together; none where none are wanted."""
        return self.wanted + self.surge if self.wanted else 0

    @property
    def fewest(self) -> int:
        """Available pods."""
        return self.wanted - self.unavailable


@dataclass(frozen=True)
class Sized:
    """One ReplicaSet.

    Attributes:
        size: pods that it asks for.
        available: as its status has it, which may be late.
        created_at: its creationTimestamp.
        desired: pods that the Deployment wanted when it was last scaled; None where it doesn't say.
        most: pods that the Deployment allowed then; None where it doesn't say.
    """

    name: str
    size: int
    available: int = 0
    created_at: str = ""
    desired: int | None = None
    most: int | None = None


def bounds_of(spec: Mapping[str, Any]) -> ReplicaBounds:
    """Of a Deployment's spec: percentages of the pods, the surge rounded up and what may be missing down."""
    wanted, strategy = spec.get("replicas", 1), spec.get("strategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return ReplicaBounds(wanted)
    rolling = strategy.get("rollingUpdate") or {}
    surge = _resolved(rolling.get("maxSurge", "25%"), wanted, up=True)
    unavailable = _resolved(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    if surge == 0 and unavailable == 0:
        # Of few pods a percentage may be none at all, and then nothing would ever move.
        unavailable = 1
    return ReplicaBounds(wanted, surge, min(unavailable, wanted))


def _resolved(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    share = int(value.rstrip("%")) * total
    return -(-share // 100) if up else share // 100


def new_size(bounds: ReplicaBounds, new: Sized, old: Iterable[Sized]) -> int:
    """Of the newest ReplicaSet: as much as there is room for beside the old ones."""
    if new.size >= bounds.wanted:
        return bounds.wanted
    room = bounds.wanted + bounds.surge - new.size - sum(one.size for one in old)
    return new.size + max(0, min(room, bounds.wanted - new.size))


def old_sizes(bounds: ReplicaBounds, new: Sized, old: Sequence[Sized]) -> dict[str, int]:
    """Of the old ReplicaSets that shrink: first by what isn't available, then as far as the rest allows.

    Whatever the new one still lacks counts as missing already, so that a template which never becomes ready
    doesn't eat up the old pods.
    """
    sizes = {one.name: one.size for one in sorted(old, key=_age) if one.size}
    total = new.size + sum(sizes.values())
    budget = total - bounds.fewest - (new.size - new.available)
    if not sizes or budget <= 0:
        return {}
    available = {one.name: min(one.available, one.size) for one in old}
    before = dict(sizes)
    for name, size in sizes.items():
        sick = min(budget, size - available[name])
        sizes[name], budget = size - sick, budget - sick
    spare = new.available + sum(one.available for one in old) - bounds.fewest
    for name, size in sizes.items():
        gone = max(0, min(size, spare))
        sizes[name], spare = size - gone, spare - gone
    return {name: size for name, size in sizes.items() if size != before[name]}


def sizes_after_scaling(
    bounds: ReplicaBounds, new: Sized | None, old: Sequence[Sized], pods: int
) -> dict[str, int]:
    """Of the ReplicaSets, where the Deployment was scaled: in the middle of an update each gets its share.

    Args:
        bounds: as they are now.
        new: the newest, once it is there.
        old: the others.
        pods: how many the Deployment had, for ReplicaSets that don't say what was allowed.
    """
    everything = [*old, *([new] if new else [])]
    active = [one for one in everything if one.size]
    if len(active) <= 1:
        only = active or ([new] if new else sorted(old, key=_age)[-1:])
        return {one.name: bounds.wanted for one in only}
    if new is not None and new.desired == new.size == new.available == bounds.wanted:
        return {**{one.name: 0 for one in active}, new.name: new.size}
    return _shares(bounds, active, pods)


def _shares(bounds: ReplicaBounds, active: Sequence[Sized], pods: int) -> dict[str, int]:
    change = bounds.most - sum(one.size for one in active)
    # The largest first; of equals the newer one grows and the older one shrinks.
    ordered = sorted(active, key=_age, reverse=change > 0)
    ordered.sort(key=lambda one: one.size, reverse=True)
    sizes, left = {}, change
    for one in ordered:
        share = _share(bounds, one, pods)
        step = min(share, left) if change > 0 else max(share, left) if change < 0 else 0
        sizes[one.name], left = one.size + step, left - step
    # What rounding has left over is the largest one's; of what it can't lose, the next ones'.
    for name, size in sizes.items():
        sizes[name] = max(0, size + left)
        left -= sizes[name] - size
    return sizes


def _share(bounds: ReplicaBounds, one: Sized, pods: int) -> int:
    """How far one ReplicaSet would grow or shrink in proportion."""
    if bounds.wanted == 0:
        return -one.size
    before = one.most or pods
    if before == 0:
        return 0
    exact = one.size * (bounds.wanted + bounds.surge) / before
    return math.floor(exact + 0.5) - one.size


def _age(one: Sized) -> tuple[str, str]:
    return one.created_at, one.name
