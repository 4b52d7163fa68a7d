"""`gpuyard build`."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import click

from gpuyard.cli.options.lock import lock_environ, lock_options
from gpuyard.cli.options.registry import registry_options
from gpuyard.cli.options.shared import output_option


@click.command(
    "build",
    epilog="""\b
Examples:
  gpuyard build --base python:3.11-slim --requirements requirements.txt -t registry.example.com/me/train:v1
  gpuyard build
  gpuyard build -f serve.yaml
  gpuyard build -f gpuyard.yaml -t registry.example.com/me/train:v1 -t registry.example.com/me/train:latest
  gpuyard build -f gpuyard.yaml --env TOKENIZERS_PARALLELISM=false --label team=ml
  gpuyard build --base oci:base -t oci-archive:train.tar

\b
The image goes to a registry, to a folder (oci:DIR:TAG) or to a file (oci-archive:FILE:TAG). No daemon and
no root is needed. gpuyard.lock pins the base and every wheel; --upgrade makes it anew.
""",
)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    help="Spec file with `image:` (default: FOLDER's gpuyard.yaml, if any); flags win.",
)
@click.option("--base", metavar="IMAGE", help="Image to build on; it must have Python.")
@click.option(
    "--requirements",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="requirements.txt, pyproject.toml, environment.yml, pylock.toml or uv.lock: what to install.",
)
@click.option(
    "-t",
    "--tag",
    "tags",
    multiple=True,
    metavar="IMAGE",
    help="Where the image goes; repeat for further names, also in other registries.",
)
@click.option(
    "--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Repeat for an index of several."
)
@click.option(
    "--system-package",
    "system_packages",
    multiple=True,
    metavar="NAME",
    help="A package of the base's Debian or Ubuntu, such as libgl1, or NAME=VERSION; repeat for more.",
)
@click.option("--workdir", metavar="DIR", help="Folder in the image (default: /workspace).")
@click.option("--compression", type=click.Choice(["gzip", "zstd"]), help="Of layers (default: gzip).")
@click.option(
    "--allow-secret",
    "allow_secrets",
    multiple=True,
    metavar="PATH",
    help="Let a file in that looks like a secret; a folder or a pattern, too.",
)
@click.option(
    "--allow-missing-library",
    "allow_missing_libraries",
    multiple=True,
    metavar="SONAME",
    help="Build although a wheel lacks this library.",
)
@click.option("--allow-secrets", "allowed_by_old_name", multiple=True, hidden=True)
@click.option("--no-byte-code", is_flag=True, help="Don't compile wheels: smaller, slower to import.")
@click.option(
    "--copy-from",
    multiple=True,
    metavar="IMAGE:/PATH[:/DEST]",
    help="Copy a file or folder of another image.",
)
@click.option("--list", "listed", is_flag=True, help="Build nothing: print what would go in, largest first.")
@click.option("--ignored", is_flag=True, help="With --list: print what stays out, and why.")
@click.option("--upgrade", is_flag=True, help="Lock the base and the requirements anew.")
@lock_options
@click.option(
    "--env", multiple=True, metavar="K=V", help="Variable in the image; with ${K} of the base's value."
)
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Label of the image.")
@click.option("--build-project", is_flag=True, help="Build your own projects, by their backends.")
@click.option(
    "--build-sources",
    multiple=True,
    is_flag=False,
    flag_value=":all:",
    metavar="[NAME]",
    help="Build what has no wheel; without a name, whatever it is.",
)
@registry_options
@output_option()
def command(
    file: Path | None,
    allow_secrets: tuple[str, ...],
    allowed_by_old_name: tuple[str, ...],
    no_byte_code: bool,
    listed: bool,
    ignored: bool,
    locked: bool,
    frozen: bool,
    allow_missing_libraries: tuple[str, ...],
    build_project: bool,
    build_sources: tuple[str, ...],
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    output: str | None,
    **chosen: Any,
) -> None:
    """Build an image from a folder, a base and its requirements, and push it.

    The files are those of FOLDER (default: the spec's workdir or folder, else the current one) without what
    .gitignore and .gpuyardignore, else .dockerignore, name.
    """
    # What is imported from here on stays; looking through it for garbage again and again costs 30 ms.
    gc.set_threshold(50_000)
    from gpuyard.building.options import BuildOptions
    from gpuyard.building.request import Allowed
    from gpuyard.cli.building import build_image, list_files, print_result
    from gpuyard.cli.options.registry import registry_environ

    if allowed_by_old_name:
        click.echo("--allow-secrets is --allow-secret now, and goes away with the next release", err=True)
    if ignored and not listed:
        raise click.UsageError("--ignored is said of --list")
    secrets = (*allow_secrets, *allowed_by_old_name)
    allowed = Allowed(secrets, allow_missing_libraries, build_project, build_sources)
    options = BuildOptions(allowed=allowed, byte_code=not no_byte_code, **chosen)
    environ = lock_environ(registry_environ(plain_http, registry_ca), locked=locked, frozen=frozen)
    if listed:
        from gpuyard.cli.output.build_listing import print_listing

        print_listing(list_files(file, options, environ), output, ignored=ignored)
    else:
        print_result(build_image(file, options, environ), output)
