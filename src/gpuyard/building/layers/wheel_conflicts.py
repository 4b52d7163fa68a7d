"""Whether the wheels of an image go together with one another and with its base, told before it is tagged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gpuyard import errors
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.python.wheels import Wheel, wheel_path
from gpuyard.images.cache import Cache


def check_wheels(
    plan: PlatformPlan, wheels: Sequence[Wheel], folder: Path, cache: Cache, environ: Mapping[str, str]
) -> None:
    """Holds what wheels require against what the image will have, as far as they are on this machine.

    Args:
        plan: of the platform that they are for.
        wheels: some of the plan's.
        folder: where uv looks for its configuration, which may override a requirement.

    Raises:
        BuildError: the image couldn't import them.
    """
    from gpuyard.building.python.conflicts import InImage
    from gpuyard.building.python.index.settings import read_settings
    from gpuyard.building.python.platform_tags import environment
    from gpuyard.building.python.pylock import is_lock
    from gpuyard.building.python.resolving.requirements_file import Requirements

    image = InImage(
        {wheel.name: wheel.version for wheel in plan.lock.wheels}
        | {project.metadata.key: project.metadata.version for project in plan.projects},
        plan.contents.packages,
        plan.base_requires,
        environment(plan.platform, plan.environment.python.minor),
    )
    files = {wheel: path for wheel in wheels if (path := wheel_path(cache, wheel)).exists()}
    # A resolver knows what it left out; a lock may be of other requirements than the base was made for.
    file = plan.requirements.file if plan.requirements else None
    taken = file is not None and is_lock(file)
    found = list(image.unmet(files, missing=taken))
    if not found:
        return
    asked = Requirements(file, environ) if file else None
    overridden = read_settings(environ, folder, asked).overridden
    if said := [text for name, text in found if name not in overridden]:
        raise errors.BuildError(
            "the image couldn't import what it has: " + "; ".join(said),
            remedy="lock anew: with the tool that wrote the lock, or with --upgrade",
        )
