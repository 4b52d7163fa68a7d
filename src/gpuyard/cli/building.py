"""Builds on the command line: their flags, their progress and their result."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuyard import errors
from gpuyard.building.build import build
from gpuyard.building.options import BuildOptions, request_of_spec, request_without_spec
from gpuyard.building.request import BuildRequest
from gpuyard.building.result import BuildResult
from gpuyard.cli.output.progress import BuildProgress
from gpuyard.cli.output.results import megabytes, print_json
from gpuyard.images.cache import Cache
from gpuyard.images.places import Places

if TYPE_CHECKING:
    from gpuyard.building.listing import Listing
    from gpuyard.runs.submitting.image_build import RunImage
    from gpuyard.workloads.resolved_run import ResolvedRun


#: The spec of a folder that is built without naming one.
SPEC_NAMES = ("gpuyard.yaml", "gpuyard.yml")


def build_image(
    file: Path | None, options: BuildOptions, environ: Mapping[str, str] = os.environ
) -> BuildResult:
    """Builds what a spec file and flags ask for.

    Args:
        file: the spec file, if any.
        options: the flags.
        environ: the command's, with what is said of registries.

    Raises:
        UsageError: something is missing or wrong.
        ImageError: the build failed.
    """
    request = _read_request(file, options, environ)
    # As Docker does; who means to overwrite another tag should hear of it.
    for target in request.targets:
        if not re.search(r":[^/]+$", target.removeprefix("oci:").removeprefix("oci-archive:")):
            which = f" for {target}" if len(request.targets) > 1 else ""
            click.echo(f"Using default tag: latest{which}", err=True)
    return run_build(request, environ)


def list_files(file: Path | None, options: BuildOptions, environ: Mapping[str, str] = os.environ) -> Listing:
    """What a build of a spec file and flags would put into the image.

    Raises:
        UsageError: something is missing or wrong; a file looks like a secret.
    """
    from gpuyard.building.listing import list_build

    request = _read_request(file, replace(options, only_listed=True), environ)
    return list_build(request, Cache.from_environ(environ), environ)


def _read_request(file: Path | None, options: BuildOptions, environ: Mapping[str, str]) -> BuildRequest:
    if file is None:
        folder = options.folder or Path()
        file = next((path for name in SPEC_NAMES if (path := folder / name).is_file()), None)
        if file is None:
            return request_without_spec(options, environ)
        click.echo(f"Building what {file} says; options win over it", err=True)
        options = replace(options, folder=None)
    # What reads specs and knows of runs is a fifth of all that a build imports.
    from gpuyard.runs.submitting.spec_file import read_spec_file
    from gpuyard.workloads.spec.overrides import Flag
    from gpuyard.workloads.spec.run_spec import load_spec

    text = read_spec_file(file)
    flags = [Flag("--workdir", ("workdir",), options.workdir)] if options.workdir is not None else []
    spec = load_spec(text, str(file), flags, environ)
    if spec.build is None and not options.base and not options.only_listed:
        raise errors.UsageError(
            f"{file} has nothing to build: its `image` is {spec.image or 'left out'}",
            remedy="write image: {base: IMAGE, repository: IMAGE}, or give --base and -t",
        )
    return request_of_spec(spec, file, options, environ)


def build_for_run(run: ResolvedRun, file: Path, environ: Mapping[str, str]) -> RunImage:
    """Builds the image of a run where something changed, with progress on standard error.

    Args:
        run: of a spec with `build`.
        file: the spec's.
        environ: the command's, with what is said of registries.
    """
    from gpuyard.runs.submitting.image_build import build_run_image

    progress = BuildProgress()
    try:
        image = asyncio.run(build_run_image(run, file, environ, progress))
    finally:
        progress.done()
    if not image.unchanged:
        click.echo(f"Built {image.run.image}", err=True)
    return image


def run_build(request: BuildRequest, environ: Mapping[str, str]) -> BuildResult:
    """Runs one build with progress on standard error."""
    progress = BuildProgress()

    async def work() -> BuildResult:
        async with Places(environ) as places:
            return await build(request, places, Cache.from_environ(environ), environ, progress)

    try:
        return asyncio.run(work())
    finally:
        progress.done()


def print_result(result: BuildResult, output: str | None) -> None:
    """The reference on standard output, and what was made."""
    if output == "json":
        print_json(result_json(result))
        return
    for name, image in result.platforms.items():
        prefix = f"{name}: " if len(result.platforms) > 1 else ""
        for title, layer in image.layers:
            known = ", there already" if layer.blob.digest in image.present else ""
            click.echo(f"{prefix}{title}: {megabytes(layer.blob.size)}{known}", err=True)
    if result.unchanged:
        click.echo("Nothing changed: it was there already.", err=True)
    for reference in (result.reference, *result.elsewhere):
        click.echo(reference)


def result_json(result: BuildResult) -> dict[str, Any]:
    """For machines."""
    return {
        "reference": result.reference,
        "tag": result.tag,
        "tags": result.tags,
        "elsewhere": result.elsewhere,
        "digest": result.digest,
        "unchanged": result.unchanged,
        "platforms": {
            name: {
                "digest": image.manifest.digest,
                "layers": [
                    {
                        "title": title,
                        "digest": layer.blob.digest,
                        "diff_id": layer.diff_id,
                        "size": layer.blob.size,
                        "media_type": layer.blob.media_type,
                    }
                    for title, layer in image.layers
                ],
            }
            for name, image in result.platforms.items()
        },
    }
