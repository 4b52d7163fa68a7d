"""Listing objects as far as the user may."""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard import errors
from gpuyard.kube.objects import NODES, Manifest, Resource
from gpuyard.runs.target import Target


class Reader:
    """Lists objects; what the user may not list, or the server doesn't serve, is an empty list.

    Attributes:
        unreadable: plurals of what was refused, with `all ` where it was asked for everywhere.
        unserved: what the server doesn't know.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.unreadable: set[str] = set()
        self.unserved: set[Resource] = set()

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        wanted: bool = True,
    ) -> Sequence[Manifest]:
        """Every object; nothing unless wanted."""
        if not wanted:
            return ()
        try:
            found = await self._target.api.list(
                resource, namespace, label_selector=label_selector, field_selector=field_selector
            )
            return found.items
        except errors.Forbidden:
            self.unreadable.add(resource.plural if namespace else f"all {resource.plural}")
        except errors.NotFound:
            self.unserved.add(resource)  # a yard doesn't serve all of them
        return ()

    async def node_of(self, pod: Manifest | None) -> Manifest | None:
        """The node that a pod is on, if it is, and if the user may read it."""
        name = pod["spec"].get("nodeName") if pod else None
        found = await self.list(NODES, field_selector=f"metadata.name={name}", wanted=bool(name))
        return found[0] if found else None
