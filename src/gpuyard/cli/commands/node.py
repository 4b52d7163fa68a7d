"""`gpuyard node`."""

from __future__ import annotations

from gpuyard.cli.subcommands import SubcommandGroup

command = SubcommandGroup(
    "node",
    {
        "cdi": "Print the CDI spec of this machine's GPUs and their driver.",
        "fault": "Put a fault on a simulated GPU of the yard, or take it away.",
    },
    help="Look into one node's GPUs.",
)
