import asyncio
import json
import sys
from typing import Any

from gpuyard.agent.labelling import label_node
from gpuyard.client.rest import RestApi

WANTED = {"nvidia.com/gpu.count": "8"}


async def test_waits_for_the_node_and_keeps_foreign_labels(node_api: Any) -> None:
    async with RestApi(unix_socket=node_api.socket) as api:
        labelling = asyncio.create_task(label_node(api, "here", WANTED))
        await asyncio.wait_for(node_api.asked.get(), 10)
        assert not labelling.done()
        node_api.labels = {"zone": "a", "nvidia.com/gpu.product": "stale"}
        await asyncio.wait_for(labelling, 10)
    assert node_api.labels == {"zone": "a", "nvidia.com/gpu.count": "8"}


async def test_right_labels_are_not_written_again(node_api: Any) -> None:
    node_api.labels = dict(WANTED)
    async with RestApi(unix_socket=node_api.socket) as api:
        await label_node(api, "here", WANTED)
    assert node_api.asked.qsize() == 1


async def test_why_there_are_no_gpus_comes_and_goes(node_api: Any) -> None:
    node_api.labels = {}
    async with RestApi(unix_socket=node_api.socket) as api:
        await label_node(api, "here", {}, "the driver isn't installed")
        assert node_api.annotations == {"gpuyard.io/no-gpus": "the driver isn't installed"}
        await label_node(api, "here", WANTED)
    assert (node_api.labels, node_api.annotations) == (WANTED, {})


async def start(node_api: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent.labelling"),
        *("--node", "here", "--api-socket", str(node_api.socket), "--labels", json.dumps(WANTED)),
        stdin=asyncio.subprocess.PIPE,
    )


async def test_the_process_ends_when_all_is_written(node_api: Any) -> None:
    node_api.labels = {}
    process = await start(node_api)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert node_api.labels == WANTED


async def test_the_process_ends_with_whoever_started_it(node_api: Any) -> None:
    process = await start(node_api)
    assert process.stdin is not None
    await asyncio.wait_for(node_api.asked.get(), 20)
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 20) == 1
