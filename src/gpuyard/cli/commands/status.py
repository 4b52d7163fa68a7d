"""`gpuyard status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import complete_contexts, output_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuyard.installing.status import ClusterStatus, NodeStatus
    from gpuyard.local.status import GpuStatus, YardNodeStatus


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
    isolation, is_one = status.isolation, len(status.nodes) == 1
    print_fields(
        [
            ("API", status.api),
            ("Data", status.data_dir),
            ("Daemon", f"pid {status.daemon_pid}"),
            *(line for node in status.nodes for line in _of_node(node, is_one=is_one)),
            ("Isolation", f"{isolation.level}{'' if isolation.level != 'none' else NO_ISOLATION}"),
            ("Enforced", isolation.enforced),
            ("Images", isolation.containers),
            ("Versions", ", ".join(f"{name} {version}" for name, version in status.versions.items())),
        ]
    )


def _of_node(node: YardNodeStatus, *, is_one: bool) -> Iterator[tuple[str, str]]:
    """Its lines; one line for each where there are several."""
    agent = f"pid {node.agent_pid}" if node.agent_pid else "not running"
    named = f"{node.name}, {node.not_ready}" if node.not_ready else node.name
    gpus, sick = gpus_text(node.gpus), node.gpus.capacity - node.gpus.allocatable
    if is_one:
        yield from (("Agent", agent), ("Node", named), ("GPUs", gpus), ("Unhealthy", str(sick or "")))
    else:
        unhealthy = f", {sick} unhealthy" if sick else ""
        yield "Node", f"{named}: GPUs: {gpus}{unhealthy}, agent {agent}"


def gpus_text(gpus: GpuStatus) -> str:
    """`8 × H100 (simulated)`, or why there are none."""
    if gpus.capacity:
        simulated = " (simulated)" if gpus.simulated else ""
        return f"{gpus.allocatable} × {gpus.model or 'GPU'}{simulated}"
    return "none" + (f": {gpus.none_because}" if gpus.none_because else "")


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
