"""`python -m gpuyard.agent.labelling`: writes on the node what the agent says in its file, and on the node's
pods what they have used of its GPUs.

It is a process of its own: only this part needs the right to change nodes, and the HTTP client that it
loads would double the memory of the agent. On a cluster it is a container beside the agent's, with an
account of its own; a yard starts it beside its agent.

On a cluster it takes away what it wrote when the node is to have no agent any more. It stays for a restart.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.agent.gpu_use.writing import follow_use, write_last
from gpuyard.agent.json_file import FollowedFile
from gpuyard.agent.marks_file import NodeMarks, read_marks
from gpuyard.agent.stdin import on_stdin_closed
from gpuyard.client.api import KubeApi, PatchType
from gpuyard.client.events import EventRecorder
from gpuyard.client.rest import RestApi
from gpuyard.gpus.faults import health_changes, node_faults
from gpuyard.kube.nodes import daemon_misfit
from gpuyard.kube.objects import DAEMON_SETS, NODES, Manifest, ObjectKey, with_kind
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import HARDWARE_TYPE, LABEL_HARDWARE_TYPE
from gpuyard.tenancy.node_marks import REPORTS, condition_patch, is_gpu_label, mark_patch

_RETRY_S = 0.2
_RETRY_MAX_S = 5.0
_LOOK_S = 0.2
#: Where the node can't be watched, what someone took off it is noticed after so long.
_CHECK_S = 60.0
#: While agents change, two of them mark the node, and may not agree.
_AT_MOST_EVERY_S = 1.0
#: Of the ten seconds until a kubelet kills it.
_LEAVE_S = 8.0
_LOG = logging.getLogger(__name__)


async def mark_node(api: KubeApi, node: str, marks: NodeMarks, *, taint: bool) -> bool:
    """Brings the node in line with its GPUs; whether anything was to be done.

    What changes of the GPUs' health is told by events, too.

    Args:
        marks: of the GPUs; without labels the node has none, and gets no taint.
        taint: whether a node with GPUs keeps pods without a GPU request away.
    """
    found = await api.get(NODES, node)
    patch = _missing(found, marks, taint=taint)
    if patch:
        await api.patch(NODES, node, patch)
    if marks.labels:
        # Before the status, which may fail: what the node says by now tells no change the next time.
        events = EventRecorder(api, "gpuyard-agent", _now, host=node)
        after = node_faults({**found, "metadata": {**found["metadata"], "annotations": marks.annotations}})
        for is_well, told in health_changes(node_faults(found), after):
            regarding = with_kind(NODES, found)
            if is_well:
                await events.record(regarding, "Normal", "GpuHealthy", told)
            else:
                await events.record(regarding, "Warning", "GpuUnhealthy", told)
    status = _missing_conditions(found, marks)
    if status:
        # An install that confines no labeller lets none write a status.
        with suppress(errors.Forbidden):
            await api.patch(NODES, node, status, subresource="status", patch_type=PatchType.STRATEGIC)
    return bool(patch or status)


def _now() -> datetime:
    return datetime.now(UTC)


def _missing_conditions(node: Manifest, marks: NodeMarks) -> dict[str, Any]:
    return condition_patch(node, marks.problems if marks.labels else None, format_time(_now()))


def _missing(node: Manifest, marks: NodeMarks, *, taint: bool) -> dict[str, Any]:
    labels = {name: value for name, value in marks.labels.items() if is_gpu_label(name)}
    if labels:
        labels[LABEL_HARDWARE_TYPE] = HARDWARE_TYPE
    reports = {name: marks.annotations.get(name, "") for name in REPORTS}
    return mark_patch(node, labels, reports, taint=taint and bool(labels))


async def unmark_node(api: KubeApi, node: str) -> bool:
    """Takes everything of ours off the node; whether there was anything. It may be gone."""
    while True:
        try:
            patch = mark_patch(await api.get(NODES, node), {}, {}, taint=False)
            if patch:
                await api.patch(NODES, node, patch)
            with suppress(errors.Forbidden):
                await _take_conditions(api, node)
            return bool(patch)
        except errors.NotFound:
            return False
        except errors.Conflict:  # Somebody wrote the node in between.
            await asyncio.sleep(_RETRY_S)


async def _take_conditions(api: KubeApi, node: str) -> None:
    status = condition_patch(await api.get(NODES, node), None, "")
    if status:
        await api.patch(NODES, node, status, subresource="status", patch_type=PatchType.STRATEGIC)


async def leave_node(api: KubeApi, node: str, daemon_set: ObjectKey) -> bool:
    """Takes everything of ours off a node on which the DaemonSet has no pod any more; whether it did.

    So it is when the DaemonSet is gone, and when its node selector or its tolerations leave the node out.
    """
    try:
        agent = await api.get(DAEMON_SETS, daemon_set.name, daemon_set.namespace)
        pod = agent["spec"]["template"]["spec"]
        going = "deletionTimestamp" in agent["metadata"]
        if not going and not daemon_misfit(await api.get(NODES, node), pod):
            return False
    except errors.NotFound:
        pass
    return await unmark_node(api, node)


async def follow_marks(
    open_api: Callable[[], RestApi], node: str, file: Path, *, taint: bool, check_s: float = _CHECK_S
) -> None:
    """Marks the node whenever the file changes or the node does, and looks again now and then.

    Runs until cancelled.

    Args:
        open_api: a client of the node's API, with the credentials of now.
        node: its name; it need not be there yet.
        file: of the agent; it need not be there yet.
        taint: see `mark_node`.
        check_s: how often the node is looked at when the file stays the same.
    """
    follower = _Follower(open_api, node, file, taint=taint, check_s=check_s)
    async with asyncio.TaskGroup() as group:
        group.create_task(follower.follow_node(), name="follow the node")
        await follower.follow_file()


class _Follower:
    """What `follow_marks` does; its arguments."""

    def __init__(
        self, open_api: Callable[[], RestApi], node: str, file: Path, *, taint: bool, check_s: float
    ) -> None:
        self._open_api = open_api
        self._node = node
        self._file = FollowedFile(file, read_marks)
        self._taint = taint
        self._check_s = check_s
        self._done: NodeMarks | None = None
        #: The node was seen without what was done to it.
        self._lost = asyncio.Event()
        #: The last that was seen of it since it was last asked for.
        self._seen: Manifest | None = None

    async def follow_file(self) -> None:
        """Marks the node. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        checked, retry_s, said = 0.0, _RETRY_S, ""
        while True:
            try:
                marks = self._file.read()
                is_stale = self._lost.is_set() or loop.time() - checked > self._check_s
                if marks is not None and (marks != self._done or is_stale):
                    self._lost.clear()
                    self._seen = None
                    async with self._open_api() as api:
                        changed = await mark_node(api, self._node, marks, taint=self._taint)
                    self._done = marks
                    if self._seen is not None:
                        self._look(self._seen)
                    checked, retry_s, said = loop.time(), _RETRY_S, ""
                    if changed:
                        _LOG.info("node %s is marked: %d labels", self._node, len(marks.labels))
                        await asyncio.sleep(_AT_MOST_EVERY_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._lost.wait()
            except (errors.ApiError, errors.ConnectionFailed, errors.DeviceError) as error:
                self._lost.set()
                if error.message != said:
                    said = error.message
                    _LOG.warning("can't mark node %s yet: %s", self._node, said)
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 1.5, _RETRY_MAX_S)

    async def follow_node(self) -> None:
        """Looks at each state of the node, also of one that is made anew. Ends where it may not."""
        retry_s = _RETRY_S
        while True:
            try:
                async with self._open_api() as api:
                    node = await api.get(NODES, self._node)
                    self._look(node)
                    version = node["metadata"]["resourceVersion"]
                    selector = f"metadata.name={self._node}"
                    async for event in api.watch(NODES, resource_version=version, field_selector=selector):
                        retry_s = _RETRY_S
                        if event.type in ("ADDED", "MODIFIED"):
                            self._look(event.object)
            except errors.Forbidden:
                return  # An install of before may not watch: the node is looked at now and then.
            except (errors.ApiError, errors.ConnectionFailed):
                pass  # Whoever marks the node says what is the matter.
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 1.5, _RETRY_MAX_S)

    def _look(self, node: Manifest) -> None:
        self._seen = node
        if self._done is not None and _missing(node, self._done, taint=self._taint):
            self._lost.set()


def _in_cluster() -> RestApi:
    # Here: the process of a yard needs no TLS. Each time anew: a token lives for an hour.
    from gpuyard.client.connection.in_cluster import in_cluster_connection

    return RestApi(in_cluster_connection(os.environ))


async def _main(options: argparse.Namespace) -> None:
    socket: Path | None = options.api_socket
    open_api = (lambda: RestApi(unix_socket=socket)) if socket else _in_cluster
    following = asyncio.create_task(_follow(open_api, options), name="follow the agent")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, following.cancel)
    if options.exit_with_stdin:
        on_stdin_closed(following.cancel)
    await asyncio.wait([following])
    if not following.cancelled():
        following.result()
    elif options.daemon_set:
        await _leave(open_api, options.node, options.daemon_set, options.use_file)


async def _follow(open_api: Callable[[], RestApi], options: argparse.Namespace) -> None:
    async with asyncio.TaskGroup() as group:
        if options.use_file:
            group.create_task(follow_use(open_api, options.node, options.use_file), name="follow the use")
        await follow_marks(open_api, options.node, options.follow, taint=options.taint)


async def _leave(
    open_api: Callable[[], RestApi], node: str, daemon_set: ObjectKey, use_file: Path | None
) -> None:
    try:
        async with asyncio.timeout(_LEAVE_S), open_api() as api:
            try:
                if await leave_node(api, node, daemon_set):
                    _LOG.info("node %s is to have no agent any more: its marks are taken away", node)
            except errors.ApiError as error:
                _LOG.warning("can't look whether node %s is still to have an agent: %s", node, error)
            # Second: there may be many pods, and no time for all.
            if use_file:
                await write_last(api, node, use_file)
    except (errors.ApiError, errors.ConnectionFailed, errors.DeviceError, TimeoutError) as error:
        _LOG.warning("node %s is left with something undone: %s", node, str(error) or "no time was left")


def _object_key(text: str) -> ObjectKey:
    namespace, _, name = text.partition("/")
    return ObjectKey(namespace, name)


def main() -> int:
    """Runs until SIGTERM, SIGINT or, with --exit-with-stdin, the end of standard input."""
    parser = argparse.ArgumentParser(
        prog="gpuyard.agent.labelling", description="Writes on a node what its agent says of its GPUs."
    )
    parser.add_argument("--node", required=True)
    parser.add_argument("--follow", type=Path, required=True, metavar="FILE", help="the agent's --marks-file")
    parser.add_argument(
        "--use-file", type=Path, help="write onto the node's pods what the exporter says in it"
    )
    parser.add_argument("--api-socket", type=Path, help="unix socket of the API; without it the cluster's")
    parser.add_argument("--taint", action="store_true", help="taint a node with GPUs")
    parser.add_argument(
        "--daemon-set",
        type=_object_key,
        metavar="NAMESPACE/NAME",
        help="it runs in a pod of it: at the end it unmarks a node that is to have none",
    )
    parser.add_argument("--exit-with-stdin", action="store_true", help="exit when standard input ends")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s agent: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(_main(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
