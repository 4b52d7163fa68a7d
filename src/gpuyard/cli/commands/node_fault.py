"""`gpuyard node fault`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import complete_contexts, complete_nodes, output_option

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
  gpuyard node fault yard-2 --down              # of several nodes one loses its power
  gpuyard node fault yard-2 --up
""",
)
@click.argument("node", required=False, default="", metavar="[NODE]", shell_complete=complete_nodes)
@click.option("--gpu", type=click.IntRange(min=0), metavar="N", help="Its index.")
@click.option(
    "--xid",
    "fault",
    metavar="FAULT",
    shell_complete=_complete_faults,
    help="The number of an XID, or lost, hot, ecc; recovered takes the fault away.",
)
@click.option("--down", "power", flag_value="off", help="Take the node's power away: all on it is killed.")
@click.option("--up", "power", flag_value="on", help="Give the node its power back.")
@click.option(
    "--context", metavar="CONTEXT", shell_complete=complete_contexts, help="Faults go to the yard only."
)
@output_option()
def command(
    node: str,
    gpu: int | None,
    fault: str | None,
    power: str | None,
    context: str | None,
    output: str | None,
) -> None:
    """Put a fault on a simulated GPU of the yard, as a broken one would have it, or on a whole node.

    The agent takes the GPU out of what runs can have, and says why: see `gpuyard nodes` and `gpuyard
    explain`. Real GPUs have their own faults. NODE is needed where the yard has several.

    A node without power is not ready and counts as confirmed to be down: its pods are given up at once, and
    their runs go on elsewhere. When the yard is started again all its nodes have power.
    """
    import os

    from gpuyard import errors
    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import print_json
    from gpuyard.local.paths import find_paths
    from gpuyard.runs.nodes.simulated_fault import fault_reason, put_fault, switch_power

    paths = find_paths(os.environ)
    if power and gpu is None and fault is None:
        on = power == "on"
        switched = call(lambda target: switch_power(target, paths, node, on=on), context=context)
        name = switched["metadata"]["name"]
        if output == "json":
            print_json({"node": name, "simulated": True, "power": power})
        else:
            click.echo(f"node {name} {'has power again' if on else 'has lost its power'} (simulated)")
        return
    if power or gpu is None or fault is None:
        raise errors.UsageError(
            "a fault is a GPU's or a node's",
            remedy="give --gpu N with --xid FAULT, or --down, or --up",
        )
    reason, index = fault_reason(fault), gpu

    async def work(target: Target) -> tuple[Manifest, GpuFault | None]:
        return await put_fault(target, paths, node, index, reason)

    found_node, found = call(work, context=context)
    name = found_node["metadata"]["name"]
    if output == "json":
        print_json({"node": name, "gpu": gpu, "simulated": True, "fault": found and found.to_json()})
    elif found:
        click.echo(f"{found.on_node(name)} (simulated)")
    else:
        click.echo(f"GPU {gpu} of node {name} is healthy (simulated)")
