"""The part of the Kubernetes API that the rest of gpuyard programs against.

`client.rest.RestApi` speaks it over HTTP to a yard or a cluster; the yard's own API server implements it
in process, so that its controllers, scheduler and kubelet are written as they would be for a cluster.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from gpuyard.kube.objects import Manifest, Resource


class PatchType(StrEnum):
    """How a patch body is read; the value is its media type."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


class Propagation(StrEnum):
    """What happens to dependents when their owner is deleted."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


@dataclass(frozen=True)
class ObjectList:
    """Objects of one resource, all as of one resourceVersion."""

    items: Sequence[Manifest]
    resource_version: str


@dataclass(frozen=True)
class WatchEvent:
    """One change. A DELETED event carries the object as it last was; a BOOKMARK only its resourceVersion."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Manifest


class KubeApi(Protocol):
    """Verbs on typed paths. Every method raises `errors.ApiError` for a refusal by the server.

    Objects returned belong to the caller. `namespace` is ignored for cluster-scoped resources and, for
    `create` and `update`, defaults to the manifest's own.
    """

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest:
        """Reads one object; NotFound when it isn't there."""
        ...

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList:
        """Reads every matching object; `namespace=None` means all namespaces."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `resource_version`, in order, until the server ends the stream.

        Raises:
            Gone: the version is older than the history kept; list again.
        """
        ...

    async def create(
        self, resource: Resource, manifest: Mapping[str, Any], namespace: str | None = None
    ) -> Manifest:
        """Creates it; AlreadyExists when the name is taken, Invalid (with field paths) for a broken rule."""
        ...

    async def update(
        self, resource: Resource, manifest: Mapping[str, Any], *, subresource: str = ""
    ) -> Manifest:
        """Replaces it; Conflict when `metadata.resourceVersion` is set and no longer current."""
        ...

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> Manifest:
        """Changes part of it, retrying on the server's side against concurrent writes."""
        ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_period_s: int | None = None,
        propagation: Propagation | None = None,
        uid: str | None = None,
    ) -> None:
        """Deletes it, or marks it for deletion when finalizers or a grace period hold it.

        Conflict when `uid` is given and is another object's.
        """
        ...

    async def bind(self, namespace: str, name: str, node: str, *, uid: str = "") -> None:
        """Binds a pending pod to a node (`pods/binding`); Conflict when it is bound already."""
        ...
