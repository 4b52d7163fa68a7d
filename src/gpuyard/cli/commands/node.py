"""`gpuyard node`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import complete_nodes
from gpuyard.cli.subcommands import SubcommandGroup


class _NodeGroup(SubcommandGroup):
    """What isn't a subcommand's name is a node's: `gpuyard node NODE` is `gpuyard node show NODE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and (
            not args or args[0] not in (*self.list_commands(ctx), "-h", "--help")
        ):
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        from click.shell_completion import CompletionItem

        nodes = [CompletionItem(name) for name in complete_nodes(ctx, None, incomplete)]
        return [*super().shell_complete(ctx, incomplete), *nodes]


command = _NodeGroup(
    "node",
    {
        "show": "Show every GPU of a node, or of all nodes; `gpuyard node` alone does it, too.",
        "cdi": "Print the CDI spec of this machine's GPUs and their driver.",
        "mig": "Split the GPUs of this machine by MIG: plan it, or do it.",
        "fault": "Put a fault on a simulated GPU of the yard, or take it away.",
    },
    help="Look into nodes' GPUs: `gpuyard node` shows all, `gpuyard node NODE` one node's.",
    epilog="""\b
Examples:
  gpuyard node
  gpuyard node gpu-node-1 -o json
  gpuyard node show show    # of a node that is called as a command is
""",
    subcommand_metavar="[NODE | COMMAND] [ARGS]...",
)
