"""`gpuyard node`."""

from __future__ import annotations

from gpuyard.cli.subcommands import SubcommandGroup

command = SubcommandGroup(
    "node",
    {
        "cdi": "Print the CDI spec of this machine's GPUs and their driver.",
    },
    help="Look into one node's GPUs.",
)
