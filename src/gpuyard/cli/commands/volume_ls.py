"""`gpuyard volume ls`."""

from __future__ import annotations

import dataclasses

import click

from gpuyard.cli.options.shared import output_option, target_options

_COLUMNS = ("NAME", "STATE", "SIZE", "MODES", "CLASS", "AGE", "USED BY")


@click.command(
    "ls",
    epilog="""\b
Examples:
  gpuyard volume ls
  gpuyard volume ls -o json | jq -r '.[] | select(.used_by == []) | .name'
""",
)
@target_options
@output_option()
def command(context: str | None, namespace: str | None, output: str | None) -> None:
    """List claims, with the runs that use each."""
    from datetime import UTC, datetime

    from gpuyard.cli.call import call
    from gpuyard.cli.output.results import age, print_json, print_table
    from gpuyard.kube.storage import short_modes
    from gpuyard.kube.timestamps import parse_time
    from gpuyard.runs.volumes import list_claims

    claims = call(list_claims, context=context, namespace=namespace)
    if output == "json":
        print_json([dataclasses.asdict(claim) for claim in claims])
        return
    if not claims:
        example = "`volumes: {/ckpt: {claim: ckpt, size: 10Gi}}` in a spec file"
        click.echo(f"No claims. A run makes one: {example}", err=True)
        return
    now = datetime.now(UTC)
    rows = [
        [
            claim.name,
            claim.state,
            claim.size or "",
            short_modes(claim.access_modes),
            claim.storage_class or "",
            age(parse_time(claim.created_at), now),
            ", ".join(claim.used_by),
        ]
        for claim in claims
    ]
    print_table(_COLUMNS, rows, drop=("AGE", "CLASS", "MODES"))
