"""What `node` says of a node's GPUs, for people."""

from __future__ import annotations

import sys

import click

from gpuyard.cli.output.gpu_tables import gpu_table
from gpuyard.cli.output.results import print_fields, terminal_columns
from gpuyard.runs.nodes.gpu_node import GpuNode

#: Columns where the output goes to no terminal.
_WIDE = 200
#: On PCIe these are near; others have to go through a CPU.
_NEAR = {
    "same-board": "one board",
    "one-switch": "one PCIe switch",
    "several-switches": "PCIe switches",
    "host-bridge": "one PCIe host bridge",
}


def print_node(node: GpuNode) -> None:
    """Prints it: the node, a line for each GPU, and what is to be said of some of them."""
    simulated = " (simulated)" if node.simulated else ""
    print_fields(
        [
            ("Node", node.name + (f", {node.not_ready}" if node.not_ready else "")),
            ("GPUs", f"{node.gpu_count} × {node.model or 'GPU'}{simulated}" if node.gpu_count else "none"),
            ("Why", node.none_because),
            ("Driver", ", ".join(filter(None, (node.driver_version, _cuda(node))))),
            ("Links", "\n".join(link_texts(node))),
            ("NUMA", "\n".join(_alike(node, "numa_node"))),
            ("MIG", "\n".join(_alike(node, "mig"))),
            ("Sharing", "\n".join(_sharing(node))),
        ]
    )
    if node.gpus:
        click.echo()
        columns = terminal_columns(sys.stdout) if sys.stdout.isatty() else _WIDE
        for line in gpu_table([(node, gpu) for gpu in node.gpus], with_nodes=False).lines(columns):
            click.echo(line)
    elif node.users:
        click.echo(f"\nIts GPUs are held by {', '.join(dict.fromkeys(user.name for user in node.users))}.")
    for fault in node.faults:
        click.echo(str(fault))
    for gpu in node.gpus:
        if gpu.unoffered:
            click.echo(f"GPU {gpu.index} {gpu.unoffered}")
    for occupant in node.occupants:
        click.echo(str(occupant))
    if node.unread and node.gpu_count:
        click.echo(f"What its GPUs do isn't known: {node.unread}.", err=True)


def _cuda(node: GpuNode) -> str:
    return f"CUDA {node.cuda_version}" if node.cuda_version else ""


def _alike(node: GpuNode, field: str) -> list[str]:
    """What the GPUs have in common is said once: `18 NVLinks …: GPUs 0-7`."""
    by_value: dict[str, list[int]] = {}
    for gpu in node.gpus:
        value = getattr(gpu, field)
        if value is not None and value != "":
            by_value.setdefault(str(value), []).append(gpu.index)
    if len(by_value) == 1 and all(len(indexes) == len(node.gpus) for indexes in by_value.values()):
        return list(by_value)
    return [f"{value}: {_indexes(indexes)}" for value, indexes in by_value.items()]


def _sharing(node: GpuNode) -> list[str]:
    shared: dict[str, dict[int, None]] = {}
    for gpu in node.gpus:
        ways = [(gpu.sharing, gpu.replicas), *((part.sharing, part.replicas) for part in gpu.parts)]
        for how, replicas in ways:
            if replicas > 1:
                shared.setdefault(f"{how} ×{replicas}", {})[gpu.index] = None
    return [f"{how}: {_indexes(list(indexes))}" for how, indexes in shared.items()]


def link_texts(node: GpuNode) -> list[str]:
    """`18 NVLinks between any two of GPUs 0-7`; and which are near one another on PCIe."""
    pairs: dict[str, set[frozenset[int]]] = {}
    for gpu in node.gpus:
        for link in gpu.links:
            if link.nvlinks:
                pairs.setdefault(gpu.links_text(link.nvlinks), set()).add(frozenset((gpu.index, link.peer)))
            if link.pcie in _NEAR:
                pairs.setdefault(_NEAR[link.pcie], set()).add(frozenset((gpu.index, link.peer)))
    return [f"{kind} between {_pairs_text(found)}" for kind, found in pairs.items()]


def _pairs_text(pairs: set[frozenset[int]]) -> str:
    groups = _complete_groups(pairs)
    if groups is None:
        return ", ".join(" and ".join(map(str, sorted(pair))) for pair in sorted(pairs, key=sorted))
    return f"any two of {', and of '.join(_indexes(sorted(group)) for group in groups)}"


def _complete_groups(pairs: set[frozenset[int]]) -> list[set[int]] | None:
    """Groups in each of which all pairs are there; None where they don't fall into such."""
    groups: list[set[int]] = []
    for pair in pairs:
        touched = [group for group in groups if group & pair]
        groups = [group for group in groups if group not in touched]
        groups.append(set(pair).union(*touched))
    if sum(len(group) * (len(group) - 1) // 2 for group in groups) != len(pairs):
        return None
    return sorted(groups, key=min)


def _indexes(indexes: list[int]) -> str:
    """`GPU 3`, `GPUs 0-3, 6`."""
    spans: list[list[int]] = []
    for index in sorted(indexes):
        if spans and index == spans[-1][1] + 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"{'GPU' if len(indexes) == 1 else 'GPUs'} {text}"
