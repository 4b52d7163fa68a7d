"""The namespace controller: empties namespaces that are being deleted, gives the others what all have."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi, Propagation
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.kube.conditions import with_condition
from gpuyard.kube.objects import NAMESPACES, SERVICE_ACCOUNTS, Manifest, ObjectKey, Resource, key_of, uid_of
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
        self._queue: WorkQueue[str] = WorkQueue("namespace", self._sync)
        namespaces.add_handler(self._on_namespace)
        service_accounts.add_handler(self._on_account)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._namespaces.synced()
        await self._service_accounts.synced()
        await self._queue.run()

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
        remaining = await self._delete_content(name)
        if remaining:
            await self._report(namespace, remaining)
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

    async def _delete_content(self, name: str) -> list[str]:
        """Asks every object to go, and says what is still there: "pods. has 2 resource instances"."""
        remaining = []
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
            left = len((await self._api.list(resource, name)).items)
            if left:
                remaining.append(f"{resource.plural}.{resource.group} has {left} resource instances")
        return remaining

    async def _report(self, namespace: Manifest, remaining: Sequence[str]) -> None:
        """Says what holds the namespace in the condition that kubectl users look for."""
        status = namespace.get("status") or {}
        conditions: list[dict[str, Any]] = with_condition(
            status.get("conditions") or (),
            "NamespaceContentRemaining",
            "True",
            now=format_time(self._clock()),
            reason="SomeResourcesRemain",
            message="Some resources are remaining: " + ", ".join(remaining),
        )
        if conditions == status.get("conditions"):
            return
        changed = {**_as_namespace(namespace), "status": {**status, "conditions": conditions}}
        with contextlib.suppress(errors.NotFound):
            await self._api.update(NAMESPACES, changed, subresource="status")

    async def _finalize(self, namespace: Manifest) -> None:
        spec = namespace["spec"]
        kept = [name for name in spec["finalizers"] if name != _FINALIZER]
        changed = {**_as_namespace(namespace), "spec": {**spec, "finalizers": kept}}
        with contextlib.suppress(errors.NotFound):
            await self._api.update(NAMESPACES, changed, subresource="finalize")


def _as_namespace(manifest: Manifest) -> Manifest:
    """The namespace with its kind, which items of a list don't carry."""
    return {**manifest, "apiVersion": NAMESPACES.api_version, "kind": NAMESPACES.kind}
