"""Evictions: deletes of pods that their disruption budgets allow.

Source: kubernetes `pkg/registry/core/pod/storage/eviction.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from gpuyard import errors
from gpuyard.kube.objects import DISRUPTION_BUDGETS, Manifest, ObjectKey, key_of, labels_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.selectors import selects
from gpuyard.local.objects.admission import WriteOptions
from gpuyard.local.objects.deletion import DeleteOptions
from gpuyard.local.objects.kinds.eviction_rules import may_go_at_any_time, not_yet_known, with_disruption
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.kinds.registry import Kinds
from gpuyard.local.objects.metadata import check_preconditions
from gpuyard.local.objects.writes import Writer, WrittenObject
from gpuyard.local.store import Store

_ATTEMPTS = 20


@dataclass(frozen=True)
class _Leave:
    """Leave to evict a pod.

    Attributes:
        version: that the pod must still have, since only as it is it may go without asking; else empty.
        budget: the name of the budget that counts it.
    """

    version: str = ""
    budget: str = ""


class Evictions:
    """Evicts pods. A budget's status is changed by one eviction at a time, on its committed state, so that
    together they never take more than it allows."""

    def __init__(self, store: Store, kinds: Kinds, writer: Writer, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._kinds = kinds
        self._writer = writer
        self._clock = clock

    async def evict(
        self, spec: KindSpec, key: ObjectKey, mark: Callable[[Manifest], Manifest], deletion: DeleteOptions
    ) -> WrittenObject:
        """Deletes a pod, after `mark` has said on it that it is evicted.

        Raises:
            NotFound, Conflict: there is no such pod, or `mark` says that it isn't the one that is meant.
            TooManyRequests, Forbidden: its budget doesn't allow it.
            InternalError: it has several budgets.
        """
        options = WriteOptions(dry_run=deletion.dry_run)
        leave = _Leave()
        for _ in range(_ATTEMPTS):
            pod: Manifest = orjson.loads(self._writer.stored(spec, key).value)
            # Before a budget is asked: whether it is the pod that is meant.
            mark(pod)
            leave = await self._leave(pod, options)

            def marked(old: Manifest, version: str = leave.version) -> Manifest:
                check_preconditions(spec, old, None, version or None)
                return mark(old)

            try:
                await self._writer.change(spec, key, marked, options=options, checked=False)
            except errors.Conflict:
                if leave.version:
                    # It may have become ready meanwhile.
                    continue
                raise
            # The version was checked, and isn't that any more.
            return await self._writer.delete(spec, key, replace(deletion, resource_version=""))
        raise not_yet_known(leave.budget or key.name)

    async def _leave(self, pod: Manifest, options: WriteOptions) -> _Leave:
        """Takes one disruption from the budget of the pod, where it has one and disrupts something."""
        if is_terminal(pod) or pod["metadata"].get("deletionTimestamp"):
            return _Leave()
        version = str(pod["metadata"]["resourceVersion"])
        if (pod.get("status") or {}).get("phase") == "Pending":
            return _Leave(version)
        budgets = self._budgets_of(pod)
        if not budgets:
            return _Leave()
        if len(budgets) > 1:
            raise errors.InternalError(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not "
                "support."
            )
        [budget] = budgets
        if may_go_at_any_time(budget, pod):
            return _Leave(version, str(budget["metadata"]["name"]))
        await self._writer.change(
            self._kinds.of(DISRUPTION_BUDGETS),
            key_of(budget),
            lambda current: with_disruption(current, key_of(pod).name, self._clock()),
            options=options,
            checked=False,
        )
        return _Leave()

    def _budgets_of(self, pod: Manifest) -> list[Manifest]:
        stored, _ = self._store.list(DISRUPTION_BUDGETS.qualified, key_of(pod).namespace)
        budgets = [orjson.loads(one.value) for one in stored]
        return [one for one in budgets if selects((one.get("spec") or {}).get("selector"), labels_of(pod))]
