"""One look at one Deployment: its ReplicaSets as they are, and the writes that bring it forward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.controllers.deployment.revisions import (
    age_of,
    annotations_for,
    current_of,
    is_of,
    new_replica_set,
    size_annotations,
    to_forget,
)
from gpuyard.controllers.deployment.rolling import (
    Sized,
    bounds_of,
    new_size,
    old_sizes,
    sizes_after_scaling,
)
from gpuyard.controllers.deployment.status import (
    PROGRESSING,
    counted,
    has_deadline,
    is_complete,
    rolled_out,
    with_deployment_condition,
)
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import (
    DEPLOYMENTS,
    REPLICA_SETS,
    Manifest,
    annotations_of,
    controller_of,
    key_of,
    number_in,
    revision_of,
    uid_of,
    with_kind,
)
from gpuyard.kube.wellknown import (
    ANNOTATION_DESIRED_REPLICAS,
    ANNOTATION_MAX_REPLICAS,
    ANNOTATION_REVISION,
)


class Rollout:
    """Reads and writes of one look. Every write replaces the copy that was read, or is a Conflict.

    Args:
        api: where they are.
        clock: aware UTC now.
        events: of the controller.
        deployment: as the informer shows it.
        replica_sets: all that it controls.

    Attributes:
        deployment: as it is by now.
        new: the ReplicaSet of its template, None before there is one.
        old: the others, the oldest first.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        events: EventRecorder,
        deployment: Manifest,
        replica_sets: Sequence[Manifest],
    ) -> None:
        self._api = api
        self._clock = clock
        self._events = events
        self.deployment = deployment
        self._bounds = bounds_of(deployment["spec"])
        self.new = current_of(deployment, replica_sets)
        self.old = sorted((one for one in replica_sets if one is not self.new), key=age_of)

    @property
    def _all(self) -> list[Manifest]:
        return [*self.old, *([self.new] if self.new else [])]

    async def pause(self) -> None:
        """Scales only, and makes no ReplicaSet."""
        await self._keep_revision()
        await self._resize(self._scaled())
        await self._forget()
        await self.write_counts()

    async def go_on(self, has_old_pods: Callable[[], bool]) -> Manifest:
        """The next step of the strategy; the status as it is then.

        Args:
            has_old_pods: whether pods of old ReplicaSets may still run.
        """
        if any(_size(one) and _desired(one) not in (None, self._bounds.wanted) for one in self._all):
            await self.pause()
            return self.deployment.get("status") or {}
        if self.deployment["spec"]["strategy"].get("type") == "Recreate":
            await self._recreate(has_old_pods)
        else:
            await self._roll()
        if is_complete(self.deployment, self.deployment.get("status") or {}):
            await self._forget()
        now = self._clock()
        status = counted(self.deployment, self.new, self._all, self._bounds, now)
        await self.write_status(rolled_out(self.deployment, status, self.new, self._all, now))
        return self.deployment.get("status") or {}

    async def _roll(self) -> None:
        new = await self._keep_revision() or await self._make()
        size = new_size(self._bounds, _sized(new), [_sized(one) for one in self.old])
        if not await self._resize({new["metadata"]["name"]: size}):
            await self._resize(old_sizes(self._bounds, _sized(new), [_sized(one) for one in self.old]))

    async def _recreate(self, has_old_pods: Callable[[], bool]) -> None:
        await self._keep_revision()
        if await self._resize({one["metadata"]["name"]: 0 for one in self.old}) or has_old_pods():
            return
        new = self.new or await self._make()
        await self._resize({new["metadata"]["name"]: self._bounds.wanted})

    def _scaled(self) -> dict[str, int]:
        pods = (self.deployment.get("status") or {}).get("replicas", 0)
        new = _sized(self.new) if self.new else None
        return sizes_after_scaling(self._bounds, new, [_sized(one) for one in self.old], pods)

    # -- ReplicaSets ------------------------------------------------------------------------------------

    @property
    def _revision(self) -> int:
        return max(map(revision_of, self.old), default=0) + 1

    async def _keep_revision(self) -> Manifest | None:
        """Brings the newest ReplicaSet's annotations up to date, and the Deployment's number after it."""
        new, spec = self.new, self.deployment["spec"]
        if new is None:
            return None
        annotations = annotations_for(self.deployment, new, self._revision)
        seconds = spec.get("minReadySeconds", 0)
        if annotations != annotations_of(new) or seconds != new["spec"].get("minReadySeconds", 0):
            new = await self._update(
                {
                    **new,
                    "metadata": {**new["metadata"], "annotations": annotations},
                    "spec": {**new["spec"], "minReadySeconds": seconds},
                }
            )
        text = f'Found new replica set "{new["metadata"]["name"]}"'
        is_known = find_condition(self.deployment, PROGRESSING) is not None
        reason = "" if is_known else "FoundNewReplicaSet"
        await self._note_revision(annotations_of(new).get(ANNOTATION_REVISION, ""), reason, text)
        return new

    async def _note_revision(self, revision: str, reason: str, message: str) -> None:
        """Writes the number of the change on the Deployment, and what has come of it."""
        status = dict(self.deployment.get("status") or {})
        if reason and has_deadline(self.deployment):
            status = with_deployment_condition(status, PROGRESSING, "True", reason, message, self._clock())
        await self.write_status(status, revision)

    async def _make(self) -> Manifest:
        """Makes the ReplicaSet of the Deployment's template.

        Raises:
            AlreadyExists: something else has its name; the next try has another one.
            ApiError: the server refuses it, and the status says so.
        """
        revision = self._revision
        made = new_replica_set(self.deployment, revision, 0, self._bounds)
        size = new_size(self._bounds, _sized(made), [_sized(one) for one in self.old])
        made["spec"]["replicas"] = size
        name, reason = made["metadata"]["name"], "NewReplicaSetCreated"
        try:
            self.new = await self._api.create(REPLICA_SETS, made)
        except errors.AlreadyExists:
            self.new = await self._made_before(made)
            reason = ""
        except errors.ApiError as error:
            await self._tell_failure(f'Failed to create new replica set "{name}": {error.message}')
            raise
        if reason and size:
            await self._tell("Normal", "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {size}")
        await self._note_revision(str(revision), reason, f'Created new replica set "{name}"')
        return self.new

    async def _made_before(self, wanted: Manifest) -> Manifest:
        """The ReplicaSet of that name, where it is this Deployment's; else the next try has another name."""
        key = key_of(wanted)
        found = await self._api.get(REPLICA_SETS, key.name, key.namespace)
        owner = controller_of(found)
        if owner is not None and owner["uid"] == uid_of(self.deployment) and is_of(self.deployment, found):
            return found
        status = dict(self.deployment.get("status") or {})
        await self.write_status({**status, "collisionCount": status.get("collisionCount", 0) + 1})
        raise errors.Conflict(f'the name of the replica set "{key.name}" is taken: the next one is another')

    async def _tell_failure(self, message: str) -> None:
        reason = "ReplicaSetCreateError"
        if has_deadline(self.deployment):
            status = dict(self.deployment.get("status") or {})
            now = self._clock()
            status = with_deployment_condition(status, PROGRESSING, "False", reason, message, now)
            with contextlib.suppress(errors.ApiError):
                await self.write_status(status)
        await self._tell("Warning", reason, message)

    async def _resize(self, sizes: Mapping[str, int]) -> bool:
        """Writes sizes that differ, and what the Deployment wants now; whether a size did."""
        changed = False
        for one in self._all:
            before = _size(one)
            after = sizes.get(one["metadata"]["name"], before)
            annotations = {**annotations_of(one), **size_annotations(self._bounds)}
            is_due = annotations != annotations_of(one) and one["metadata"]["name"] in sizes
            if before == after and not is_due:
                continue
            changed = changed or before != after
            metadata = {**one["metadata"], "annotations": annotations}
            await self._update({**one, "metadata": metadata, "spec": {**one["spec"], "replicas": after}})
            if before != after:
                way = "up" if after > before else "down"
                text = f"Scaled {way} replica set {metadata['name']} from {before} to {after}"
                await self._tell("Normal", "ScalingReplicaSet", text)
        return changed

    async def _update(self, replica_set: Manifest) -> Manifest:
        updated = await self._api.update(REPLICA_SETS, with_kind(REPLICA_SETS, replica_set))
        if self.new is not None and uid_of(self.new) == uid_of(updated):
            self.new = updated
        else:
            self.old = [updated if uid_of(one) == uid_of(updated) else one for one in self.old]
        return updated

    async def _forget(self) -> None:
        for one in to_forget(self.deployment, self.old):
            key = key_of(one)
            with contextlib.suppress(errors.NotFound, errors.Conflict):
                await self._api.delete(REPLICA_SETS, key.name, key.namespace, uid=uid_of(one))

    # -- the Deployment ---------------------------------------------------------------------------------

    async def write_counts(self) -> None:
        """Writes what the ReplicaSets have, and nothing about progress."""
        await self.write_status(counted(self.deployment, self.new, self._all, self._bounds, self._clock()))

    async def write_status(self, status: Mapping[str, Any], revision: str = "") -> None:
        """Writes the status, and the number of the newest change where it is given; what differs only."""
        old = self.deployment
        annotations = dict(annotations_of(old))
        if revision:
            annotations[ANNOTATION_REVISION] = revision
        if status == (old.get("status") or {}) and annotations == annotations_of(old):
            return
        metadata = {**old["metadata"], **({"annotations": annotations} if annotations else {})}
        self.deployment = await self._api.update(
            DEPLOYMENTS,
            {**with_kind(DEPLOYMENTS, old), "metadata": metadata, "status": dict(status)},
            subresource="status",
        )

    async def _tell(self, type_: Any, reason: str, message: str) -> None:
        await self._events.record(with_kind(DEPLOYMENTS, self.deployment), type_, reason, message)


def _size(replica_set: Manifest) -> int:
    return int(replica_set["spec"].get("replicas", 1))


def _desired(replica_set: Manifest) -> int | None:
    return number_in(replica_set, ANNOTATION_DESIRED_REPLICAS)


def _sized(replica_set: Manifest) -> Sized:
    return Sized(
        replica_set["metadata"]["name"],
        _size(replica_set),
        (replica_set.get("status") or {}).get("availableReplicas", 0),
        replica_set["metadata"].get("creationTimestamp", ""),
        _desired(replica_set),
        number_in(replica_set, ANNOTATION_MAX_REPLICAS),
    )
