"""Creates, deletes and releases the pods of a Job or a ReplicaSet, many at once, and says so in events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from gpuyard import errors
from gpuyard.client.api import KubeApi, PatchType
from gpuyard.client.events import EventRecorder
from gpuyard.controllers.owned_pods.bookkeeping import Bookkeeping
from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.kube.objects import PODS, Manifest, Resource, key_of, with_kind
from gpuyard.kube.wellknown import FINALIZER_JOB_TRACKING

_MAX_CONCURRENT = 32
_NAME_ATTEMPTS = 3

Problem: TypeAlias = errors.GpuyardError | None
Item = TypeVar("Item")


class PodControl:
    """The requests about pods; every one is noted in their owner's bookkeeping before it is sent.

    Args:
        api: where they are.
        events: of the owners' controller.
        owners: the owners' kind.
    """

    def __init__(self, api: KubeApi, events: EventRecorder, owners: Resource) -> None:
        self._api = api
        self._events = events
        self._owners = owners

    async def create(
        self,
        owner: Manifest,
        book: Bookkeeping,
        items: Sequence[Item],
        make: Callable[[Item], Manifest],
    ) -> list[errors.GpuyardError]:
        """Makes one pod for each item and returns what went wrong.

        It starts with one and doubles, so that a template that the server refuses is refused once,
        not a hundred times.

        Args:
            owner: whose they are.
            book: its notes.
            items: what tells the pods apart.
            make: the pod of an item, with a new name at every call.
        """

        async def create_one(item: Item) -> Problem:
            return await self._create_one(owner, book, partial(make, item))

        done, size = 0, 1
        while done < len(items):
            problems = await _each(create_one, items[done : done + size])
            if problems:
                return problems
            done += size
            size = min(size * 2, _MAX_CONCURRENT)
        return []

    async def _create_one(self, owner: Manifest, book: Bookkeeping, make: Callable[[], Manifest]) -> Problem:
        for attempt in range(_NAME_ATTEMPTS):
            pod = make()
            book.creating(pod)
            try:
                made = await self._api.create(PODS, pod)
            except errors.AlreadyExists as error:
                book.not_created(key_of(pod))
                if attempt == _NAME_ATTEMPTS - 1:
                    return error
            except errors.GpuyardError as error:
                # After a failure of the server or the line it may exist all the same: `look_up` finds out.
                if isinstance(error, errors.ApiError) and error.code < 500:
                    book.not_created(key_of(pod))
                await self._events.record(
                    with_kind(self._owners, owner), "Warning", "FailedCreate", f"Error creating: {error}"
                )
                return error
            else:
                book.created(made)
                await self._events.record(
                    with_kind(self._owners, owner),
                    "Normal",
                    "SuccessfulCreate",
                    f"Created pod: {made['metadata']['name']}",
                )
                return None
        return None

    async def look_up(self, book: Bookkeeping) -> None:
        """Settles whether pods exist that were created a while ago and that no event has shown."""
        for key in book.overdue():
            try:
                book.created(await self._api.get(PODS, key.name, key.namespace))
            except errors.NotFound:
                book.not_created(key)

    async def delete(
        self, owner: Manifest, book: Bookkeeping, pods: Sequence[PodView], *, counts: bool
    ) -> list[errors.GpuyardError]:
        """Deletes active pods and returns what went wrong.

        Unless `counts`, they are released first, and so never become failures of a Job.
        """

        async def delete_one(pod: PodView) -> Problem:
            return await self._delete_one(owner, book, pod, counts)

        return await _each(delete_one, pods)

    async def _delete_one(self, owner: Manifest, book: Bookkeeping, pod: PodView, counts: bool) -> Problem:
        try:
            if pod.tracked and not counts:
                await self._release_one(book, pod)
            book.deleting(pod.uid)
            with contextlib.suppress(errors.NotFound, errors.Conflict):
                await self._api.delete(PODS, pod.key.name, pod.key.namespace, uid=pod.uid or None)
        except errors.GpuyardError as error:
            book.not_deleted(pod.uid)
            message = f"Error deleting: {error}"
            await self._events.record(with_kind(self._owners, owner), "Warning", "FailedDelete", message)
            return error
        message = f"Deleted pod: {pod.key.name}"
        await self._events.record(with_kind(self._owners, owner), "Normal", "SuccessfulDelete", message)
        return None

    async def release(self, book: Bookkeeping, pods: Sequence[PodView]) -> None:
        """Takes the tracking finalizer off, so that the pods may go.

        Raises:
            GpuyardError: the first refusal, after all were tried.
        """

        async def release_one(pod: PodView) -> Problem:
            try:
                await self._release_one(book, pod)
            except errors.GpuyardError as error:
                return error
            return None

        problems = await _each(release_one, pods)
        if problems:
            raise problems[0]

    async def _release_one(self, book: Bookkeeping, pod: PodView) -> None:
        book.releasing(pod.uid)
        path = f"/metadata/finalizers/{pod.finalizers.index(FINALIZER_JOB_TRACKING)}"
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": pod.uid},
            {"op": "test", "path": path, "value": FINALIZER_JOB_TRACKING},
            {"op": "remove", "path": path},
        ]
        try:
            await self._api.patch(PODS, pod.key.name, patch, pod.key.namespace, patch_type=PatchType.JSON)
        except errors.NotFound:
            pass
        except errors.GpuyardError:
            book.not_released(pod.uid)
            raise


async def _each(
    work: Callable[[Item], Awaitable[Problem]], items: Sequence[Item]
) -> list[errors.GpuyardError]:
    """Does the work for all items, so many at a time, and returns the errors among the results."""
    gate = asyncio.Semaphore(_MAX_CONCURRENT)

    async def one(item: Item) -> Problem:
        async with gate:
            return await work(item)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [problem for task in tasks if (problem := task.result()) is not None]
