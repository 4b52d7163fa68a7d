import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from gpuyard.agent.labelling import label_node, mark_node
from gpuyard.agent.labels_file import write_labels
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


GPU = {"nvidia.com/gpu.count": "8", "gpuyard.io/gpu-model": "H100"}


async def test_marks_a_node_of_a_cluster_and_unmarks_it(node_api: Any) -> None:
    node_api.labels = {"zone": "a"}
    async with RestApi(unix_socket=node_api.socket) as api:
        assert await mark_node(api, "here", GPU, taint=True)
        assert node_api.labels == {"zone": "a", "hardware-type": "nvidia-gpu", **GPU}
        assert [taint["key"] for taint in node_api.taints] == ["nvidia.com/gpu"]
        assert not await mark_node(api, "here", GPU, taint=True)
        assert await mark_node(api, "here", {}, taint=True)
    assert (node_api.labels, node_api.taints, node_api.annotations) == ({"zone": "a"}, [], {})


async def test_labels_of_other_things_are_not_taken_from_the_file(node_api: Any) -> None:
    node_api.labels = {}
    async with RestApi(unix_socket=node_api.socket) as api:
        await mark_node(api, "here", {**GPU, "node-role.kubernetes.io/control-plane": ""}, taint=False)
    assert node_api.labels == {"hardware-type": "nvidia-gpu", **GPU}


async def test_the_command_wants_one_way_of_working() -> None:
    command = (sys.executable, "-m", "gpuyard.agent.labelling", "--node=here")
    for words in ((), ("--labels={}",), ("--labels={}", "--api-socket=/x", "--follow=/y")):
        process = await asyncio.create_subprocess_exec(*command, *words, stderr=asyncio.subprocess.PIPE)
        _, said = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, b"give --labels and --api-socket, or --follow" in said) == (2, True)


async def test_without_credentials_it_says_so_and_tries_again(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.json", GPU)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent.labelling"),
        *("--node=here", f"--follow={tmp_path / 'labels.json'}"),
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    assert process.stderr is not None
    said = await asyncio.wait_for(process.stderr.readline(), 20)
    assert b"can't mark node here yet: KUBERNETES_SERVICE_HOST" in said
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 20) == 0
