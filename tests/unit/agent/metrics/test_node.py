from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gpuyard.agent.gpu_use.ledger import PodName
from gpuyard.agent.marks_file import NodeMarks
from gpuyard.agent.metrics import families
from gpuyard.agent.metrics.energy import EnergyAccount
from gpuyard.agent.metrics.holdings import Holding, Holdings
from gpuyard.agent.metrics.node import NodeFacts, NodeScrape
from gpuyard.agent.metrics.shares import PodShare
from gpuyard.devices.inventory import Health, Inventory
from gpuyard.devices.readings import Reading
from gpuyard.gpus.occupants import Occupant, format_occupants
from gpuyard.kube.wellknown import ANNOTATION_GPU_OCCUPANTS

FOREIGN = Occupant(1, "MIG-1", "alice", pid=4711, command="python", memory_mib=2048)


def samples(text: str, name: str) -> Iterator[tuple[str, float]]:
    """Labels and value of each sample of a metric."""
    for line in text.splitlines():
        if line.startswith(f"{name}{{"):
            labels, _, value = line.removeprefix(f"{name}{{").rpartition("} ")
            yield labels, float(value)


def held(device: str, pod: str, container: str = "main") -> Holding:
    return Holding("team", pod, container, "nvidia.com/gpu", device)


def test_labels_are_dcgm_exporters_with_both_names_of_the_host(inventory: Inventory) -> None:
    gpu = inventory.devices[0]
    state = NodeFacts("node-1", inventory, Holdings((held(gpu.uuid, "train-0-x7k2p"),)))
    found = NodeScrape(state, {gpu.uuid: Reading(temperature_c=66)})
    assert list(samples(found.text(), "DCGM_FI_DEV_GPU_TEMP")) == [
        (
            f'Hostname="node-1",hostname="node-1",gpu="0",UUID="{gpu.uuid}",pci_bus_id="00000000:10:00.0",'
            'device="nvidia0",modelName="Simulated NVIDIA H100 80GB HBM3",'
            'container="main",namespace="team",pod="train-0-x7k2p",scope="pod"',
            66,
        )
    ]


def test_what_the_driver_does_not_say_is_not_there(inventory: Inventory) -> None:
    gpu = inventory.devices[0]
    text = NodeScrape(NodeFacts("n", inventory), {gpu.uuid: Reading(power_w=0.0)}).text()
    assert [value for _, value in samples(text, "DCGM_FI_DEV_POWER_USAGE")] == [0.0]
    assert "DCGM_FI_DEV_GPU_UTIL" not in text
    assert "gpuyard_gpu_throttled" not in text
    assert "gpuyard_pod_resources_age_seconds" not in text


def test_no_value_of_a_gpu_is_told_for_two_pods(inventory: Inventory) -> None:
    gpu, split = inventory.devices
    readings = {
        uuid: Reading(temperature_c=50, memory_used_mib=1000)
        for uuid in (gpu.uuid, split.uuid, "MIG-0", "MIG-1")
    }
    holdings = Holdings((
        held(f"{gpu.uuid}::0", "a-0-x7k2p"),
        held(f"{gpu.uuid}::1", "b-0-x7k2p"),
        held("MIG-0", "c-0-x7k2p"),
    ))  # fmt: skip
    text = NodeScrape(NodeFacts("n", inventory, holdings), readings).text()
    used = [labels for labels, _ in samples(text, "DCGM_FI_DEV_FB_USED")]
    assert {labels.split("modelName=")[1].split(",", 1)[1] for labels in used} == {
        'scope="gpu"',
        'GPU_I_PROFILE="3g.40gb",GPU_I_ID="1",container="main",namespace="team",pod="c-0-x7k2p",scope="pod"',
        'GPU_I_PROFILE="3g.40gb",GPU_I_ID="2",scope="instance"',
    }
    assert len(used) == 4
    assert [value for _, value in samples(text, "gpuyard_gpu_holders")] == [2, 1]
    shares = [labels.rsplit("pod=", 1)[1] for labels, _ in samples(text, "gpuyard_allocation")]
    assert shares == [
        '"a-0-x7k2p",scope="share"',
        '"b-0-x7k2p",scope="share"',
        '"c-0-x7k2p",scope="pod"',
    ]


def test_a_fault_says_why_and_since_when(inventory: Inventory) -> None:
    since = datetime(2026, 1, 31, 12, tzinfo=UTC)
    gpu = inventory.devices[0]
    sick = replace(gpu, health=Health("XID 79", since))
    readings = {gpu.uuid: Reading(xids={13: 2, 79: 1}, last_xid=79)}
    text = NodeScrape(NodeFacts("n", replace(inventory, devices=(sick,), links={})), readings).text()
    assert [value for _, value in samples(text, "gpuyard_gpu_healthy")] == [0]
    ((labels, value),) = samples(text, "gpuyard_gpu_fault_since_seconds")
    assert (labels.endswith('reason="XID 79"'), value) == (True, since.timestamp())
    counted = [
        (labels.rpartition(",")[2], value) for labels, value in samples(text, "gpuyard_gpu_xids_total")
    ]
    assert counted == [('xid="13"', 2), ('xid="79"', 1)]
    assert [value for _, value in samples(text, "DCGM_FI_DEV_XID_ERRORS")] == [79]


@pytest.mark.parametrize("reasons", [(), ("sw_power_cap", "hw_thermal_slowdown")])
def test_each_cause_of_low_clocks_is_there_and_says_whether_it_holds(
    inventory: Inventory, reasons: tuple[str, ...]
) -> None:
    readings = {inventory.devices[0].uuid: Reading(sm_clock_mhz=1, throttle_reasons=reasons)}
    text = NodeScrape(NodeFacts("n", inventory), readings).text()
    found = {
        labels.rpartition("=")[2].strip('"'): value
        for labels, value in samples(text, "gpuyard_gpu_throttled")
    }
    assert len(found) == 6
    assert {reason for reason, value in found.items() if value} == set(reasons)


def test_a_node_says_what_it_does_not_know() -> None:
    text = NodeScrape(NodeFacts("n")).text()
    assert [value for _, value in samples(text, "gpuyard_pod_resources_up")] == [0]
    assert "gpuyard_driver_up" not in text


def test_a_driver_that_is_gone_and_a_kubelet_that_is_silent_are_told(inventory: Inventory) -> None:
    gone = replace(inventory, detail='the "driver" is gone')
    text = NodeScrape(NodeFacts("n", gone), holdings_age_s=12.3456).text()
    assert list(samples(text, "gpuyard_driver_up")) == [
        ('Hostname="n",hostname="n",detail="the \\"driver\\" is gone"', 0)
    ]
    assert [value for _, value in samples(text, "gpuyard_pod_resources_age_seconds")] == [12.346]


def test_every_family_is_named_once_with_help_and_kind(inventory: Inventory) -> None:
    every = Reading(**{family.reading: 1 for family in families.MEASURED}, xids={79: 1}, last_xid=79)  # type: ignore[arg-type]
    gpu, split = inventory.devices
    sick = replace(gpu, health=Health("lost", datetime(2026, 1, 1, tzinfo=UTC)))
    marks = NodeMarks(
        annotations={ANNOTATION_GPU_OCCUPANTS: format_occupants([FOREIGN])},
        gpus={gpu.uuid: {"unoffered": "is split"}},
    )
    state = NodeFacts("n", replace(inventory, devices=(sick, split)), Holdings((held(gpu.uuid, "a"),)), marks)
    energy, share = EnergyAccount("team", "a", "pod"), PodShare("MIG-1", PodName("team", "b"), 512)
    text = NodeScrape(state, {gpu.uuid: every}, 1.0, True, {energy: 5.0}, (share,)).text()
    for family in families.FAMILIES:
        assert text.count(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n") == 1
    assert text.count("# TYPE") == len(families.FAMILIES)


def test_processes_that_are_no_run_are_counted_on_their_gpu(inventory: Inventory) -> None:
    yard = Occupant(0, inventory.devices[0].uuid, "bob", home="/home/bob/.gpuyard", run="train")
    silent = replace(FOREIGN, pid=4712, memory_mib=None)
    marks = NodeMarks(annotations={ANNOTATION_GPU_OCCUPANTS: format_occupants([FOREIGN, silent, yard])})
    text = NodeScrape(NodeFacts("n", inventory, marks=marks, sees_processes=True)).text()
    assert [value for _, value in samples(text, "gpuyard_gpu_foreign_processes")] == [0, 2]
    assert [value for _, value in samples(text, "gpuyard_gpu_foreign_process_memory_bytes")] == [
        0,
        2048 << 20,
    ]
    assert "4711" not in text and "alice" not in text, "a series for each process would never end"


@pytest.mark.parametrize(("marks", "sees"), [(None, True), (NodeMarks(), False)])
def test_what_nobody_can_see_is_not_counted(
    inventory: Inventory, marks: NodeMarks | None, sees: bool
) -> None:
    text = NodeScrape(NodeFacts("n", inventory, marks=marks, sees_processes=sees)).text()
    assert "gpuyard_gpu_foreign" not in text


def test_how_gpus_and_parts_are_shared_and_what_is_not_offered(inventory: Inventory) -> None:
    gpu, split = inventory.devices
    marks = NodeMarks(
        gpus={
            gpu.uuid: {"sharing": "mps", "replicas": "4"},
            "MIG-1": {"sharing": "time-slicing", "replicas": "2"},
            split.uuid: {"unoffered": "has 1c.3g.40gb"},
        }
    )
    text = NodeScrape(NodeFacts("n", inventory, marks=marks)).text()
    shared = 'sharing="{}",replicas="{}"'.format
    assert [shared("mps", 4) in labels for labels, _ in samples(text, "gpuyard_gpu_info")] == [True, False]
    parts = [shared("time-slicing", 2) in labels for labels, _ in samples(text, "gpuyard_mig_instance_info")]
    assert parts == [False, True]
    ((labels, value),) = samples(text, "gpuyard_gpu_unoffered")
    assert split.uuid in labels and labels.endswith('reason="has 1c.3g.40gb"') and value == 1


def test_a_pods_memory_on_a_shared_part_names_both(inventory: Inventory) -> None:
    share = PodShare("MIG-1", PodName("team", "b"), 512)
    text = NodeScrape(NodeFacts("n", inventory), shares=(share,)).text()
    ((labels, value),) = samples(text, "gpuyard_pod_gpu_memory_bytes")
    assert value == 512 << 20 and inventory.devices[1].uuid in labels
    assert labels.endswith('GPU_I_PROFILE="3g.40gb",GPU_I_ID="2",namespace="team",pod="b",scope="share"')
