"""`gpuyard completion`."""

from __future__ import annotations

import click


@click.command(
    "completion",
    epilog="""\b
Example:
  gpuyard completion bash > ~/.local/share/bash-completion/completions/gpuyard
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    It completes commands, options, contexts of your kubeconfig and names of runs. Runs are asked for where
    the command would go, for a second at most.
    """
    from click.shell_completion import get_completion_class

    from gpuyard.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}.")
    click.echo(kind(cli, {}, "gpuyard", "_GPUYARD_COMPLETE").source())
