"""`python -m gpuyard.agent.labelling`: writes a node's labels, once or as long as it lives.

It is a process of its own: only this part needs the right to change nodes, and the HTTP client that it
loads would double the memory of the agent. A yard's agent starts it for each change (`--labels`). On a
cluster it is a container beside the agent's, with an account of its own, and follows a file (`--follow`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.labels import is_own, label_patch
from gpuyard.agent.labels_file import read_labels
from gpuyard.agent.stdin import on_stdin_closed
from gpuyard.client.api import KubeApi
from gpuyard.kube.objects import NODES, annotations_of, labels_of
from gpuyard.kube.wellknown import ANNOTATION_NO_GPUS, HARDWARE_TYPE, LABEL_HARDWARE_TYPE
from gpuyard.tenancy.node_marks import mark_patch

_RETRY_S = 0.2
_RETRY_MAX_S = 5.0
_LOOK_S = 0.5
#: Labels that someone took off, and a node that was made anew, are noticed after so long.
_CHECK_S = 60.0
_LOG = logging.getLogger(__name__)


async def label_node(api: KubeApi, node: str, wanted: Mapping[str, str], no_gpus: str = "") -> None:
    """Brings the node's labels in line; retries until the node exists and the API takes the change.

    Args:
        api: of the yard.
        node: its name.
        wanted: the labels.
        no_gpus: why there are none to serve, for its annotation; empty when there are.
    """
    retry_s = _RETRY_S
    said = ""
    while True:
        try:
            found = await api.get(NODES, node)
            metadata: dict[str, object] = {}
            if labels := label_patch(labels_of(found), wanted):
                metadata["labels"] = labels
            if annotations_of(found).get(ANNOTATION_NO_GPUS, "") != no_gpus:
                metadata["annotations"] = {ANNOTATION_NO_GPUS: no_gpus or None}
            if metadata:
                await api.patch(NODES, node, {"metadata": metadata})
            return
        except (errors.ApiError, errors.ConnectionFailed) as error:
            if error.message != said:
                said = error.message
                _LOG.info("can't label node %s yet: %s", node, said)
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 1.5, _RETRY_MAX_S)


async def mark_node(api: KubeApi, node: str, labels: Mapping[str, str], *, taint: bool) -> bool:
    """Brings labels and taint of a cluster's node in line with its GPUs; whether anything was to be done.

    Args:
        labels: of the GPUs; without any the node has none, and gets no taint.
        taint: whether a node with GPUs keeps pods without a GPU request away.
    """
    wanted = {name: value for name, value in labels.items() if is_own(name)}
    if wanted:
        wanted[LABEL_HARDWARE_TYPE] = HARDWARE_TYPE
    patch = mark_patch(await api.get(NODES, node), wanted, taint=taint and bool(wanted))
    if patch:
        await api.patch(NODES, node, patch)
    return bool(patch)


async def _follow(node: str, file: Path, *, taint: bool) -> None:
    """Marks the node whenever the file changes, and looks again now and then. Runs until cancelled."""
    # Here: the process of a yard needs no TLS.
    from gpuyard.client.in_cluster import in_cluster_connection
    from gpuyard.client.rest import RestApi

    loop = asyncio.get_running_loop()
    done: Mapping[str, str] | None = None
    checked, retry_s, said = 0.0, _RETRY_S, ""
    while True:
        try:
            labels = read_labels(file)
            if labels is not None and (labels != done or loop.time() - checked > _CHECK_S):
                async with RestApi(in_cluster_connection(os.environ)) as api:
                    changed = await mark_node(api, node, labels, taint=taint)
                if changed:
                    _LOG.info("node %s is marked: %d labels", node, len(labels))
                done, checked, retry_s, said = labels, loop.time(), _RETRY_S, ""
            await asyncio.sleep(_LOOK_S)
        except (errors.ApiError, errors.ConnectionFailed, errors.DeviceError) as error:
            if error.message != said:
                said = error.message
                _LOG.warning("can't mark node %s yet: %s", node, said)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 1.5, _RETRY_MAX_S)


async def _once(node: str, socket: Path, wanted: Mapping[str, str], no_gpus: str) -> None:
    from gpuyard.client.rest import RestApi

    task = asyncio.current_task()
    assert task is not None
    on_stdin_closed(task.cancel)
    async with RestApi(unix_socket=socket) as api:
        await label_node(api, node, wanted, no_gpus)


async def _main(options: argparse.Namespace) -> None:
    if options.follow is None:
        await _once(options.node, options.api_socket, options.labels, options.no_gpus)
        return
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await _follow(options.node, options.follow, taint=options.taint)


def main() -> int:
    """Runs the command; exit code 1 when whoever started it with --labels went away first."""
    parser = argparse.ArgumentParser(prog="gpuyard.agent.labelling", description="Writes a node's labels.")
    parser.add_argument("--node", required=True)
    parser.add_argument("--labels", type=json.loads, help="write these, a JSON object, and end")
    parser.add_argument("--no-gpus", default="", metavar="WHY", help="with --labels: why there are none")
    parser.add_argument("--api-socket", type=Path, help="unix socket of the API, with --labels")
    parser.add_argument("--follow", type=Path, help="a file of labels, for a pod of the node's cluster")
    parser.add_argument("--taint", action="store_true", help="with --follow: taint a node with GPUs")
    options = parser.parse_args()
    if (options.follow is None) == (options.labels is None or options.api_socket is None):
        parser.error("give --labels and --api-socket, or --follow")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s agent: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(_main(options))
    except asyncio.CancelledError:
        return 0 if options.follow else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
