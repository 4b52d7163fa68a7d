"""`gpuyard uninstall`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import complete_clusters


@click.command(
    "uninstall",
    epilog="""\b
Example:
  gpuyard uninstall --context gpu-cluster

\b
For five minutes the nodes still count the GPUs in their capacity, none of them allocatable: that is the
kubelet's.
""",
)
@click.option(
    "--context",
    metavar="CONTEXT",
    shell_complete=complete_clusters,
    help="The cluster: a context of your kubeconfig.",
)
@click.option("--force", is_flag=True, help="Also while pods with GPUs run, and without nodes that are down.")
def command(context: str | None, force: bool) -> None:
    """Remove gpuyard from a cluster: agents, their CDI files, labels, taints, roles, namespace.

    Refuses while pods have GPUs.
    """
    from gpuyard.cli.call import call_cluster
    from gpuyard.installing.uninstall import uninstall

    call_cluster(lambda api: uninstall(api, force=force, say=click.echo), context)
