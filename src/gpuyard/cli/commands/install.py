"""`gpuyard install`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.registry import registry_options
from gpuyard.cli.options.shared import Span, complete_clusters

if TYPE_CHECKING:
    from gpuyard.client.rest import RestApi
    from gpuyard.kube.objects import Manifest
    from gpuyard.tenancy.options import InstallOptions


@click.command(
    "install",
    epilog="""\b
Examples:
  gpuyard install --context gpu-cluster --base python:3.11-slim --image registry.example.com/gpuyard/agent:v1
  gpuyard install --image registry.example.com/gpuyard/agent:v1 --taint --policy
  gpuyard install --image registry.example.com/gpuyard/agent:v1 --simulate H100:8 --dry-run -o yaml

\b
Run it again to change an install, or to complete one that was interrupted; with the same options it
changes nothing.
""",
)
@click.option(
    "--context",
    metavar="CONTEXT",
    shell_complete=complete_clusters,
    help="The cluster: a context of your kubeconfig.",
)
@click.option("--namespace", metavar="NAME", help="Of the agents (default: gpuyard-system).")
@click.option("--image", metavar="IMAGE", help="The agent's image, as the nodes pull it.")
@click.option(
    "--base", metavar="IMAGE", help="Build that image first, on this base with Python 3.11 or later."
)
@click.option(
    "--push", metavar="IMAGE", help="With --base: push there, when the nodes have another name for it."
)
@click.option("--simulate", metavar="MODEL:N", help="Give every node simulated GPUs, such as H100:8.")
@click.option(
    "--driver-access",
    type=click.Choice(["runtimeclass", "privileged"]),
    default="runtimeclass",
    show_default=True,
    help="How agents reach the driver: by NVIDIA's container runtime, or as privileged containers.",
)
@click.option("--node-selector", metavar="K=V", multiple=True, help="Only nodes with this label.")
@click.option("--taint", is_flag=True, help="Keep pods without a GPU request off nodes with GPUs.")
@click.option("--policy", is_flag=True, help="Check tenants' pods at admission (Kubernetes 1.30 or later).")
@click.option("--force", is_flag=True, help="Also where another device plugin seems to serve the GPUs.")
@click.option("--no-wait", is_flag=True, help="Return once sent, not once the agents run.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Span(),
    metavar="TIME",
    default="3m",
    show_default=True,
    help="How long to wait.",
)
@click.option("--dry-run", is_flag=True, help="Print the manifests; build and send nothing.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="How --dry-run prints.")
@registry_options
def command(
    context: str | None,
    namespace: str | None,
    image: str | None,
    base: str | None,
    push: str | None,
    simulate: str | None,
    driver_access: str,
    node_selector: tuple[str, ...],
    taint: bool,
    policy: bool,
    force: bool,
    no_wait: bool,
    timeout_s: int,
    dry_run: bool,
    output: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
) -> None:
    """Install the agents on a cluster: device plugin, node labels, roles, priorities.

    There is no published image: --base builds one from this gpuyard and pushes it to --image.
    """
    from dataclasses import replace

    from gpuyard.cli.call import call_cluster
    from gpuyard.cli.options.registry import registry_environ
    from gpuyard.cli.output.results import StatusLine
    from gpuyard.installing.install import check_cluster, install_options
    from gpuyard.tenancy.install import install

    if output and not dry_run:
        raise click.UsageError("-o says how --dry-run prints: add --dry-run.")
    if dry_run and base:
        raise click.UsageError("--dry-run builds nothing: name an image that is there with --image alone.")
    if not image:
        raise click.UsageError("Name the agent's image with --image; --base builds it and pushes it there.")
    if push and not base:
        raise click.UsageError("--push is about an image that is built: add --base.")
    options = install_options(
        image, namespace, simulate, driver_access, node_selector, taint=taint, policy=policy
    )
    if dry_run:
        _print(install(options), output)
        return
    line = StatusLine()
    try:
        call_cluster(lambda api: check_cluster(api, options, on_wait=line.show, force=force), context)
    finally:
        line.clear()
    if base:
        from gpuyard.cli.building import run_build
        from gpuyard.installing.agent_image import agent_build

        environ = registry_environ(plain_http, registry_ca)
        with agent_build(base, push or image, image if push else None) as request:
            options = replace(options, image=run_build(request, environ).reference)
    call_cluster(lambda api: _send(api, options, None if no_wait else timeout_s), context)


async def _send(api: RestApi, options: InstallOptions, timeout_s: float | None) -> None:
    """Installs, and prints what changes; with a timeout, until the agents run."""
    from gpuyard.cli.output.results import StatusLine
    from gpuyard.installing.install import send, wait_for_agents

    if not await send(api, options, lambda change: click.echo(f"{change.what} {change.outcome}")):
        click.echo("Nothing changed: it is installed like that already.")
    if timeout_s is None:
        return
    line = StatusLine()
    try:
        nodes = await wait_for_agents(api, options.namespace, timeout_s, line.show)
    finally:
        line.clear()
    if not nodes:
        selector = ",".join(f"{name}={value}" for name, value in options.node_selector.items())
        click.echo(f"There is no agent: no node has the labels {selector}.")
        return
    click.echo(f"Agents run on {', '.join(nodes)}.")


def _print(manifests: list[Manifest], output: str | None) -> None:
    from gpuyard.cli.output.results import print_json
    from gpuyard.workloads.yaml_text import to_yaml

    if output == "json":
        print_json({"apiVersion": "v1", "kind": "List", "items": manifests})
    else:
        click.echo(to_yaml(manifests), nl=False)
