"""`gpuyard status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import complete_contexts, output_option

if TYPE_CHECKING:
    from gpuyard.installing.status import ClusterStatus, NodeStatus


@click.command("status", epilog="\b\nExample:\n  gpuyard status -o json\n")
@click.option(
    "--context",
    metavar="CONTEXT",
    shell_complete=complete_contexts,
    help="A context of your kubeconfig, or yard.",
)
@output_option()
def command(context: str | None, output: str | None) -> None:
    """Show the yard: API address, data folder, processes, GPUs, isolation, versions.

    With --context, or after `gpuyard use`, a cluster: what is installed there, what is missing, agents and
    nodes.
    """
    import asyncio
    import os
    from dataclasses import asdict

    from gpuyard.runs.target import YARD, chosen_context

    context = context or chosen_context() or YARD
    if context != YARD:
        _cluster(context, output)
        return

    from gpuyard.cli.output.results import StatusLine, print_fields, print_json
    from gpuyard.local.paths import find_paths
    from gpuyard.local.status import yard_status

    line = StatusLine()
    try:
        status = asyncio.run(yard_status(find_paths(os.environ), line.show))
    finally:
        line.clear()
    if output == "json":
        print_json(asdict(status))
        return
    gpus, isolation = status.gpus, status.isolation
    simulated = " (simulated)" if gpus.simulated else ""
    print_fields(
        [
            ("API", status.api),
            ("Data", status.data_dir),
            ("Daemon", f"pid {status.daemon_pid}"),
            ("Agent", f"pid {status.agent_pid}" if status.agent_pid else "not running"),
            ("Node", f"{status.node}, {status.not_ready}" if status.not_ready else status.node),
            (
                "GPUs",
                f"{gpus.allocatable} × {gpus.model or 'GPU'}{simulated}"
                if gpus.capacity
                else "none" + (f": {gpus.none_because}" if gpus.none_because else ""),
            ),
            ("Unhealthy", str(gpus.capacity - gpus.allocatable or "")),
            ("Isolation", f"{isolation.level}{'' if isolation.level != 'none' else NO_ISOLATION}"),
            ("Enforced", isolation.enforced),
            ("Images", isolation.containers),
            ("Versions", ", ".join(f"{name} {version}" for name, version in status.versions.items())),
        ]
    )


def _cluster(context: str, output: str | None) -> None:
    from dataclasses import asdict

    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import print_json
    from gpuyard.installing.status import cluster_status

    status = call(lambda target: cluster_status(target.api), context=context)
    if output == "json":
        print_json(asdict(status))
    else:
        _print_cluster(status)


def _print_cluster(status: ClusterStatus) -> None:
    from gpuyard.cli.output.results import print_fields

    agents = status.agents
    print_fields(
        [
            ("API", status.api),
            ("Kubernetes", status.version),
            (
                "Installed",
                f"in {status.namespace or 'part'}" if status.installed else "no: see `gpuyard install`",
            ),
            ("Missing", ", ".join(status.missing)),
            ("Changed", ", ".join(status.changed)),
            ("Image", status.image or ""),
            ("Agents", f"{agents.ready} of {agents.wanted} run" if status.installed else ""),
            *(("Node", _describe(node)) for node in status.nodes),
        ]
    )
    if status.missing:
        click.echo("The install is half done: run `gpuyard install` again to complete it.", err=True)
    elif status.changed:
        click.echo("It isn't as this gpuyard installs it: `gpuyard doctor` says how to mend that.", err=True)


def _describe(node: NodeStatus) -> str:
    simulated = " (simulated)" if node.simulated else ""
    sick = node.gpus_capacity - node.gpus
    gpus = f"{node.gpus} × {node.gpu_model or 'GPU'}{simulated}" if node.gpus else "no GPUs"
    sick_gpus = f", {sick} not usable" if sick > 0 else ""
    return f"{node.name}: {gpus}{sick_gpus}" + (f", {node.not_ready}" if node.not_ready else "")


NO_ISOLATION = " (runs see each other's processes and devices; install bubblewrap for more)"
