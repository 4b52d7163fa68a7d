"""`gpuyard doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.registry import registry_options
from gpuyard.cli.options.shared import output_option, target_options

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(
    "doctor",
    epilog="""\b
Examples:
  gpuyard doctor                                   # this machine's yard
  gpuyard doctor --context gpu-cluster --namespace ml
  gpuyard doctor --context gpu-cluster --image registry.example.com/team/train:v1

\b
Exit code: 1 when something is broken, else 0.
""",
)
@click.option("--image", metavar="REF", help="Look whether this image can be read.")
@click.option("--registry", metavar="HOST[:PORT]", help="Look whether this registry takes you.")
@target_options
@registry_options
@output_option()
def command(
    image: str | None,
    registry: str | None,
    context: str | None,
    namespace: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    output: str | None,
) -> None:
    """Check the whole chain from the API to the GPUs, and name the first broken link.

    Of a yard: folder, disk, daemon, API, agent, GPUs, isolation, cgroups, podman. Of a cluster: kubeconfig,
    API, credentials, permissions, install, the agent, driver and runtime of each node, registry, storage,
    quota.
    """
    import asyncio
    import sys

    from gpuyard.cli.options.registry import registry_environ
    from gpuyard.cli.output.doctor_report import print_report
    from gpuyard.cli.output.results import StatusLine, print_json
    from gpuyard.doctor.examine import examine
    from gpuyard.doctor.registry import RegistryFact
    from gpuyard.runs.target import YARD, check_namespace, chosen_context

    if image and registry:
        raise click.UsageError("An image says which registry: leave --registry out.")
    check_namespace(namespace)
    asked = RegistryFact(registry=registry or "", image=image or "", asked=bool(image or registry))
    environ = registry_environ(plain_http, registry_ca)
    context = context or chosen_context()
    line = StatusLine()

    def on_wait(what: Sequence[str]) -> None:
        if line.live:
            line.show(f"Looking at {', '.join(what)} …")

    where = "" if context == YARD else context
    try:
        report = asyncio.run(examine(where, namespace, asked, environ, on_wait))
    finally:
        line.clear()
    if output == "json":
        print_json(report.to_json())
    else:
        print_report(report)
    sys.exit(1 if report.first_broken else 0)
