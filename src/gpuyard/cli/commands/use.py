"""`gpuyard use`."""

from __future__ import annotations

import click


@click.command(
    "use",
    epilog="""\b
Examples:
  gpuyard use gpu-cluster    # commands go to that context of your kubeconfig
  gpuyard use yard           # back to this machine's yard
""",
)
@click.argument("context")
def command(context: str) -> None:
    """Choose where commands go from now on: a CONTEXT of your kubeconfig, or `yard`."""
    import json
    import os

    from gpuyard.cli.target import YARD, choice_file
    from gpuyard.client.connection import kubeconfig_files, load_connection
    from gpuyard.client.origin import masked
    from gpuyard.local.settings import write_private

    file = choice_file()
    if context == YARD:
        file.unlink(missing_ok=True)
        click.echo("Commands go to this machine's yard.")
        return
    connection = load_connection(kubeconfig_files(os.environ), context)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(file, json.dumps({"context": context}) + "\n")
    click.echo(f"Commands go to {context} ({masked(connection.server)}).")
