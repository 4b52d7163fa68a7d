"""`gpuyard node mig apply`."""

from __future__ import annotations

from pathlib import Path

import click

from gpuyard.cli.options.mig import driver_root_option, layout_argument, node_option
from gpuyard.cli.options.shared import output_option


@click.command(
    "apply",
    epilog="""\b
Examples:
  gpuyard node mig apply "0: 3g.40gb 3g.40gb; 1-3: all 1g.10gb"
  gpuyard node mig apply --yes "all: whole"
""",
)
@layout_argument
@node_option
@driver_root_option
@click.option("-y", "--yes", is_flag=True, help="Don't ask before something is destroyed.")
@output_option()
def command(layout: str, node: str, driver_root: Path, yes: bool, output: str | None) -> None:
    """Split this machine's GPUs anew.

    Does what `gpuyard node mig plan` says of the same LAYOUT, or nothing when something of it can't be had:
    no pod and no process loses its GPU. On real GPUs it needs root. The agent sees the change within seconds
    and offers the new parts.
    """
    import asyncio
    import os

    from gpuyard import errors
    from gpuyard.cli.mig_plans import print_plans
    from gpuyard.devices.mig_layout import parse_layout
    from gpuyard.local.paths import find_paths
    from gpuyard.runs.nodes.mig import node_paths, open_machine, plan, unoffered_parts

    wanted, paths, as_json = parse_layout(layout), find_paths(os.environ), output == "json"
    with open_machine(paths, driver_root, node) as machine:
        plans, holders = asyncio.run(plan(machine, wanted, node_paths(paths, node)))
        simulated = machine.inventory.simulated
        if refused := [f"GPU {one.gpu.index}: {why}" for one in plans for why in one.refusals]:
            raise errors.DeviceError(
                f"nothing was done, since this can't be had: {'; '.join(refused)}",
                remedy="stop what is in the way, or ask for less: `gpuyard node mig plan` says what there is",
            )
        if any(one.changes for one in plans) and not yes:
            print_plans(plans, holders, as_json=False, simulated=simulated, err=True)
            _ask()
    # Meanwhile somebody may have got one of them, or split one: all of it is read again.
    with open_machine(paths, driver_root, node) as machine:
        again, holders = asyncio.run(plan(machine, wanted, node_paths(paths, node)))
        if again != plans:
            raise errors.DeviceError(
                "nothing was done: the GPUs, or who has which part, have changed meanwhile",
                remedy="look again",
            )
        machine.apply([one for one in plans if one.changes])
    print_plans(plans, holders, as_json=as_json, simulated=simulated, done=True)
    if note := unoffered_parts(plans, paths):
        click.echo(note, err=True)


def _ask() -> None:
    import sys

    from gpuyard import errors

    if not sys.stdin.isatty():
        raise errors.UsageError(
            "nothing was done: there is nobody to ask whether to do it", remedy="give --yes when you mean it"
        )
    if not click.confirm("Do it?", err=True):
        click.get_current_context().exit(1)
