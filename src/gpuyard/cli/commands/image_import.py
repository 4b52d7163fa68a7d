"""`gpuyard image import`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gpuyard import errors
from gpuyard.cli.options.registry import registry_options
from gpuyard.cli.options.shared import output_option


@click.command("import")
@click.argument("tar", type=click.Path(path_type=Path))
@click.option("-t", "--tag", required=True, metavar="IMAGE", help="Where the image goes.")
@click.option("--platform", default="linux/amd64", show_default=True, help="What its programs run on.")
@click.option("--env", metavar="K=V", multiple=True, help="Environment of its containers.")
@click.option("--compression", type=click.Choice(["gzip", "zstd"]), default="gzip", show_default=True)
@registry_options
@output_option()
def command(
    tar: Path,
    tag: str,
    platform: str,
    env: tuple[str, ...],
    compression: str,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    output: str | None,
) -> None:
    """Make a base image of a root file system: TAR is a .tar or .tar.gz, such as mmdebstrap writes."""
    from gpuyard.building.image_import import import_root
    from gpuyard.cli.options.registry import registry_environ
    from gpuyard.cli.output.progress import BuildProgress
    from gpuyard.cli.output.results import print_json
    from gpuyard.images import layers
    from gpuyard.images.oci import Platform
    from gpuyard.images.places import Places

    progress = BuildProgress()
    wanted = Platform.parse(platform)
    environment = dict(map(_variable, env))

    async def work() -> tuple[str, str]:
        async with Places(registry_environ(plain_http, registry_ca)) as places:
            place = await places.open(tag, write=True)
            made = await import_root(
                tar,
                place,
                wanted,
                layers.compression(compression),
                environment,
                lambda done, total: progress.bytes(tar.name, done, total),
            )
            return place.pinned(made.digest), made.digest

    try:
        reference, digest = asyncio.run(work())
    finally:
        progress.done()
    if output == "json":
        print_json({"reference": reference, "digest": digest})
    else:
        click.echo(reference)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise errors.UsageError(f"--env {text} has no value", remedy="write --env NAME=VALUE")
    return name, value
