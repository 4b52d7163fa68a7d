"""Groups such as `gpuyard image`: each subcommand is in a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class SubcommandGroup(click.Group):
    """Finds `gpuyard image show` in `commands/image_show.py`.

    Args:
        name: of the group.
        subcommands: name → one line of help, so that `--help` imports no subcommand.
    """

    def __init__(self, name: str, subcommands: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(name, **attributes)
        self._subcommands = subcommands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were given."""
        return list(self._subcommands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of its module; None where there is none of the name."""
        if cmd_name not in self._subcommands:
            return None
        module = importlib.import_module(f"gpuyard.cli.commands.{self.name}_{cmd_name}")
        found: click.Command = module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._subcommands.items()))
