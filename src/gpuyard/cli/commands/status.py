"""`gpuyard status`."""

from __future__ import annotations

import click

from gpuyard.cli.options import complete_contexts, output_option


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
    import os

    from gpuyard.runs.target import YARD, chosen_context

    context = context or chosen_context() or YARD
    if context != YARD:
        _cluster(context, output)
        return

    from gpuyard.cli.output import print_fields, print_json
    from gpuyard.cli.yard_status import yard_status
    from gpuyard.local.paths import find_paths

    status = yard_status(find_paths(os.environ))
    if output == "json":
        print_json(status)
        return
    gpus, isolation, versions = status["gpus"], status["isolation"], status["versions"]
    simulated = " (simulated)" if gpus["simulated"] else ""
    print_fields(
        [
            ("API", status["api"]),
            ("Data", status["data_dir"]),
            ("Daemon", f"pid {status['daemon_pid']}"),
            ("Agent", f"pid {status['agent_pid']}" if status["agent_pid"] else "not running"),
            ("Node", status["node"]),
            (
                "GPUs",
                f"{gpus['allocatable']} × {gpus['model'] or 'GPU'}{simulated}"
                if gpus["capacity"]
                else "none" + (f": {gpus['none_because']}" if gpus["none_because"] else ""),
            ),
            ("Unhealthy", str(gpus["capacity"] - gpus["allocatable"] or "")),
            ("Isolation", f"{isolation['level']}{'' if isolation['level'] != 'none' else NO_ISOLATION}"),
            ("Enforced", isolation["enforced"]),
            ("Images", isolation["containers"]),
            ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ]
    )


def _cluster(context: str, output: str | None) -> None:
    from gpuyard.cli.call import call
    from gpuyard.cli.cluster_status import cluster_status, print_cluster_status
    from gpuyard.cli.output import print_json

    status = call(cluster_status, context=context)
    if output == "json":
        print_json(status)
    else:
        print_cluster_status(status)


NO_ISOLATION = " (runs see each other's processes and devices; install bubblewrap for more)"
