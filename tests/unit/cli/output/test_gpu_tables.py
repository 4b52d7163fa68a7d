from gpuyard.cli.output.gpu_tables import GpuTable, gpu_table, memory, node_state, node_table, watts
from gpuyard.gpus.faults import GpuFault
from gpuyard.gpus.occupants import Occupant
from gpuyard.runs.nodes.gpu_node import GpuLoad, GpuNode, GpuPart, GpuUser, NodeGpu

USER = GpuUser("default", "train-0", run="train")
BUSY = GpuLoad(97, 70 * 1024, 80 * 1024, 640, 65)


def test_each_gpu_says_what_it_does_and_who_has_it() -> None:
    stranger = Occupant(2, "GPU-c", "alice", pid=4711, command="python")
    gpus = (
        NodeGpu(0, "GPU-a", load=BUSY, users=(USER,)),
        NodeGpu(1, "GPU-b", fault=GpuFault(1, "GPU-b", "XID 79", "")),
        NodeGpu(2, "GPU-c", occupants=(stranger, Occupant(2, "GPU-c", "bob", home="/home/bob"))),
        NodeGpu(3, "GPU-d", replicas=4, users=(USER,)),
        NodeGpu(4, "GPU-e", parts=(GpuPart("1", "3g.40gb", index=0, users=(USER,)), GpuPart("2", "3g.40gb"))),
        NodeGpu(5, "GPU-f", replicas=2, fault=GpuFault(5, "GPU-f", "XID 79", "")),
    )
    node = GpuNode("a", model="H100", gpus=gpus)
    lines = gpu_table([(node, gpu) for gpu in gpus], with_nodes=False).lines(200)
    assert [" ".join(line.split()) for line in lines] == [
        "GPU MODEL UTIL MEMORY POWER TEMP HELD BY",
        "0 H100 97% 70.0/80 GiB 640 W 65 °C train",
        "1 H100 - - - - unhealthy: XID 79",
        "2 H100 - - - - alice, pid 4711, not a run, the yard of bob",
        "3 H100 - - - - train (1 of 4 places)",
        "4 H100 - - - - 1 of 2 parts",
        "4:0 3g.40gb - - train",
        "4:2 3g.40gb - - -",
        "5 H100 - - - - 0 of 2 places, unhealthy: XID 79",
    ]


def test_a_table_is_no_wider_and_no_longer_than_its_room() -> None:
    node = GpuNode("a-node-with-a-long-name.example.com", model="H100")
    rows = [(node, NodeGpu(n, f"GPU-{n}", load=BUSY, users=(USER,))) for n in range(8)]
    lines = gpu_table(rows, with_nodes=True).lines(60, 4)
    assert max(map(len, lines)) <= 60
    assert len(lines) == 5 and lines[-1].startswith("… and 5 more")


def test_control_characters_do_not_come_through() -> None:
    assert GpuTable(["A"], [["\x1b[2J"]], "A").lines(80) == ["A", "\\x1b[2J"]


def test_a_node_says_what_is_wrong_with_it() -> None:
    assert node_state(GpuNode("a")) == "ready"
    assert node_state(GpuNode("a", faults=(GpuFault(1, "GPU-b", "lost", ""),))) == "1 unhealthy"
    assert node_state(GpuNode("a", unread="no agent")) == "no metrics: no agent"
    assert node_state(GpuNode("a", not_ready="not ready since 12:00", unread="x")) == "not ready since 12:00"
    # Nobody knows how many of its GPUs are held.
    assert node_table([GpuNode("a", gpu_count=8, unread="x")], [GpuLoad()]).rows[0][2] == "?"


def test_values_as_people_read_them() -> None:
    assert memory(GpuLoad(memory_used_mib=512)) == "0.5 GiB"
    assert watts(GpuLoad(power_w=12_345)) == "12.3 kW"
