"""`gpuyard install`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.options import complete_clusters
from gpuyard.cli.registry_options import registry_options

if TYPE_CHECKING:
    from gpuyard.client.rest import RestApi
    from gpuyard.kube.objects import Manifest


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
@click.option("--timeout", "timeout_s", type=float, default=180, show_default=True, help="Seconds to wait.")
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
    timeout_s: float,
    dry_run: bool,
    output: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
) -> None:
    """Install the agents on a cluster: device plugin, node labels, roles, priorities.

    There is no published image: --base builds one from this gpuyard and pushes it to --image.
    """
    from dataclasses import replace

    from gpuyard.cli.cluster_target import call_cluster
    from gpuyard.cli.installing import check_cluster, install_options, send_and_wait
    from gpuyard.cli.registry_options import registry_environ
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
    call_cluster(lambda api: check_cluster(api, options, force=force), context)
    if base:
        from gpuyard.cli.agent_image import build_agent_image

        environ = registry_environ(plain_http, registry_ca)
        built = build_agent_image(base, push or image, image if push else None, environ)
        options = replace(options, image=built)

    async def work(api: RestApi) -> None:
        await send_and_wait(api, options, None if no_wait else timeout_s)

    call_cluster(work, context)


def _print(manifests: list[Manifest], output: str | None) -> None:
    from gpuyard.cli.output import print_json
    from gpuyard.workloads.yaml_text import to_yaml

    if output == "json":
        print_json({"apiVersion": "v1", "kind": "List", "items": manifests})
    else:
        click.echo(to_yaml(manifests), nl=False)
