"""What the commands of `gpuyard node mig` have in common."""

from __future__ import annotations

from pathlib import Path

import click

from gpuyard.cli.options.shared import complete_nodes

node_option = click.option(
    "--node",
    default="",
    metavar="NODE",
    shell_complete=complete_nodes,
    help="Which node of a yard that has several.",
)

layout_argument = click.argument("layout", metavar="LAYOUT")

driver_root_option = click.option(
    "--driver-root",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    default=Path("/"),
    help="Where the NVIDIA driver is installed (default: /).",
)
