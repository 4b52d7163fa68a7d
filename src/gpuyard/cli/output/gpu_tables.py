"""Tables of GPUs and of those who have them, for `node` and `top`; as lines, so that they can be counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuyard.cli.output.results import fit_table, table_lines
from gpuyard.cli.output.terminal_text import plain
from gpuyard.gpus.occupants import Occupant
from gpuyard.runs.nodes.gpu_node import GpuLoad, GpuNode, NodeGpu, RunLoad

_NOBODY = "-"


@dataclass(frozen=True)
class GpuTable:
    """A header and rows; `flexible` is the column that is cut first, `drop` those that are left out then."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    flexible: str
    drop: Sequence[str] = ()

    def lines(self, columns: int, most: int | None = None) -> list[str]:
        """The table, no wider than this; with more rows than `most` the last line says how many more."""
        rows = list(self.rows)
        if most is not None and len(rows) > most:
            rows = rows[: max(0, most - 1)]
        table = [list(self.header), *([plain(cell).replace("\n", " ") for cell in row] for row in rows)]
        fitted = fit_table(table, columns, flexible=self.header.index(self.flexible), drop=self.drop)
        lines = table_lines(fitted)
        if left := len(self.rows) - len(rows):
            lines.append(f"… and {left} more: `gpuyard top --once` shows all")
        return lines


def gpu_table(rows: Sequence[tuple[GpuNode, NodeGpu]], *, with_nodes: bool) -> GpuTable:
    """What each GPU does, and who has it; a part of a GPU is a line of its own."""
    header = ["GPU", "MODEL", "UTIL", "MEMORY", "POWER", "TEMP", "HELD BY"]
    found: list[list[str]] = []
    for node, gpu in rows:
        place = [node.name] if with_nodes else []
        index = str(gpu.index) if gpu.index >= 0 else gpu.uuid
        load = gpu.load
        measured = [percent(load.utilisation_percent), memory(load), watts(load), celsius(load)]
        found.append([*place, index, gpu.model or node.model, *measured, held_by(gpu)])
        for part in gpu.parts:
            own = [percent(part.load.utilisation_percent), memory(part.load), "", ""]
            names = ", ".join(dict.fromkeys(user.name for user in part.users))
            found.append(
                [
                    *place,
                    part.name_on(index),
                    part.profile,
                    *own,
                    names or _NOBODY,
                ]
            )
    return GpuTable(
        [*(["NODE"] if with_nodes else ()), *header], found, "HELD BY", ("TEMP", "POWER", "MODEL")
    )


def node_table(nodes: Sequence[GpuNode], loads: Sequence[GpuLoad]) -> GpuTable:
    """One line a node."""
    rows = [
        [
            node.name,
            f"{node.gpu_count} × {node.model or 'GPU'}{' (simulated)' if node.simulated else ''}",
            str(sum(bool(gpu.all_users) for gpu in node.gpus)) if node.gpus else "?",
            percent(load.utilisation_percent),
            memory(load),
            watts(load),
            celsius(load),
            node_state(node),
        ]
        for node, load in zip(nodes, loads, strict=True)
    ]
    header = ["NODE", "GPUS", "HELD", "UTIL", "MEMORY", "POWER", "TEMP", "STATE"]
    return GpuTable(header, rows, "STATE", ("TEMP", "POWER", "HELD"))


def run_table(runs: Sequence[RunLoad]) -> GpuTable:
    """One line for each run, and for each pod of somebody else."""
    rows = [
        [
            run.user.name,
            ", ".join(run.nodes),
            f"{run.gpus}{' (simulated)' if run.simulated else ''}",
            percent(run.load.utilisation_percent) + (" shared" if run.shared else ""),
            memory(run.load),
            watts(run.load),
        ]
        for run in runs
    ]
    return GpuTable(["RUN", "NODES", "GPUS", "UTIL", "MEMORY", "POWER"], rows, "NODES", ("POWER", "MEMORY"))


def held_by(gpu: NodeGpu) -> str:
    """Who has it, or what keeps it from being had."""
    names = list(dict.fromkeys(user.name for user in gpu.users))
    if gpu.replicas > 1:
        taken = f"{len(gpu.users)} of {gpu.replicas} places"
        names = [f"{', '.join(names)} ({taken})" if names else taken]
    if gpu.parts:
        names.append(f"{sum(bool(part.users) for part in gpu.parts)} of {len(gpu.parts)} parts")
    if gpu.fault:
        names.append(f"unhealthy: {gpu.fault.reason}")
    names += [_occupant_text(occupant) for occupant in gpu.occupants]
    return ", ".join(names) or _NOBODY


def _occupant_text(occupant: Occupant) -> str:
    """In the few letters that a table has; `node` says all."""
    user = occupant.user or "somebody"
    return f"{user}, pid {occupant.pid}, not a run" if occupant.pid else f"the yard of {user}"


def node_state(node: GpuNode) -> str:
    """`ready`, or what isn't as it should be."""
    if node.not_ready:
        return node.not_ready
    if node.none_because:
        return node.none_because
    if node.unread:
        return f"no metrics: {node.unread}"
    return f"{len(node.faults)} unhealthy" if node.faults else "ready"


def percent(value: float | None) -> str:
    """`41%`; `-` where nobody says."""
    return _NOBODY if value is None else f"{value:.0f}%"


def memory(load: GpuLoad) -> str:
    """`70.1/79.6 GiB`."""
    used, total = load.memory_used_mib, load.memory_mib
    if used is None:
        return _NOBODY
    return f"{used / 1024:.1f}{'' if total is None else f'/{total / 1024:.0f}'} GiB"


def watts(load: GpuLoad) -> str:
    """`640 W`, and `5.1 kW` from ten kilowatts on."""
    if load.power_w is None:
        return _NOBODY
    return f"{load.power_w:.0f} W" if load.power_w < 10_000 else f"{load.power_w / 1000:.1f} kW"


def celsius(load: GpuLoad) -> str:
    """`65 °C`."""
    return _NOBODY if load.temperature_c is None else f"{load.temperature_c:.0f} °C"
