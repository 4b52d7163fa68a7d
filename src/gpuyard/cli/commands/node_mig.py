"""`gpuyard node mig`."""

from __future__ import annotations

from gpuyard.cli.subcommands import SubcommandGroup

command = SubcommandGroup(
    "mig",
    {
        "plan": "Say what splitting this machine's GPUs anew would do, and do nothing.",
        "apply": "Split this machine's GPUs anew.",
    },
    help="Split the GPUs of this machine by MIG.",
)
