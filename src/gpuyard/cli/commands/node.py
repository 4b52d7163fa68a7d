"""`gpuyard node`: finds its subcommand in a module of its own, `node_NAME.py`."""

from __future__ import annotations

import importlib

import click

#: name → one line of help, here so that `--help` imports no subcommand.
COMMANDS = {
    "cdi": "Print the CDI spec of this machine's GPUs and their driver.",
}


class NodeGroup(click.Group):
    """Imports a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of `node_NAME.py`."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gpuyard.cli.commands.node_{cmd_name}")
        found: click.Command = module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group("node", cls=NodeGroup)
def command() -> None:
    """Look into one node's GPUs."""
