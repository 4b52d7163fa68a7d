"""The image of a run that names a folder to build it from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gpuyard.building.build import build
from gpuyard.building.options import BuildOptions, request_of_spec
from gpuyard.building.work import Reporter
from gpuyard.images.cache import Cache
from gpuyard.images.places import Places
from gpuyard.workloads.resolved_run import ResolvedRun


@dataclass(frozen=True)
class RunImage:
    """A run whose image is there.

    Attributes:
        run: with its image by digest, as nodes pull it.
        read_as: the image's name on this machine.
        unchanged: nothing was to be built.
    """

    run: ResolvedRun
    read_as: str
    unchanged: bool


async def build_run_image(
    run: ResolvedRun, file: Path, environ: Mapping[str, str], reporter: Reporter
) -> RunImage:
    """Builds the image where something changed.

    Args:
        run: of a spec with `build`.
        file: the spec's.
        environ: the caller's, with what is said of registries.
        reporter: hears how the build goes on.

    Raises:
        UsageError: something that the image is made of is missing or wrong.
        ImageError: the build failed; nothing was tagged.
    """
    request = request_of_spec(run.spec, file, BuildOptions(), environ)
    async with Places(environ) as places:
        built = await build(request, places, Cache.from_environ(environ), environ, reporter)
    return RunImage(
        replace(run, image=built.reference, entrypoint=built.entrypoint), built.pushed, built.unchanged
    )
