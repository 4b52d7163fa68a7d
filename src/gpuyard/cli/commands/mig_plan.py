"""`gpuyard node mig plan`."""

from __future__ import annotations

from pathlib import Path

import click

from gpuyard.cli.options.mig import driver_root_option, layout_argument, node_option
from gpuyard.cli.options.shared import output_option


@click.command(
    "plan",
    epilog="""\b
Examples:
  gpuyard node mig plan "0: 3g.40gb 3g.40gb; 1-3: all 1g.10gb"
  gpuyard node mig plan "all: whole"             # no MIG any more
""",
)
@layout_argument
@node_option
@driver_root_option
@output_option()
def command(layout: str, node: str, driver_root: Path, output: str | None) -> None:
    """Say what splitting this machine's GPUs anew would do, and do nothing.

    LAYOUT names GPUs by index (0,2 or 1-3 or all), and after a colon the parts of each by NVIDIA's names.
    `all 1g.10gb` is as many as there is room for, and `whole` a GPU without MIG. Parts that pods or other
    processes use stay where they are. The exit code is 1 when something can't be had.
    """
    import asyncio
    import os

    from gpuyard.cli.mig_plans import print_plans
    from gpuyard.devices.mig_layout import parse_layout
    from gpuyard.local.paths import find_paths
    from gpuyard.runs.nodes.mig import node_paths, open_machine, plan

    wanted, paths = parse_layout(layout), find_paths(os.environ)
    with open_machine(paths, driver_root, node) as machine:
        plans, holders = asyncio.run(plan(machine, wanted, node_paths(paths, node)))
    print_plans(plans, holders, as_json=output == "json", simulated=machine.inventory.simulated)
    if any(one.refusals for one in plans):
        click.get_current_context().exit(1)
