import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.agent.gpu_use.ledger import PodName, PodUse
from gpuyard.agent.gpu_use.use_file import UseRecord, write_use
from gpuyard.agent.labelling import follow_marks, leave_node, mark_node
from gpuyard.agent.marks_file import NodeMarks, write_marks
from gpuyard.client.rest import RestApi
from gpuyard.gpus.use import GpuUse
from gpuyard.kube.objects import ObjectKey

from .conftest import NodeApi

GPU = {"nvidia.com/gpu.count": "8", "gpuyard.io/gpu-model": "H100"}
WANTED = {"hardware-type": "nvidia-gpu", **GPU}
FAULT = {"gpuyard.io/gpu-health": '[{"index":3}]'}


@asynccontextmanager
async def following(node_api: NodeApi, file: Path, check_s: float = 60) -> AsyncIterator[None]:
    """The follower of this file, on the node's own socket."""
    work = follow_marks(
        lambda: RestApi(unix_socket=node_api.socket), "here", file, taint=False, check_s=check_s
    )
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(node_api: NodeApi, method: str) -> None:
    """Waits until somebody has sent such a request."""
    while await asyncio.wait_for(node_api.asked.get(), 60) != method:
        pass


async def test_waits_for_the_file_and_the_node_and_keeps_foreign_labels(
    node_api: NodeApi, tmp_path: Path
) -> None:
    async with following(node_api, tmp_path / "marks.json"):
        write_marks(tmp_path / "marks.json", NodeMarks(GPU))
        await asked(node_api, "GET")
        node_api.labels = {"zone": "a"}
        await asked(node_api, "PATCH")
    assert node_api.labels == {"zone": "a", **WANTED}


async def test_each_change_of_the_file_is_written(node_api: NodeApi, tmp_path: Path) -> None:
    node_api.labels = {}
    write_marks(tmp_path / "marks.json", NodeMarks(GPU))
    async with following(node_api, tmp_path / "marks.json"):
        await asked(node_api, "PATCH")
        write_marks(tmp_path / "marks.json", NodeMarks(GPU, FAULT))
        await asked(node_api, "PATCH")
        assert node_api.annotations["gpuyard.io/gpu-health"] == '[{"index":3}]'
        write_marks(tmp_path / "marks.json", NodeMarks(GPU))
        await asked(node_api, "PATCH")
    assert "gpuyard.io/gpu-health" not in node_api.annotations


async def test_marks_that_are_lost_come_back(node_api: NodeApi, tmp_path: Path) -> None:
    node_api.labels = {}
    write_marks(tmp_path / "marks.json", NodeMarks(GPU))
    async with following(node_api, tmp_path / "marks.json", check_s=0.01):
        for _ in range(2):
            await asked(node_api, "PATCH")
            assert node_api.labels == WANTED
            # As when the node is deleted and registers itself anew.
            node_api.labels, node_api.annotations = {}, {}


async def test_a_node_that_registers_anew_is_marked_without_a_look(node_api: NodeApi, tmp_path: Path) -> None:
    node_api.labels = {}
    write_marks(tmp_path / "marks.json", NodeMarks(GPU))
    async with following(node_api, tmp_path / "marks.json", check_s=3600):
        seen = {await asyncio.wait_for(node_api.asked.get(), 60)}
        while not {"PATCH", "WATCH"} <= seen:
            seen.add(await asyncio.wait_for(node_api.asked.get(), 60))
        await node_api.register_anew()
        await asked(node_api, "PATCH")
        assert node_api.labels == WANTED


async def test_marks_a_node_and_unmarks_it(node_api: NodeApi) -> None:
    node_api.labels = {"zone": "a"}
    async with RestApi(unix_socket=node_api.socket) as api:
        assert await mark_node(api, "here", NodeMarks(GPU), taint=True)
        assert node_api.labels == {"zone": "a", **WANTED}
        assert [taint["key"] for taint in node_api.taints] == ["nvidia.com/gpu"]
        assert not await mark_node(api, "here", NodeMarks(GPU), taint=True)
        assert await mark_node(api, "here", NodeMarks(), taint=True)
    assert (node_api.labels, node_api.taints, node_api.annotations) == ({"zone": "a"}, [], {})


async def test_why_there_are_no_gpus_comes_and_goes(node_api: NodeApi) -> None:
    node_api.labels, why = {}, {"gpuyard.io/no-gpus": "the driver isn't installed"}
    async with RestApi(unix_socket=node_api.socket) as api:
        await mark_node(api, "here", NodeMarks({}, why), taint=True)
        assert (node_api.annotations, node_api.taints) == (why, [])
        await mark_node(api, "here", NodeMarks(), taint=True)
    assert node_api.annotations == {}


async def test_what_is_anothers_is_not_taken_from_the_file(node_api: NodeApi) -> None:
    node_api.labels = {}
    # NVIDIA's operator acts on the first.
    labels = {**GPU, "nvidia.com/gpu.deploy.driver": "true", "node-role.kubernetes.io/control-plane": ""}
    async with RestApi(unix_socket=node_api.socket) as api:
        await mark_node(api, "here", NodeMarks(labels, {**FAULT, "example.com/mine": "x"}), taint=False)
    assert node_api.labels == WANTED
    assert node_api.annotations.keys() == {"gpuyard.io/gpu-health", "gpuyard.io/labels-set"}


AGENTS = ObjectKey("gpuyard-system", "gpuyard-agent")


def agents(pod: dict[str, Any], **metadata: str) -> dict[str, Any]:
    own = {"key": "nvidia.com/gpu", "operator": "Exists"}
    pod = {**pod, "tolerations": [own, *pod.get("tolerations", ())]}
    return {"metadata": {"name": AGENTS.name, **metadata}, "spec": {"template": {"spec": pod}}}


@pytest.mark.parametrize(
    ("wanted", "stays"),
    [
        (agents({"nodeSelector": {"zone": "a"}}), True),
        (agents({"nodeSelector": {"zone": "b"}}), False),
        (agents({"tolerations": [{"key": "sku", "operator": "Exists"}]}), True),
        (agents({}, deletionTimestamp="2026-01-31T12:03:00Z"), False),
        (None, False),
    ],
)
async def test_marks_go_with_the_last_agent(
    node_api: NodeApi, tmp_path: Path, wanted: dict[str, Any] | None, stays: bool
) -> None:
    node_api.labels, node_api.agents = {"zone": "a"}, wanted
    file = tmp_path / "marks.json"
    write_marks(file, NodeMarks(GPU, FAULT))
    words = (f"--follow={file}", f"--api-socket={node_api.socket}", f"--daemon-set={AGENTS}", "--taint")
    process = await start(*words)
    await asked(node_api, "PATCH")
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0
    left = {"zone": "a", **WANTED} if stays else {"zone": "a"}
    assert (node_api.labels, bool(node_api.taints), bool(node_api.annotations)) == (left, stays, stays)


async def test_an_agent_that_does_not_tolerate_its_nodes_taint_is_the_last(node_api: NodeApi) -> None:
    node_api.labels, node_api.agents = {}, agents({})
    async with RestApi(unix_socket=node_api.socket) as api:
        await mark_node(api, "here", NodeMarks(GPU), taint=False)
        assert not await leave_node(api, "here", AGENTS)
        node_api.taints = [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]
        assert await leave_node(api, "here", AGENTS)
    assert (node_api.labels, node_api.annotations, len(node_api.taints)) == ({}, {}, 1)


async def test_a_labeller_that_may_not_look_leaves_the_marks(node_api: NodeApi, tmp_path: Path) -> None:
    node_api.labels = {}
    file = tmp_path / "marks.json"
    write_marks(file, NodeMarks(GPU))
    words = (f"--follow={file}", f"--api-socket={node_api.socket}", f"--daemon-set={AGENTS}")
    process = await start(*words, stderr=asyncio.subprocess.PIPE)
    await asked(node_api, "PATCH")
    node_api.refuses_agents = True
    process.terminate()
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0 and b"can't look whether node here is still to have an agent" in said
    assert node_api.labels == WANTED


async def start(*words: str, **streams: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent.labelling", "--node=here"), *words, **streams
    )


async def test_the_process_marks_a_yards_node_and_ends_with_whoever_started_it(
    node_api: NodeApi, tmp_path: Path
) -> None:
    node_api.labels = {}
    file = tmp_path / "marks.json"
    write_marks(file, NodeMarks(GPU))
    process = await start(
        f"--follow={file}",
        f"--api-socket={node_api.socket}",
        "--exit-with-stdin",
        stdin=asyncio.subprocess.PIPE,
    )
    await asked(node_api, "PATCH")
    assert node_api.labels == WANTED
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_file_that_is_broken_is_said_once_and_read_again(node_api: NodeApi, tmp_path: Path) -> None:
    node_api.labels = {}
    file = tmp_path / "marks.json"
    file.write_text(json.dumps([]))
    process = await start(
        f"--follow={file}", f"--api-socket={node_api.socket}", stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    assert b"can't mark node here yet" in await asyncio.wait_for(process.stderr.readline(), 60)
    write_marks(file, NodeMarks(GPU))
    assert b"node here is marked: 2 labels" in await asyncio.wait_for(process.stderr.readline(), 60)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_without_credentials_it_says_so_and_tries_again(tmp_path: Path) -> None:
    write_marks(tmp_path / "marks.json", NodeMarks(GPU))
    process = await start(f"--follow={tmp_path / 'marks.json'}", stderr=asyncio.subprocess.PIPE, env={})
    assert process.stderr is not None
    said = await asyncio.wait_for(process.stderr.readline(), 60)
    assert b"can't mark node here yet: KUBERNETES_SERVICE_HOST" in said
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_change_of_health_is_a_condition_and_an_event(node_api: NodeApi) -> None:
    node_api.labels = {}
    said = "GPU 3 is unhealthy: XID 79 (GPU has fallen off the bus) since 2026-01-31 12:00 UTC"
    fault = '[{"index":3,"uuid":"GPU-3","reason":"XID 79","since":"2026-01-31T12:00:00Z"}]'
    problems = {"GpuUnhealthy": {"reason": "XID79", "message": said}}
    sick = NodeMarks(GPU, {"gpuyard.io/gpu-health": fault}, problems)
    async with RestApi(unix_socket=node_api.socket) as api:
        for marks, status, reason in ((NodeMarks(GPU), "False", "GpusHealthy"), (sick, "True", "XID79")):
            assert await mark_node(api, "here", marks, taint=False)
            assert not await mark_node(api, "here", marks, taint=False)
            condition = node_api.conditions["GpuUnhealthy"]
            assert (condition["status"], condition["reason"]) == (status, reason)
        assert condition["message"] == said
        began = condition["lastTransitionTime"]
        assert node_api.events == [("Warning", "GpuUnhealthy", f"{said} (GPU-3)")]
        await mark_node(api, "here", NodeMarks(GPU), taint=False)
    assert node_api.conditions["GpuUnhealthy"]["status"] == "False"
    assert began <= node_api.conditions["GpuUnhealthy"]["lastTransitionTime"]
    assert node_api.events[1:] == [
        (
            "Normal",
            "GpuHealthy",
            "GPU 3 is healthy again, after XID 79 since 2026-01-31 12:00 UTC (GPU-3)",
        )
    ]


async def test_a_change_of_health_is_an_event_also_when_no_status_can_be_written(node_api: NodeApi) -> None:
    node_api.labels = {}
    fault = '[{"index":3,"uuid":"GPU-3","reason":"XID 79","since":"2026-01-31T12:00:00Z"}]'
    problem = {"GpuUnhealthy": {"reason": "XID79", "message": "GPU 3 is unhealthy"}}
    sick = NodeMarks(GPU, {"gpuyard.io/gpu-health": fault}, problem)
    async with RestApi(unix_socket=node_api.socket) as api:
        await mark_node(api, "here", NodeMarks(GPU), taint=False)
        node_api.fails_status = True
        with pytest.raises(errors.ApiError):
            await mark_node(api, "here", sick, taint=False)
        node_api.fails_status = False
        assert await mark_node(api, "here", sick, taint=False)
    assert [reason for _, reason, _ in node_api.events] == ["GpuUnhealthy"]
    assert node_api.conditions["GpuUnhealthy"]["status"] == "True"


async def test_the_marks_go_before_what_pods_used_is_written(node_api: NodeApi, tmp_path: Path) -> None:
    """There is time for the first in any case."""
    node_api.labels = {}
    marks, use = tmp_path / "marks.json", tmp_path / "use.json"
    write_marks(marks, NodeMarks(GPU))
    words = (f"--follow={marks}", f"--api-socket={node_api.socket}", f"--daemon-set={AGENTS}")
    process = await start(*words, f"--use-file={use}")
    await asked(node_api, "PATCH")
    node_api.patched.clear()
    write_use(use, UseRecord("s", "b", (PodUse(1, PodName("n", "a"), GpuUse(1, 60)),)))
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0
    order = [path for path in node_api.patched if not path.endswith("/status")]
    assert order[-2:] == ["/api/v1/nodes/here", "/api/v1/namespaces/n/pods/a"]


async def test_a_use_file_that_is_wrong_takes_no_marks_down(node_api: NodeApi, tmp_path: Path) -> None:
    node_api.labels = {}
    marks, use = tmp_path / "marks.json", tmp_path / "use.json"
    use.write_text(
        '{"session": "s", "boot_id": "b", "pods": [], "last": {"at_s": 1, "held": [], "energy_mj": []}}'
    )
    process = await start(
        f"--follow={marks}",
        f"--api-socket={node_api.socket}",
        f"--use-file={use}",
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"can't write yet what pods use" in await asyncio.wait_for(process.stderr.readline(), 60)
    write_marks(marks, NodeMarks(GPU))
    await asked(node_api, "PATCH")
    assert node_api.labels == WANTED
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0
