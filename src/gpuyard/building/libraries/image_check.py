"""The check of an image's shared libraries, which an image of the same base and layers doesn't need again."""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard.building.layers.large_files import LargeFileLayer
from gpuyard.building.layers.planned_layer import PlannedLayer, layer_key
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.work import BuildWork
from gpuyard.building.workdir.application import Application
from gpuyard.images.contents.system import is_library

#: Wheels that were seen to find their libraries.
_KIND = "libraries-found"


def check_is_due(
    plan: PlatformPlan, layers: Sequence[PlannedLayer], application: Application, work: BuildWork
) -> bool:
    """Whether there are wheels that need libraries, and nobody has looked at just these."""
    if all(wheel.file.endswith("-any.whl") for wheel in plan.wheels):
        return False
    return not work.cache.path(_KIND, _mark(plan, layers, application, work)).exists()


async def check_image(
    plan: PlatformPlan, layers: Sequence[PlannedLayer], application: Application, work: BuildWork
) -> None:
    """Refuses an image whose wheels can't be imported, and remembers one whose can.

    Args:
        plan: of the image.
        layers: that the build adds, after they were prepared.
        application: its files.
        work: the build.

    Raises:
        BuildError: a package can't be imported.
    """
    from gpuyard.building.libraries.check import check_libraries  # Most builds have looked before.

    shipped, allowed = _shipped(application), work.request.allowed.missing_libraries
    await check_libraries(plan, layers, shipped, allowed, work.cache, work.environ, work.reporter)
    work.cache.write(_KIND, _mark(plan, layers, application, work), {})


def _mark(
    plan: PlatformPlan, layers: Sequence[PlannedLayer], application: Application, work: BuildWork
) -> str:
    """Digest of all that decides whether the wheels find their libraries."""
    keys = tuple(layer.key for layer in layers if layer.key and not isinstance(layer, LargeFileLayer))
    decides = (work.request.allowed.missing_libraries, _shipped(application), keys)
    return layer_key("libraries 2", plan.base.digest, repr(decides))


def _shipped(application: Application) -> tuple[str, ...]:
    """Paths of the application's files that look like libraries, sorted."""
    return tuple(sorted(path for path, _ in application.files if is_library(f"/{path}")))
