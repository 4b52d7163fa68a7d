"""`python -m gpuyard.agent.labelling`: writes a node's labels, then ends.

It is a process of its own: only this part needs the right to change nodes, and the HTTP client that it
loads would double the memory of the agent, which lives for months and labels once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.labels import label_patch
from gpuyard.agent.stdin import on_stdin_closed
from gpuyard.client.api import KubeApi
from gpuyard.kube.objects import NODES, labels_of

_RETRY_S = 0.2
_RETRY_MAX_S = 5.0
_LOG = logging.getLogger(__name__)


async def label_node(api: KubeApi, node: str, wanted: Mapping[str, str]) -> None:
    """Brings the node's labels in line; retries until the node exists and the API takes the change."""
    retry_s = _RETRY_S
    said = ""
    while True:
        try:
            labels = label_patch(labels_of(await api.get(NODES, node)), wanted)
            if labels:
                await api.patch(NODES, node, {"metadata": {"labels": labels}})
            return
        except (errors.ApiError, errors.ConnectionFailed) as error:
            if error.message != said:
                said = error.message
                _LOG.info("can't label node %s yet: %s", node, said)
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 1.5, _RETRY_MAX_S)


async def _main(node: str, socket: Path, wanted: Mapping[str, str]) -> None:
    from gpuyard.client.rest import RestApi

    task = asyncio.current_task()
    assert task is not None
    on_stdin_closed(task.cancel)
    async with RestApi(unix_socket=socket) as api:
        await label_node(api, node, wanted)


def main() -> int:
    """Runs the command; exit code 1 when whoever started it went away first."""
    parser = argparse.ArgumentParser(prog="gpuyard.agent.labelling", description="Writes a node's labels.")
    parser.add_argument("--node", required=True)
    parser.add_argument("--api-socket", type=Path, required=True)
    parser.add_argument("--labels", required=True, type=json.loads, help="a JSON object")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s agent: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(_main(options.node, options.api_socket, options.labels))
    except asyncio.CancelledError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
