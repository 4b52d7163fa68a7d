"""`gpuyard image`: finds its subcommand in a module of its own, `image_NAME.py`."""

from __future__ import annotations

import importlib

import click

#: name → one line of help, here so that `--help` imports no subcommand.
COMMANDS = {
    "show": "Show an image's layers, Python, torch and CUDA.",
    "check": "Say on which nodes an image will run, and why not on others.",
    "import": "Make a base image of a root file system.",
}


class ImageGroup(click.Group):
    """Imports a subcommand when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of `image_NAME.py`."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gpuyard.cli.commands.image_{cmd_name}")
        found: click.Command = module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group("image", cls=ImageGroup)
def command() -> None:
    """Look into images, check them against nodes, make base images."""
