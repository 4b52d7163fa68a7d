"""`gpuyard node fault`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import complete_contexts, output_option

if TYPE_CHECKING:
    from gpuyard.gpus.faults import GpuFault
    from gpuyard.kube.objects import Manifest
    from gpuyard.runs.target import Target


def _complete_faults(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from gpuyard.runs.nodes.simulated_fault import NAMED_FAULTS

    return [name for name in ("79", "48", *NAMED_FAULTS) if name.startswith(incomplete)]


@click.command(
    "fault",
    epilog="""\b
Examples:
  gpuyard node fault --gpu 3 --xid 79           # it has fallen off the bus
  gpuyard node fault --gpu 3 --xid hot
  gpuyard node fault --gpu 3 --xid recovered    # it is well again
""",
)
@click.option("--gpu", type=click.IntRange(min=0), required=True, metavar="N", help="Its index.")
@click.option(
    "--xid",
    "fault",
    required=True,
    metavar="FAULT",
    shell_complete=_complete_faults,
    help="The number of an XID, or lost, hot, ecc; recovered takes the fault away.",
)
@click.option(
    "--context", metavar="CONTEXT", shell_complete=complete_contexts, help="Faults go to the yard only."
)
@output_option()
def command(gpu: int, fault: str, context: str | None, output: str | None) -> None:
    """Put a fault on a simulated GPU of the yard, as a broken one would have it.

    The agent takes the GPU out of what runs can have, and says why: see `gpuyard nodes` and `gpuyard
    explain`. Real GPUs have their own faults.
    """
    import os

    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import print_json
    from gpuyard.local.paths import find_paths
    from gpuyard.runs.nodes.simulated_fault import fault_reason, put_fault

    reason = fault_reason(fault)

    async def work(target: Target) -> tuple[Manifest, GpuFault | None]:
        return await put_fault(target, find_paths(os.environ).simulated_health, gpu, reason)

    node, found = call(work, context=context)
    name = node["metadata"]["name"]
    if output == "json":
        print_json({"node": name, "gpu": gpu, "simulated": True, "fault": found and found.to_json()})
    elif found:
        click.echo(f"{found.on_node(name)} (simulated)")
    else:
        click.echo(f"GPU {gpu} of node {name} is healthy (simulated)")
