from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.kube.nodes import without_power
from gpuyard.kube.objects import LEASES, NODES
from gpuyard.local.daemon.yard_node import forget_former_files, forget_former_nodes, plan_nodes
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.paths import YardPaths
from gpuyard.local.settings import Settings


@pytest.fixture
def paths(tmp_path: Path) -> YardPaths:
    return YardPaths(tmp_path / "data", tmp_path / "runtime")


@pytest.mark.parametrize(
    ("simulate", "planned"),
    [
        ("", [("vm", "None")]),
        ("H100:8", [("vm", "H100:8")]),
        ("H100:8,A100:4", [("vm", "H100:8"), ("vm-2", "A100-40GB:4")]),
        ("H100,H100", [("vm", "H100:1"), ("vm-2", "H100:1")]),
    ],
)
def test_what_is_planned(paths: YardPaths, simulate: str, planned: list[tuple[str, str]]) -> None:
    nodes = plan_nodes("VM", paths, simulate)
    assert [(node.name, str(node.simulation)) for node in nodes] == planned
    assert [node.number for node in nodes] == list(range(1, len(planned) + 1))
    # The first keeps what a yard of one node has.
    assert nodes[0].paths == paths
    assert len({node.paths.device_plugins_dir for node in nodes}) == len(nodes)


def test_what_can_not_be_simulated_is_refused_before_anything_starts(paths: YardPaths) -> None:
    for simulate in ("H100:8,", "H100:8,X:1", "H100:0", ",".join(["H100"] * 17)):
        with pytest.raises(errors.UsageError, match="can't simulate"):
            plan_nodes("vm", paths, simulate)


def test_faults_of_gpus_that_are_no_more_are_forgotten(paths: YardPaths) -> None:
    paths.make_folders(3)
    for number in (1, 2, 3):
        paths.of_node(number).simulated_health.write_text("{}")
    plans = plan_nodes("vm", paths, "H100:8,A100:2")
    forget_former_files(paths, Settings("H100:8,A100:4,H100:1"), plans)
    assert paths.simulated_health.exists()
    assert not paths.of_node(2).simulated_health.exists()
    assert not paths.of_node(3).data_dir.exists() and paths.of_node(2).data_dir.exists()


async def test_nodes_that_are_no_more_are_removed_and_others_have_power(api: ObjectApi) -> None:
    for name in ("vm", "vm-2", "vm-3", "other"):
        await api.create(NODES, {"metadata": {"name": name}})
        await api.create(LEASES, {"metadata": {"name": name, "namespace": "kube-node-lease"}})
    await api.update(NODES, without_power(await api.get(NODES, "vm-2")))
    await forget_former_nodes(api, ["vm", "vm-2"])
    nodes = {node["metadata"]["name"]: node for node in (await api.list(NODES)).items}
    assert nodes.keys() == {"vm", "vm-2", "other"}
    assert {lease["metadata"]["name"] for lease in (await api.list(LEASES)).items} == nodes.keys()
    assert not nodes["vm-2"]["spec"].get("taints") and not nodes["vm-2"]["metadata"].get("annotations")
