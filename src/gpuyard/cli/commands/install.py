"""`gpuyard install`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuyard.cli.options.gpu_backend import gpu_backend_option
from gpuyard.cli.options.gpu_config import gpu_config_option, read_gpu_config
from gpuyard.cli.options.registry import registry_options
from gpuyard.cli.options.shared import Span, complete_clusters

if TYPE_CHECKING:
    from collections.abc import Mapping

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
@click.option("--build-only", is_flag=True, help="Build the image, print its name, and install nothing.")
@click.option("--simulate", metavar="MODEL:N", help="Give every node simulated GPUs, such as H100:8.")
@click.option(
    "--driver-access",
    type=click.Choice(["runtimeclass", "privileged"]),
    default="runtimeclass",
    show_default=True,
    help="How agents reach the driver: by NVIDIA's container runtime, or as privileged containers.",
)
@click.option(
    "--mig-strategy",
    type=click.Choice(["none", "single", "mixed"]),
    default="none",
    show_default=True,
    help="How parts of split GPUs are offered: not at all, as GPUs, or each profile as a resource.",
)
@gpu_config_option
@gpu_backend_option
@click.option("--node-selector", metavar="K=V", multiple=True, help="Only nodes with this label.")
@click.option(
    "--toleration",
    metavar="K[=V][:EFFECT]",
    multiple=True,
    help="Also nodes with this taint, such as sku=gpu:NoSchedule.",
)
@click.option("--tolerate-all", is_flag=True, help="Also nodes with any taint.")
@click.option(
    "--metrics", is_flag=True, help="Metrics for Prometheus beside each agent, on port 9400 of its pod."
)
@click.option(
    "--host-pid",
    is_flag=True,
    help="Let agents see their node's processes, to say whose a foreign one on a GPU is.",
)
@click.option("--taint", is_flag=True, help="Keep pods without a GPU request off nodes with GPUs.")
@click.option("--policy", is_flag=True, help="Check tenants' pods at admission (Kubernetes 1.30 or later).")
@click.option(
    "--void",
    is_flag=True,
    help="Give tenants' containers without GPUs NVIDIA_VISIBLE_DEVICES=void (Kubernetes 1.36 or later).",
)
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
    image: str | None,
    base: str | None,
    push: str | None,
    build_only: bool,
    force: bool,
    no_wait: bool,
    timeout_s: int,
    dry_run: bool,
    output: str | None,
    gpu_config: Path | None,
    gpu_backend: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    **chosen: Any,
) -> None:
    """Install the agents on a cluster: device plugin, node labels, roles, priorities.

    There is no published image: --base builds one from this gpuyard and pushes it to --image.
    """
    from dataclasses import replace

    from gpuyard.cli.call import call_cluster
    from gpuyard.cli.options.registry import registry_environ
    from gpuyard.installing.agent_image import as_installed
    from gpuyard.installing.install import install_options
    from gpuyard.tenancy.install import install

    if output and not dry_run:
        raise click.UsageError("-o says how --dry-run prints: add --dry-run.")
    if dry_run and base:
        raise click.UsageError("--dry-run builds nothing: name an image that is there with --image alone.")
    if not image:
        raise click.UsageError("Name the agent's image with --image; --base builds it and pushes it there.")
    if (push or build_only) and not base:
        raise click.UsageError("--push and --build-only are about an image that is built: add --base.")
    environ = registry_environ(plain_http, registry_ca)
    if base and build_only:
        click.echo(_build(base, image, push, gpu_backend, environ))
        return
    config = read_gpu_config(gpu_config) if gpu_config else ""
    options = install_options(image, gpu_config=config, gpu_backend=gpu_backend or "", **chosen)
    if dry_run:
        _print(install(options), output)
        return
    options = call_cluster(lambda api: check(api, options, force=force), context)
    if base:
        image = _build(base, image, push, gpu_backend, environ)
    else:
        image = call_cluster(lambda api: as_installed(api, options, environ), context)
    options = replace(options, image=image)
    call_cluster(lambda api: _send(api, options, None if no_wait else timeout_s), context)


async def check(api: RestApi, options: InstallOptions, *, force: bool) -> InstallOptions:
    """The options as the cluster can have them, after a look at what is there."""
    from gpuyard.cli.output.results import StatusLine
    from gpuyard.installing.install import check_cluster

    line = StatusLine()
    try:
        options = await check_cluster(api, options, on_wait=line.show, force=force)
    finally:
        line.clear()
    if not options.confine:
        click.echo(UNCONFINED, err=True)
    return options


def _build(
    base: str, image: str, push: str | None, gpu_backend: str | None, environ: Mapping[str, str]
) -> str:
    """Builds the agent's image and pushes it; its name for the nodes, by digest."""
    from gpuyard.cli.building import run_build
    from gpuyard.installing.agent_image import agent_build

    with agent_build(base, push or image, image if push else None, gpu_backend or "") as request:
        return run_build(request, environ).reference


async def _send(api: RestApi, options: InstallOptions, timeout_s: float | None) -> None:
    """Installs, and prints what changes; with a timeout, until the agents run."""
    from gpuyard.cli.output.results import StatusLine
    from gpuyard.installing.deselected import marked_nodes, unmark_deselected
    from gpuyard.installing.install import agents_kept_off, send, wait_for_agents
    from gpuyard.tenancy.agent_nodes import toleration_flags

    marked = await marked_nodes(api)
    if not await send(api, options, lambda change: click.echo(f"{change.what} {change.outcome}")):
        click.echo("Nothing changed: it is installed like that already.")
    if timeout_s is None:
        return
    line = StatusLine()
    try:
        nodes = await wait_for_agents(api, options.namespace, timeout_s, line.show)
    finally:
        line.clear()
        await unmark_deselected(api, options.namespace, marked, click.echo)
    for name, misfit in (await agents_kept_off(api, options.namespace)).items():
        click.echo(
            f"No agent on {name}: it {misfit}, and there is no {toleration_flags([misfit])}.", err=True
        )
    click.echo(f"Agents run on {', '.join(nodes)}.")


def _print(manifests: list[Manifest], output: str | None) -> None:
    from gpuyard.cli.output.results import print_json
    from gpuyard.workloads.yaml_text import to_yaml

    if output == "json":
        print_json({"apiVersion": "v1", "kind": "List", "items": manifests})
    else:
        click.echo(to_yaml(manifests), nl=False)


UNCONFINED = """\
warning: this Kubernetes is older than 1.30, where admission can keep each labeller to its own node: whoever
is root on one node with an agent can take its labeller's token, and change every node's labels and taints."""
