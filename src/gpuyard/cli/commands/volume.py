"""`gpuyard volume`."""

from __future__ import annotations

from gpuyard.cli.subcommands import SubcommandGroup

command = SubcommandGroup(
    "volume",
    {
        "ls": "List claims, with the runs that use each.",
        "rm": "Remove claims, and what is in them where their class says so.",
    },
    help="List and remove claims: data that outlives runs.",
)
