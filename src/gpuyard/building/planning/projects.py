"""The user's own projects among the requirements: read before uv sees them, and held against each base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gpuyard.building.lock import Lock
from gpuyard.building.planning.bases import base_contents, open_bases
from gpuyard.building.planning.platform_plan import PlannedRequirements, PlatformPlan
from gpuyard.building.request import Keeping
from gpuyard.building.work import BuildWork
from gpuyard.regular_files import read_regular


async def read_requirements(work: BuildWork, locked: Lock | None) -> PlannedRequirements | None:
    """What the requirements ask for besides wheels; None without requirements.

    Args:
        work: the build.
        locked: where it has the base. One is needed for projects that are built instead of read.
    """
    request = work.request
    if request.requirements is None:
        work.tell_once(_uninstalled(request.root))
        return None
    from gpuyard.building.project.builds import Builds  # Only for requirements: it costs start-up time.

    allowed = (request.allowed.project, request.allowed.sources)
    builds = Builds(*allowed, work.cache, work.environ, work.folder, request.image.created, work.reporter.say)
    builder = None
    if request.allowed.project:
        platform = request.platforms[0]
        bases = await open_bases(work, [platform], locked)
        builder = builds.builder(platform, await base_contents(work, bases.images[platform]))
    requested = await builds.requested(
        request.requirements, builder, frozen=request.locking.keeping is Keeping.FROZEN
    )
    work.tell_once(requested.notices)
    return PlannedRequirements(request.requirements, requested, builds)


def _uninstalled(folder: Path) -> Iterator[str]:
    """Names a file that usually says what an image needs, where nothing asks for it."""
    for name in ("uv.lock", "pyproject.toml", "requirements.txt"):
        try:
            content = read_regular(folder / name)
        except OSError:
            continue
        # Many have one for their tools alone.
        if name != "pyproject.toml" or b"[project]" in content or b"[tool.poetry]" in content:
            yield f"{name} is here, and nothing of it is installed; add `requirements: {name}` to have it"
            return


def tell_unused(
    requirements: PlannedRequirements | None, plans: Sequence[PlatformPlan], work: BuildWork
) -> None:
    """Says which builds are allowed and make nothing."""
    if requirements:
        names = {wheel.name for plan in plans for wheel in plan.lock.wheels}
        for text in requirements.builds.unused(requirements.requested, names):
            work.reporter.say(f"warning: {text}")


def with_projects(plan: PlatformPlan, work: BuildWork) -> PlatformPlan:
    """The plan with the projects that the platform's Python gets.

    Raises:
        ResolveError: one needs another Python.
        BuildError: what was built of one doesn't run on this base.
    """
    if plan.requirements is None:
        return plan
    from gpuyard.building.project.builds import fitting
    from gpuyard.building.project.requested import projects_for
    from gpuyard.building.python.platform_tags import environment

    python = plan.environment.python
    variables = environment(plan.platform, python.minor)
    projects = projects_for(plan.requirements.requested, python.version, variables, work.base_called)
    fitting(plan.requirements.builds, plan.platform, plan.contents, projects)
    return replace(plan, projects=projects)
