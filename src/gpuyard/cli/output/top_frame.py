"""One picture of `top`: a summary, nodes, GPUs and runs, in as many lines as there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

from gpuyard.cli.output.gpu_tables import GpuTable, gpu_table, memory, node_table, percent, run_table, watts
from gpuyard.cli.output.results import wrap
from gpuyard.runs.nodes.fleet import Fleet
from gpuyard.runs.nodes.gpu_node import GpuLoad, sum_load

#: What a load is sorted by, the highest first.
_FIELDS = {
    "util": "utilisation_percent",
    "memory": "memory_used_mib",
    "power": "power_w",
    "temp": "temperature_c",
}
#: A table is cut to its header, one row and how many more there are, and not further.
_LEAST_ROWS = 2


@dataclass(frozen=True)
class TopFrame:
    """Lines, and the numbers of those that are headers."""

    lines: Sequence[str]
    headers: Sequence[int]


def top_lines(fleet: Fleet, sort: str, columns: int, rows: int | None = None) -> TopFrame:
    """The picture.

    Args:
        fleet: what there is.
        sort: see `top`.
        columns: no line is longer.
        rows: of the screen; None to leave nothing out.
    """
    notes = [line for note in _notes(fleet) for line in wrap(note, columns)]
    blocks = [[line[:columns] for line in _summary(fleet)]]
    tables = _tables(fleet, sort)
    room = None if rows is None else rows - len(blocks[0]) - len(notes) - 2 * len(tables) - bool(notes)
    counts = [len(table.rows) for table in tables]
    for table, most in zip(tables, _shares(counts, room), strict=True):
        blocks.append(table.lines(columns, most))
    starts = list(accumulate((len(block) + 1 for block in blocks), initial=0))
    if notes:
        blocks.append([note[:columns] for note in notes])  # A word may be longer.
    lines = [line for block in blocks for line in (*block, "")][:-1]
    return TopFrame(lines, starts[1 : 1 + len(tables)])


def _tables(fleet: Fleet, sort: str) -> list[GpuTable]:
    order = _order(sort)
    nodes = [(node, sum_load(gpu.load for gpu in node.gpus)) for node in fleet.nodes]
    if sort in _FIELDS:
        nodes.sort(key=lambda row: order(row[1]))
    gpus = [(node, gpu) for node in fleet.nodes for gpu in node.gpus]
    if sort in _FIELDS:
        gpus.sort(key=lambda row: order(row[1].load))
    runs = sorted(fleet.runs, key=lambda run: order(run.load)) if sort in _FIELDS else list(fleet.runs)
    tables = []
    if len(nodes) > 1 or any(node.unread or node.not_ready for node, _ in nodes):
        tables.append(node_table([node for node, _ in nodes], [load for _, load in nodes]))
    if gpus:
        tables.append(gpu_table(gpus, with_nodes=len(nodes) > 1))
    if runs:
        tables.append(run_table(runs))
    return tables


def _order(sort: str) -> Callable[[GpuLoad], float]:
    def key(load: GpuLoad) -> float:
        value = getattr(load, _FIELDS[sort])
        return 1.0 if value is None else -value

    return key


def _shares(counts: Sequence[int], room: int | None) -> list[int | None]:
    """How many rows each table gets: what all have room for, and else what is left when the small ones have
    theirs."""
    if room is None:
        return [None] * len(counts)
    shares: dict[int, int] = {}
    left = room
    for done, number in enumerate(sorted(range(len(counts)), key=lambda n: counts[n])):
        shares[number] = max(_LEAST_ROWS, min(counts[number], left // (len(counts) - done)))
        left -= shares[number]
    return [shares[number] for number in range(len(counts))]


def _summary(fleet: Fleet) -> list[str]:
    """How many GPUs there are and what of them is had; and what they do together, where that is known."""
    gpus = [gpu for node in fleet.nodes for gpu in node.gpus]
    total, load = sum(node.gpu_count for node in fleet.nodes), sum_load(gpu.load for gpu in gpus)
    simulated = [node for node in fleet.nodes if node.simulated]
    said = (
        "" if not simulated else " (simulated)" if len(simulated) == len(fleet.nodes) else " (some simulated)"
    )
    sick = sum(len(node.faults) for node in fleet.nodes)
    counts = [
        f"{datetime.now(UTC):%H:%M:%S} UTC",
        f"{total} GPU{'' if total == 1 else 's'}{said}",
        f"{sum(bool(gpu.all_users) for gpu in gpus)} held" if gpus else "",
        f"{sick} unhealthy" if sick else "",
    ]
    measured = [
        f"{percent(load.utilisation_percent)} busy" if load.utilisation_percent is not None else "",
        memory(load) if load.memory_used_mib is not None else "",
        watts(load) if load.power_w is not None else "",
    ]
    return [text for texts in (counts, measured) if (text := ", ".join(filter(None, texts)))]


def _notes(fleet: Fleet) -> list[str]:
    """What no table has room for."""
    if not fleet.nodes:
        return ["No GPUs.", *([fleet.partial] if fleet.partial else [])]
    return [fleet.partial] if fleet.partial else []
