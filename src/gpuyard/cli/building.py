"""From flags and a spec file to a build, for `gpuyard build` and for `gpuyard run -f`."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuyard import errors
from gpuyard.building.build import BuildRequest, BuildResult, build
from gpuyard.building.environment import WORKDIR
from gpuyard.building.lock import NAME as LOCK_NAME
from gpuyard.cli.output import megabytes, print_json
from gpuyard.cli.progress import Progress
from gpuyard.images.cache import Cache, cache_folder
from gpuyard.images.layers import EPOCH
from gpuyard.images.oci import Platform
from gpuyard.images.places import Places
from gpuyard.workloads.command import resolve_command

if TYPE_CHECKING:
    from gpuyard.workloads.spec import RunSpec

_DEFAULT_PLATFORM = "linux/amd64"


@dataclass(frozen=True)
class BuildFlags:
    """What the command line says; None and empty leave the spec's word."""

    base: str | None = None
    requirements: Path | None = None
    tag: str | None = None
    platforms: tuple[str, ...] = ()
    workdir: str | None = None
    compression: str | None = None
    allow_secrets: tuple[str, ...] = ()
    byte_code: bool = True
    upgrade: bool = False


def build_image(file: Path | None, flags: BuildFlags, environ: Mapping[str, str] = os.environ) -> BuildResult:
    """Builds what a spec file and flags ask for.

    Args:
        environ: the command's, with what is said of registries.

    Raises:
        UsageError: something is missing or wrong.
        ImageError: the build failed.
    """
    if file is None:
        request = _request(flags, Path(), flags.workdir or WORKDIR)
        _say_tag(request.target)
        return run_build(request, environ)
    from gpuyard.workloads.spec import Overrides, load_spec

    try:
        text = file.read_bytes()
    except OSError as error:
        raise errors.UsageError(
            f"can't read {file}: {error.strerror}", remedy="name a spec file that is there"
        ) from error
    spec = load_spec(text, str(file), Overrides(workdir=flags.workdir), os.environ)
    if spec.build is None and not flags.base:
        raise errors.UsageError(
            f"{file} has nothing to build: its `image` is {spec.image or 'left out'}",
            remedy="write image: {base: IMAGE, repository: IMAGE}, or give --base and -t",
        )
    request = _spec_request(spec, file.parent, flags)
    _say_tag(request.target)
    return run_build(request, environ)


def _say_tag(target: str) -> None:
    """As Docker does; who means to overwrite another tag should hear of it."""
    if not re.search(r":[^/]+$", target.removeprefix("oci:").removeprefix("oci-archive:")):
        click.echo("Using default tag: latest", err=True)


def build_for_run(spec: RunSpec, folder: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    """Builds the image of a run where something changed; it by digest, as nodes pull it and as it is here.

    Args:
        spec: with `build`.
        folder: of the spec file.
        environ: the command's, with what is said of registries.
    """
    result = run_build(_spec_request(spec, folder, BuildFlags()), environ)
    if not result.unchanged:
        click.echo(f"Built {result.reference}", err=True)
    return result.reference, result.pushed


def _spec_request(spec: RunSpec, folder: Path, flags: BuildFlags) -> BuildRequest:
    """The spec's words where no flag wins over them."""
    absolute = (spec.workdir or "").startswith("/")
    root = folder if absolute or not spec.workdir else folder / spec.workdir
    if not root.is_dir():
        raise errors.UsageError(f"workdir {root} isn't a folder here", remedy="name the folder with the code")
    workdir = spec.workdir if spec.workdir and absolute else WORKDIR
    if (wanted := spec.build) is None:
        return replace(_request(flags, root, workdir), command=resolve_command(spec.run, spec.python))
    merged = replace(
        flags,
        base=flags.base or _beside(folder, wanted.base),
        tag=flags.tag or _beside(folder, wanted.repository),
        requirements=flags.requirements or (folder / wanted.requirements if wanted.requirements else None),
        platforms=flags.platforms or wanted.platforms,
        allow_secrets=(*flags.allow_secrets, *wanted.allow_secrets),
    )
    request = _request(merged, root, workdir)
    pull = wanted.pull_repository if not flags.tag else None
    name = None if flags.base else _layout_name(wanted.base)
    command = resolve_command(wanted.run, spec.python) if wanted.run else ()
    return replace(request, lock=folder / LOCK_NAME, pull_repository=pull, base_name=name, command=command)


def run_build(request: BuildRequest, environ: Mapping[str, str]) -> BuildResult:
    """Runs one build with progress on standard error."""
    progress = Progress()

    async def work() -> BuildResult:
        async with Places(environ) as places:
            return await build(request, places, Cache(cache_folder(environ)), environ, progress)

    try:
        return asyncio.run(work())
    finally:
        progress.done()


def _beside(folder: Path, image: str) -> str:
    """A layout that a spec names is relative to the spec."""
    from gpuyard.images.layout import LayoutReference

    layout = LayoutReference.parse(image)
    return image if layout is None else str(replace(layout, path=folder.absolute() / layout.path))


def _layout_name(image: str) -> str | None:
    """A layout as the spec writes it, with its tag; None for an image of a registry."""
    from gpuyard.images.layout import LayoutReference

    layout = LayoutReference.parse(image)
    return str(layout) if layout else None


def _request(flags: BuildFlags, root: Path, workdir: str) -> BuildRequest:
    if not flags.base:
        raise errors.UsageError(
            "there is no base image to build on",
            remedy="name one with --base, such as python:3.11-slim, or under image.base in the spec (-f)",
        )
    if not flags.tag:
        raise errors.UsageError(
            "there is no name for the image",
            remedy="name one with -t, such as registry.example.com/me/train:v1",
        )
    return BuildRequest(
        base=flags.base,
        target=flags.tag,
        root=root,
        requirements=flags.requirements,
        platforms=tuple(dict.fromkeys(map(Platform.parse, flags.platforms or (_DEFAULT_PLATFORM,)))),
        workdir=_workdir(workdir),
        compression=flags.compression or "gzip",
        byte_code=flags.byte_code,
        allow_secrets=flags.allow_secrets,
        upgrade=flags.upgrade,
        created=_epoch(),
    )


def _workdir(text: str) -> str:
    path = os.path.normpath(text)
    if not path.startswith("/") or path == "/":
        raise errors.UsageError(
            f"the workdir {text!r} must be an absolute path in the image",
            remedy="write for example /workspace",
        )
    return path


def _epoch() -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return EPOCH
    if not text.isdigit() or int(text) >= 8**11:
        raise errors.UsageError(
            f"SOURCE_DATE_EPOCH is {text!r}, not seconds since 1970", remedy="unset it, or give a number"
        )
    return int(text)


def print_result(result: BuildResult, output: str | None) -> None:
    """The reference on standard output, and what was made."""
    if output == "json":
        print_json(result_json(result))
        return
    for name, image in result.platforms.items():
        prefix = f"{name}: " if len(result.platforms) > 1 else ""
        for title, layer in image.layers:
            click.echo(f"{prefix}{title}: {megabytes(layer.blob.size)}", err=True)
    if result.unchanged:
        click.echo("Nothing changed: it was there already.", err=True)
    click.echo(result.reference)


def result_json(result: BuildResult) -> dict[str, Any]:
    """For machines."""
    return {
        "reference": result.reference,
        "tag": result.tag,
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
