"""Reading an image for `image check` and `image show`: its config, and its layers when the user says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gpuyard import errors

if TYPE_CHECKING:
    from gpuyard.compatibility.need import Traits

Function = TypeVar("Function", bound=Callable[..., Any])


def read_layers_option(function: Function) -> Function:
    """`--read-layers`."""
    return click.option(
        "--read-layers",
        is_flag=True,
        help="Read the image's layers once where nothing else tells of its torch.",
    )(function)


async def read_image(reference: str, environ: Mapping[str, str], *, layers: bool) -> tuple[Traits, ...]:
    """The image for each of its platforms, with progress on standard error when layers are read.

    Raises:
        ImageNotFound: it isn't there, or not for Linux.
        ImageError: it can't be read.
    """
    from gpuyard.cli.output.progress import BuildProgress
    from gpuyard.compatibility.inspect import read_images

    progress = BuildProgress()
    try:
        images = await read_images(
            reference,
            environ,
            layers=(lambda done, total: progress.bytes("reading layers", done, total)) if layers else None,
        )
    finally:
        progress.done()
    if not images:
        raise errors.ImageNotFound(f"{reference} has no image for Linux", remedy="name another image")
    return images
