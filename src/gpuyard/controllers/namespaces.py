"""The namespace controller: empties namespaces that are being deleted, gives the others what all have."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi, Propagation
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import ObjectReference
from gpuyard.client.workqueue import WorkQueue
from gpuyard.kube.conditions import with_condition
from gpuyard.kube.objects import (
    NAMESPACES,
    SERVICE_ACCOUNTS,
    Manifest,
    ObjectKey,
    Resource,
    key_of,
    uid_of,
    with_kind,
)
from gpuyard.kube.timestamps import format_time

_FINALIZER = "kubernetes"
_DEFAULT_ACCOUNT = "default"
#: How soon to look again at a namespace whose objects are still ending.
_RECHECK_S = 0.5


class NamespaceController:
    """Deletes every object of a terminating namespace, then lets the namespace go.

    Keeps the ServiceAccount `default` in every other one.

    Args:
        resources: all namespaced resources that the API serves.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        namespaces: Informer,
        service_accounts: Informer,
        resources: Sequence[Resource],
    ) -> None:
        self._api = api
        self._clock = clock
        self._namespaces = namespaces
        self._service_accounts = service_accounts
        self._resources = [resource for resource in resources if resource.namespaced]
        self._queue: WorkQueue[str] = WorkQueue(
            "namespace", self._sync, namespaces.supervisor, self._reference
        )
        namespaces.add_handler(self._on_namespace)
        service_accounts.add_handler(self._on_account)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._namespaces.synced()
        await self._service_accounts.synced()
        await self._queue.run()

    def _reference(self, name: str) -> ObjectReference:
        return self._namespaces.reference(ObjectKey("", name))

    def _on_namespace(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self._queue.add(new["metadata"]["name"])

    def _on_account(self, old: Manifest | None, new: Manifest | None) -> None:
        if old is not None and new is None and old["metadata"]["name"] == _DEFAULT_ACCOUNT:
            self._queue.add(old["metadata"]["namespace"])

    async def _sync(self, name: str) -> float | None:
        namespace = self._namespaces.objects.get(ObjectKey("", name))
        if namespace is None:
            return None
        if not namespace["metadata"].get("deletionTimestamp"):
            await self._ensure_account(name)
            return None
        if _FINALIZER not in (namespace["spec"].get("finalizers") or ()):
            return None
        remaining, finalizers = await self._delete_content(name)
        if remaining:
            await self._report(namespace, remaining, finalizers)
            return _RECHECK_S
        await self._finalize(namespace)
        return None

    async def _ensure_account(self, name: str) -> None:
        if ObjectKey(name, _DEFAULT_ACCOUNT) in self._service_accounts.objects:
            return
        account = {
            "apiVersion": SERVICE_ACCOUNTS.api_version,
            "kind": SERVICE_ACCOUNTS.kind,
            "metadata": {"name": _DEFAULT_ACCOUNT, "namespace": name},
        }
        with contextlib.suppress(errors.AlreadyExists):
            await self._api.create(SERVICE_ACCOUNTS, account)

    async def _delete_content(self, name: str) -> tuple[list[str], Counter[str]]:
        """Asks every object to go; says what is still there, and how many objects each finalizer holds."""
        remaining = []
        finalizers: Counter[str] = Counter()
        for resource in self._resources:
            for item in (await self._api.list(resource, name)).items:
                if not item["metadata"].get("deletionTimestamp"):
                    key = key_of(item)
                    with contextlib.suppress(errors.NotFound, errors.Conflict):
                        await self._api.delete(
                            resource,
                            key.name,
                            key.namespace,
                            propagation=Propagation.BACKGROUND,
                            uid=uid_of(item),
                        )
            left = (await self._api.list(resource, name)).items
            if left:
                remaining.append(f"{resource.plural}.{resource.group} has {len(left)} resource instances")
                finalizers.update(held for item in left for held in item["metadata"].get("finalizers") or ())
        return remaining, finalizers

    async def _report(
        self, namespace: Manifest, remaining: Sequence[str], finalizers: Mapping[str, int]
    ) -> None:
        """Says what holds the namespace in the conditions that kubectl users look for."""
        status = namespace.get("status") or {}
        conditions: list[dict[str, Any]] = list(status.get("conditions") or ())
        now = format_time(self._clock())
        for type_, value, reason, message in _conditions(remaining, finalizers):
            conditions = with_condition(conditions, type_, value, now=now, reason=reason, message=message)
        if conditions == status.get("conditions"):
            return
        changed = {**with_kind(NAMESPACES, namespace), "status": {**status, "conditions": conditions}}
        with contextlib.suppress(errors.NotFound):
            await self._api.update(NAMESPACES, changed, subresource="status")

    async def _finalize(self, namespace: Manifest) -> None:
        spec = namespace["spec"]
        kept = [name for name in spec["finalizers"] if name != _FINALIZER]
        changed = {**with_kind(NAMESPACES, namespace), "spec": {**spec, "finalizers": kept}}
        with contextlib.suppress(errors.NotFound):
            await self._api.update(NAMESPACES, changed, subresource="finalize")


def _conditions(remaining: Sequence[str], finalizers: Mapping[str, int]) -> list[tuple[str, str, str, str]]:
    """Type, status, reason and message of each condition of a namespace that is being emptied."""
    held = [f"{name} in {count} resource instances" for name, count in sorted(finalizers.items())]
    found = [
        (f"NamespaceDeletion{what}", "False", reason, message)
        for what, reason, message in (
            ("DiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
            (
                "GroupVersionParsingFailure",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            (
                "ContentFailure",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        )
    ]
    what = "Some resources are remaining: " + ", ".join(remaining)
    found.append(("NamespaceContentRemaining", "True", "SomeResourcesRemain", what))
    if held:
        what = "Some content in the namespace has finalizers remaining: " + ", ".join(held)
        found.append(("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", what))
    else:
        what = "All content-preserving finalizers finished"
        found.append(("NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", what))
    return found
