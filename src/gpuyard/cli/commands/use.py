"""`gpuyard use`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import complete_contexts


@click.command(
    "use",
    epilog="""\b
Examples:
  gpuyard use gpu-cluster    # commands go to that context of your kubeconfig
  gpuyard use yard           # back to this machine's yard
  gpuyard use                # where do commands go?
""",
)
@click.argument("context", required=False, shell_complete=complete_contexts)
def command(context: str | None) -> None:
    """Choose where commands go from now on: a CONTEXT of your kubeconfig, or `yard`.

    Without one it tells where they go.
    """
    import json
    import os

    from gpuyard.client.connection.credentials import masked
    from gpuyard.client.connection.kubeconfig import kubeconfig_files, load_connection
    from gpuyard.local.settings import write_private
    from gpuyard.runs.target import YARD, choice_file, chosen_context

    file, chosen = choice_file(), context or chosen_context() or YARD
    if chosen == YARD:
        if context:
            file.unlink(missing_ok=True)
        click.echo("Commands go to this machine's yard.")
        return
    connection = load_connection(kubeconfig_files(os.environ), chosen)
    if context:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, json.dumps({"context": context}) + "\n")
    click.echo(f"Commands go to {chosen} ({masked(connection.server)}).")
