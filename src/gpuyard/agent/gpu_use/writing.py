"""Writing onto pods what the exporter's file says that they have used: seldom, and when they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.gpu_use.ledger import PodUse
from gpuyard.agent.gpu_use.use_file import UseRecord, read_use
from gpuyard.agent.json_file import FollowedFile
from gpuyard.client.api import KubeApi
from gpuyard.client.rest import RestApi
from gpuyard.gpus.use import GpuUse, with_session
from gpuyard.kube.objects import PODS, annotations_of, uid_of
from gpuyard.kube.wellknown import ANNOTATION_GPU_USE

#: Every write is an event for whoever watches pods.
_EVERY_S = 30.0
_LOOK_S = 1.0
_RETRY_MAX_S = 60.0
_LOG = logging.getLogger(__name__)


class UseWriter:
    """Knows what it has written of which pod.

    Args:
        node: pods of others are left alone.
        every_s: between two writes of one pod; what has ended is written at once.
        seconds: a steady clock.
    """

    def __init__(self, node: str, *, every_s: float, seconds: Callable[[], float]) -> None:
        self._node = node
        self._every_s = every_s
        self._seconds = seconds
        self._session = ""
        #: Of each pod that isn't done with: its uid, and what was written when.
        self._written: dict[int, tuple[str, float, GpuUse]] = {}
        self._done: set[int] = set()

    def due(self, record: UseRecord) -> list[PodUse]:
        """Whose use is to be written now."""
        if record.session != self._session:
            self._session = record.session
            self._written.clear()
            self._done.clear()
        self._done &= {pod.id for pod in record.pods}
        return [pod for pod in record.pods if pod.id not in self._done and self._is_due(pod)]

    def _is_due(self, pod: PodUse) -> bool:
        _, at_s, use = self._written.get(pod.id, ("", float("-inf"), GpuUse()))
        if pod.has_ended:
            return True
        return pod.use.gpu_s > 0 and pod.use != use and self._seconds() - at_s >= self._every_s

    async def write(self, api: KubeApi, pod: PodUse) -> None:
        """Writes the pod's use, unless it isn't the pod any more that was counted.

        Raises:
            ApiError, ConnectionFailed: it isn't written.
        """
        try:
            # A patch of nothing gives the pod as it is. Who may patch pods of one node needs no right then to
            # read all.
            found = await api.patch(PODS, pod.name.pod, {}, pod.name.namespace)
            uid = self._written.get(pod.id, (uid_of(found),))[0]
            if uid_of(found) == uid and found["spec"].get("nodeName") == self._node and pod.use.gpu_s:
                before = annotations_of(found).get(ANNOTATION_GPU_USE, "")
                now = with_session(before, self._session, pod.use)
                # After a write by the node's other agent it is a Conflict: that one's sums would be lost.
                metadata = {"resourceVersion": found["metadata"]["resourceVersion"], "uid": uid}
                patch = {"metadata": {**metadata, "annotations": {ANNOTATION_GPU_USE: now}}}
                if now != before:
                    await api.patch(PODS, pod.name.pod, patch, pod.name.namespace)
            self._written[pod.id] = uid, self._seconds(), pod.use
        except errors.NotFound:
            self._done.add(pod.id)
        if pod.has_ended:
            self._done.add(pod.id)


async def follow_use(
    open_api: Callable[[], RestApi], node: str, file: Path, *, every_s: float = _EVERY_S
) -> None:
    """Writes what the file says onto the node's pods, until cancelled.

    Args:
        open_api: a client of the node's API, with the credentials of now.
        node: its name.
        file: of the exporter; it need not be there yet.
        every_s: see `UseWriter`.
    """
    loop = asyncio.get_running_loop()
    writer = UseWriter(node, every_s=every_s, seconds=loop.time)
    followed = FollowedFile(file, read_use)
    retry_s, said = _LOOK_S, ""
    while True:
        try:
            record = followed.read()
            due = writer.due(record) if record is not None else []
            if due:
                async with open_api() as api:
                    await _write_all(api, writer, due)
            retry_s, said = _LOOK_S, ""
        except (errors.ApiError, errors.ConnectionFailed, errors.DeviceError) as error:
            if error.message != said:
                said = error.message
                _LOG.warning("can't write yet what pods use of their GPUs: %s", said)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)
        await asyncio.sleep(retry_s)


async def write_last(api: KubeApi, node: str, file: Path) -> None:
    """Writes all that the file says, as a last thing: it may go away with this process.

    Raises:
        ApiError, ConnectionFailed, DeviceError: not all is written.
    """
    writer = UseWriter(node, every_s=0.0, seconds=asyncio.get_running_loop().time)
    record = read_use(file)
    if record is not None:
        await _write_all(api, writer, writer.due(record))


async def _write_all(api: KubeApi, writer: UseWriter, pods: Iterable[PodUse]) -> None:
    """Raises the last refusal: one of one pod holds up no other."""
    refusal: errors.ApiError | None = None
    for pod in pods:
        try:
            await writer.write(api, pod)
        except errors.Conflict:
            continue  # Somebody wrote the pod in between: at the next look.
        except errors.ApiError as error:
            refusal = error
    if refusal is not None:
        raise refusal
