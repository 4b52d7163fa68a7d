"""`gpuyard nodes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gpuyard.cli.options.shared import output_option, target_options


@click.command("nodes", epilog="\b\nExample:\n  gpuyard nodes -o json\n")
@target_options
@output_option()
def command(context: str | None, namespace: str | None, output: str | None) -> None:
    """List nodes, their GPUs, and what is free on them."""
    import asyncio

    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import print_json, print_table, print_wrapped
    from gpuyard.gpus.resources import gpus_in
    from gpuyard.kube.objects import NODES, PODS
    from gpuyard.kube.wellknown import LABEL_GPU_MODEL, LABEL_SIMULATED
    from gpuyard.runs.target import Target
    from gpuyard.scheduling.snapshot import Snapshot

    async def work(target: Target) -> Snapshot:
        nodes, pods = await asyncio.gather(target.api.list(NODES), target.api.list(PODS))
        return Snapshot.of(nodes.items, pods.items)

    snapshot = call(work, context=context, namespace=namespace)
    found: list[dict[str, Any]] = [
        {
            "name": node.name,
            "ready": node.ready,
            "not_ready": None if node.ready else node.not_ready,
            "gpu_model": node.labels.get(LABEL_GPU_MODEL),
            "simulated": node.labels.get(LABEL_SIMULATED) == "true",
            "gpus": gpus_in(node.allocatable),
            # A GPU that fell sick under its run is allotted, and not allocatable any more.
            "gpus_free": max(0, gpus_in(node.allocatable) - gpus_in(node.allotted)) if node.ready else 0,
            "faults": [fault.to_json() for fault in node.faults],
            "occupants": [occupant.to_json() for occupant in node.occupants],
            "unoffered": node.unoffered or None,
            "cpu_milli": node.allocatable.get("cpu", 0),
            "cpu_milli_free": node.free("cpu") if node.ready else 0,
            "memory_bytes": node.allocatable.get("memory", 0),
            "memory_bytes_free": node.free("memory") if node.ready else 0,
            "pods": node.allotted.get("pods", 0),
        }
        for node in snapshot.nodes.values()
    ]
    if output == "json":
        print_json(found)
        return
    print_table(
        ["NAME", "STATUS", "GPU", "GPUS FREE", "CPU FREE", "MEMORY FREE", "PODS"],
        [_row(node) for node in found],
        flexible=0,
        drop=("PODS", "CPU FREE", "MEMORY FREE"),
    )
    for row in found:
        if not row["ready"]:
            print_wrapped(f"{row['name']} is {row['not_ready']}")
    for node in snapshot.nodes.values():
        if node.no_gpus:
            print_wrapped(f"{node.name} has no GPUs to give: {node.no_gpus}")
        if node.unoffered:
            print_wrapped(f"not offered by {node.name}: {node.unoffered}")
        for fault in node.faults:
            print_wrapped(fault.on_node(node.name))
        for occupant in node.occupants:
            print_wrapped(occupant.on_node(node.name))


def _row(node: Mapping[str, Any]) -> list[str]:
    from gpuyard.kube.quantity import format_milli

    memory = [f"{node[key] / 2**30:.1f}Gi" for key in ("memory_bytes_free", "memory_bytes")]
    return [
        node["name"],
        "ready" if node["ready"] else "not ready",
        f"{node['gpu_model'] or ''}{' (simulated)' if node['simulated'] else ''}",
        f"{node['gpus_free']}/{node['gpus']}",
        f"{format_milli(node['cpu_milli_free'])}/{format_milli(node['cpu_milli'])}",
        "/".join(memory),
        str(node["pods"]),
    ]
