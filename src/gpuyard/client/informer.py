"""A current local copy of one resource: list, then watch, and list again when the history is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from gpuyard import errors
from gpuyard.client.api import KubeApi, WatchEvent
from gpuyard.client.supervision import ObjectReference, Supervisor
from gpuyard.kube.objects import Manifest, ObjectKey, Resource, key_of, uid_of

log = logging.getLogger(__name__)

#: Called with (old, new): (None, new) for an object that appeared, (old, None) for one that went.
Handler = Callable[[Manifest | None, Manifest | None], None]

_RETRY_MAX_S = 10.0
_HEALTHY_AFTER_S = 0.5


class Informer:
    """Owns the copy; `run` keeps it current until cancelled.

    Handlers are called in the order of changes, on the loop that runs `run`, and must not block: they put a
    key into a queue. One that raises is reported to the supervisor and the others go on, since the same
    object would meet it again at every start. An object deleted and made again under the same name between
    two looks is reported as gone and then as new. Objects in `objects` are shared: copy before changing.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        retry_s: float = 0.2,
        retry_max_s: float = _RETRY_MAX_S,
        supervisor: Supervisor | None = None,
    ) -> None:
        """`retry_s` is the first pause after a failure; it doubles up to `retry_max_s`.

        `supervisor` is told of objects that make a handler fail; None has them logged.
        """
        self.resource = resource
        self.supervisor = supervisor or Supervisor()
        self._api = api
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._retry_s = self._pause_s = retry_s
        self._retry_max_s = retry_max_s
        self._objects: dict[ObjectKey, Manifest] = {}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        #: The error that keeps the copy from being current, None while it is.
        self.failure: errors.GpuyardError | None = None

    @property
    def objects(self) -> Mapping[ObjectKey, Manifest]:
        """The objects as of the last change seen."""
        return self._objects

    def reference(self, key: ObjectKey) -> ObjectReference:
        """Names an object of this resource in a report, with its uid while it is known."""
        manifest = self._objects.get(key)
        return ObjectReference(self.resource, key, uid_of(manifest) if manifest else "")

    def add_handler(self, handler: Handler) -> None:
        """Registers a handler; add all of them before `run`."""
        self._handlers.append(handler)

    async def synced(self) -> None:
        """Waits until the first list is in."""
        await self._synced.wait()

    async def run(self) -> None:
        """Lists and watches for as long as it isn't cancelled, with back-off while the API is away."""
        loop = asyncio.get_running_loop()
        while True:
            healthy: asyncio.TimerHandle | None = None
            try:
                version = await self._relist()
                # A watch that the server refuses ends at once; one that lasts shows that all is well.
                healthy = loop.call_later(_HEALTHY_AFTER_S, self._note_health)
                await self._follow(version)
            except errors.Gone:
                log.info("%s: history compacted, listing again", self.resource.plural)
                await asyncio.sleep(self._retry_s)
            except (errors.ApiError, errors.ConnectionFailed) as error:
                self.failure = error
                log.warning("%s: %s; trying again in %.1f s", self.resource.plural, error, self._pause_s)
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(self._pause_s * 2, self._retry_max_s)
            finally:
                if healthy:
                    healthy.cancel()

    def _note_health(self) -> None:
        self.failure = None
        self._pause_s = self._retry_s

    async def _relist(self) -> str:
        listed = await self._api.list(
            self.resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        current = {}
        for item in listed.items:
            with self.supervisor.guard(f"informer of {self.resource.qualified}"):
                current[key_of(item)] = item
        for key in [key for key in self._objects if key not in current]:
            self._set(key, None)
        for key, item in current.items():
            self._set(key, item)
        self._synced.set()
        return listed.resource_version

    async def _follow(self, version: str) -> None:
        while True:
            stream = self._api.watch(
                self.resource,
                self._namespace,
                resource_version=version,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
            )
            quiet = True
            async for event in stream:
                quiet = False
                self._note_health()
                with self.supervisor.guard(f"informer of {self.resource.qualified}"):
                    version = event.object["metadata"]["resourceVersion"]
                    self._apply(event)
            self._note_health()
            if quiet:
                # A server that ends every stream at once must not be asked without pause.
                await asyncio.sleep(self._retry_s)

    def _apply(self, event: WatchEvent) -> None:
        if event.type == "BOOKMARK":
            return
        self._set(key_of(event.object), None if event.type == "DELETED" else event.object)

    def _set(self, key: ObjectKey, new: Manifest | None) -> None:
        old = self._objects.get(key)
        if old is None and new is None:
            return
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
        if old is not None and new is not None and uid_of(old) != uid_of(new):
            self._notify(old, None)
            old = None
        if (
            old is not None
            and new is not None
            and old["metadata"].get("resourceVersion") == new["metadata"].get("resourceVersion")
        ):
            return
        self._notify(old, new)

    def _notify(self, old: Manifest | None, new: Manifest | None) -> None:
        reference = ObjectReference(self.resource, key_of(new or old or {}), uid_of(new or old or {}))
        for handler in self._handlers:
            with self.supervisor.guard(_name_of(handler), reference):
                handler(old, new)


def _name_of(handler: Handler) -> str:
    """Whose handler it is: `Scheduler`, `partial of GarbageCollector`."""
    owner = getattr(getattr(handler, "func", handler), "__self__", None)
    return type(owner).__name__ if owner is not None else getattr(handler, "__qualname__", repr(handler))
