"""`gpuyard kubeconfig`."""

from __future__ import annotations

import click


@click.command(
    "kubeconfig",
    epilog="""\b
Example:
  kubectl --kubeconfig "$(gpuyard kubeconfig)" get pods
""",
)
def command() -> None:
    """Print the path of a kubeconfig with which kubectl reaches the yard."""
    import os

    from gpuyard import errors
    from gpuyard.local.paths import find_paths

    file = find_paths(os.environ).kubeconfig
    if not file.exists():
        raise errors.YardStopped("the yard has no kubeconfig yet", remedy="start it once: `gpuyard up`")
    click.echo(str(file))
