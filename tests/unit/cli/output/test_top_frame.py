from dataclasses import replace

import pytest

from gpuyard.cli.output.top_frame import top_lines
from gpuyard.runs.nodes.fleet import Fleet
from gpuyard.runs.nodes.gpu_node import GpuLoad, GpuNode, GpuUser, NodeGpu, run_loads


def fleet(nodes: int, gpus: int, *, unread: int = 0) -> Fleet:
    """Nodes whose GPUs are the busier the later they come, each with a run of its own."""
    found = []
    for n in range(nodes):
        on_it = tuple(
            NodeGpu(
                g,
                f"GPU-{n}-{g}",
                load=GpuLoad(n * gpus + g, 1024 * g, 80 * 1024, 100 + g, 40 + g),
                users=(GpuUser("default", f"p{n}-{g}", run=f"run-{n}-{g}"),),
            )
            for g in range(gpus)
        )
        found.append(GpuNode(f"node-{n:02}", gpu_count=gpus, model="H100", gpus=on_it))
    found += [GpuNode(f"x-{n}", gpu_count=8, unread="its agent doesn't answer") for n in range(unread)]
    return Fleet(tuple(found), tuple(run_loads(found)))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 16), (200, 60)])
@pytest.mark.parametrize("shape", [(1, 8, 0), (13, 8, 1), (2, 1, 0), (0, 0, 0), (0, 0, 3)])
def test_it_fits_the_screen(size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    columns, rows = size
    nodes, gpus, unread = shape
    frame = top_lines(fleet(nodes, gpus, unread=unread), "node", columns, rows)
    assert len(frame.lines) <= rows and max(map(len, frame.lines)) <= columns
    assert all(frame.lines[number].split()[0] in {"NODE", "GPU", "RUN"} for number in frame.headers)


def test_a_pipe_gets_all() -> None:
    frame = top_lines(fleet(13, 8), "node", 1000)
    assert sum("run-" in line for line in frame.lines) == 2 * 13 * 8
    assert not any("more" in line for line in frame.lines)


def test_the_busiest_come_first_where_that_is_wanted() -> None:
    def first(sort: str) -> str:
        lines = top_lines(fleet(2, 2), sort, 120).lines
        return next(line for line in lines[lines.index(next(x for x in lines if "HELD BY" in x)) + 1 :])

    assert first("node").split()[:2] == ["node-00", "0"]
    assert first("util").split()[:2] == ["node-01", "1"]


def test_a_node_that_says_nothing_is_shown_as_such() -> None:
    lines = top_lines(fleet(1, 1, unread=1), "util", 120).lines
    assert any("x-0" in line and "no metrics: its agent doesn't answer" in line for line in lines)


def test_what_is_wrong_is_said_to_its_end() -> None:
    said = "the API doesn't answer: the yard is stopped; start it with `gpuyard up` and look into daemon.log"
    frame = top_lines(replace(fleet(1, 1), partial=said), "node", 40, 24)
    assert max(map(len, frame.lines)) <= 40 and len(frame.lines) <= 24
    assert said in " ".join(frame.lines)


def test_the_summary_counts() -> None:
    lines = top_lines(fleet(2, 2), "node", 120).lines
    assert top_lines(fleet(1, 1), "node", 120).lines[0].endswith(" UTC, 1 GPU, 1 held")
    assert "4 GPUs, 4 held" in lines[0] and lines[1] == "2% busy, 2.0/320 GiB, 402 W"
    assert top_lines(fleet(0, 0), "node", 80).lines[-1] == "No GPUs."
