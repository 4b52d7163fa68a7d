from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from gpuyard import errors
from gpuyard.kube.objects import NAMESPACES, NODES, PODS, Manifest
from gpuyard.metrics_text import parse_metrics
from gpuyard.runs.nodes import agent_metrics
from gpuyard.runs.nodes.agent_metrics import AgentMetrics, NodeMetrics
from gpuyard.runs.nodes.fleet import Fleet, follow_fleet, read_fleet
from gpuyard.runs.run import make_run
from gpuyard.runs.target import Target
from gpuyard.tenancy.names import AGENT_LABELS, LABELS
from tests.waiting import until_async

from .layouts import METRICS, node, pod


def metrics_of(name: str) -> NodeMetrics:
    return NodeMetrics(tuple(parse_metrics(METRICS)), "")


def test_runs_are_found_by_their_pods() -> None:
    run_pod = pod("train-0-x", "a", {"gpuyard.io/run": "train"})
    fleet = Fleet.of([node("a")], [run_pod, pod("web", "a", namespace="team")], metrics_of)
    assert [(run.user.name, run.nodes, run.gpus) for run in fleet.runs] == [
        ("train", ("a",), 1),
        ("team/web", ("a",), 1),
    ]
    assert fleet.to_json()["nodes"][0]["gpus"][0]["users"][0]["run"] == "train"


def test_of_one_run_there_are_its_own_gpus_rank_by_rank() -> None:
    ranks = [pod(f"train-{n}-x", name, {"gpuyard.io/run": "train"}) for n, name in enumerate("ab")]
    web = pod("web", "a", namespace="team")
    metadata = {
        "name": "train",
        "namespace": "default",
        "uid": "1",
        "creationTimestamp": "2026-01-31T12:00:00Z",
    }
    spec = {"completionMode": "Indexed", "completions": 2, "template": {"spec": ranks[0]["spec"]}}
    run = make_run({"metadata": {**metadata, "labels": {}}, "spec": spec, "status": {}}, [])

    def metrics(name: str) -> NodeMetrics:
        said = METRICS.replace("train-0-x", f"train-{'ab'.index(name)}-x") if name in "ab" else METRICS
        return NodeMetrics(tuple(parse_metrics(said)), "")

    fleet = Fleet.of([node("a"), node("b"), node("c")], [*ranks, web], metrics).of_run(run)
    assert [(load.user.name, load.nodes, load.gpus) for load in fleet.runs] == [
        ("train rank 0", ("a",), 1),
        ("train rank 1", ("b",), 1),
    ]
    assert [(found.name, found.gpu_count, [gpu.index for gpu in found.gpus]) for found in fleet.nodes] == [
        ("a", 1, [0]),
        ("b", 1, [0]),
    ]
    assert fleet.to_json()["runs"][1]["rank"] == 1


def test_a_node_without_metrics_still_says_who_is_there() -> None:
    labels = {"gpuyard.io/gpu-model": "H100", "gpuyard.io/simulated": "true", "nvidia.com/gpu.count": "2"}
    over = {**pod("over", "a"), "status": {"phase": "Succeeded"}}
    fleet = Fleet.of(
        [node("a", labels)], [pod("web", "a"), pod("cpu", "a", gpus=0), over], lambda name: NodeMetrics()
    )
    [found] = fleet.nodes
    assert (found.model, found.simulated, found.gpu_count, found.gpus) == ("H100", True, 2, ())
    assert [user.name for user in found.users] == ["default/web"]
    assert found.unread and fleet.runs == ()


def test_gpus_are_counted_whole_whatever_the_label_counts() -> None:
    fleet = Fleet.of([node("a", {"nvidia.com/gpu.count": "14"})], [], metrics_of)
    assert fleet.nodes[0].gpu_count == len(fleet.nodes[0].gpus)


async def test_one_node_or_all_that_have_gpus(target: Target) -> None:
    for manifest in (node("gpu-a"), node("gpu-b"), node("cpu", gpus=0)):
        await target.api.create(NODES, manifest)
    assert [found.name for found in (await read_fleet(target)).nodes] == ["gpu-a", "gpu-b"]
    assert [found.name for found in (await read_fleet(target, "cpu")).nodes] == ["cpu"]
    with pytest.raises(errors.UsageError, match="no node 'gpu'") as raised:
        await read_fleet(target, "gpu")
    assert raised.value.remedy.startswith("did you mean gpu-")


async def test_what_is_new_is_followed(target: Target) -> None:
    await target.api.create(NODES, node("a"))
    async with follow_fleet(target) as see:
        assert [found.name for found in see().nodes] == ["a"]
        await target.api.create(NODES, node("b"))
        await target.api.create(PODS, pod("web", "b"))
        await until_async(
            lambda: [user.name for found in see().nodes for user in found.users],
            "the new pod is seen",
            lambda names: names == ["default/web"],
        )


@pytest.fixture
async def cluster(target: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    """With a GPU node, a namespace of gpuyard, and a tenant's pod that claims to be an agent. Nothing answers
    behind its proxy: what an agent says is its name here.
    """

    async def text(asker: AgentMetrics, agent: Manifest | None) -> str:
        return f'gpuyard_gpu_info{{UUID="{agent["metadata"]["name"]}"}} 1\n' if agent else ""

    monkeypatch.setattr(AgentMetrics, "_text", text)
    monkeypatch.setattr(agent_metrics, "EVERY_S", 0.01)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gpus", "labels": LABELS}}
    await target.api.create(NAMESPACES, namespace)
    await target.api.create(NODES, node("a"))
    await target.api.create(PODS, pod("spoofed", "a", AGENT_LABELS, gpus=0))
    return replace(target, is_yard=False)


def agents_seen(fleet: Fleet) -> Collection[str]:
    return [gpu.uuid for found in fleet.nodes for gpu in found.gpus]


async def test_only_a_pod_in_a_namespace_of_gpuyard_is_an_agent(cluster: Target) -> None:
    assert agents_seen(await read_fleet(cluster)) == []
    await cluster.api.create(PODS, pod("agent", "a", AGENT_LABELS, namespace="gpus", gpus=0))
    assert agents_seen(await read_fleet(cluster)) == ["agent"]


async def test_the_agent_after_an_update_is_the_one_that_is_asked(cluster: Target) -> None:
    await cluster.api.create(PODS, pod("old", "a", AGENT_LABELS, namespace="gpus", gpus=0))
    async with follow_fleet(cluster) as see:
        await until_async(lambda: agents_seen(see()), "the first agent", lambda found: found == ["old"])
        await cluster.api.delete(PODS, "old", "gpus", grace_period_s=0)
        await cluster.api.create(PODS, pod("new", "a", AGENT_LABELS, namespace="gpus", gpus=0))
        await until_async(lambda: agents_seen(see()), "the next agent", lambda found: found == ["new"])
