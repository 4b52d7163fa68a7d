"""What goes into one platform's image: as it is locked, or chosen anew for the platform's base."""

from __future__ import annotations

from dataclasses import replace

from gpuyard.building.copied_images import open_copied
from gpuyard.building.environment import Environment
from gpuyard.building.lock import PlatformLock
from gpuyard.building.planning.bases import base_contents
from gpuyard.building.planning.lock_decision import LockDecision
from gpuyard.building.planning.platform_plan import PlannedRequirements, PlatformPlan
from gpuyard.building.planning.projects import with_projects
from gpuyard.building.work import BuildWork
from gpuyard.building.workdir.base_folders import check_folders
from gpuyard.images.image import Image
from gpuyard.images.oci import Platform


async def plan_platform(
    platform: Platform,
    base: Image,
    decision: LockDecision,
    requirements: PlannedRequirements | None,
    work: BuildWork,
) -> PlatformPlan:
    """One platform's plan.

    Args:
        platform: that it is for.
        base: for that platform.
        decision: says what of the old lock is followed or preferred.
        requirements: None without any.
        work: the build.

    Raises:
        BuildError: the base has no Python, or no room for the workdir.
        ResolveError: no wheels meet the requirements.
        ImageNotFound: there is no image to copy from.
    """
    contents = await base_contents(work, base)
    assert contents.python is not None
    check_folders(contents, work.request.image.workdir, work.base_called)
    kept, preferred = decision.kept(platform), decision.preferred(platform)
    lock = kept or PlatformLock(base.digest)
    plan = PlatformPlan(platform, base, contents, Environment(contents.python), lock, requirements)
    if kept is None:
        plan = await _chosen(plan, preferred, work)
    return with_projects(await _with_copied(plan, preferred, work), work)


async def _chosen(plan: PlatformPlan, preferred: PlatformLock | None, work: BuildWork) -> PlatformPlan:
    # Builds that follow their lock don't load what chooses.
    if plan.requirements:
        from gpuyard.building.planning.wheel_choice import choose_wheels

        plan = await choose_wheels(plan, plan.requirements, preferred, work)
    if work.request.system_packages:
        from gpuyard.building.planning.system_package_choice import choose_system_packages

        plan = await choose_system_packages(plan, preferred, work)
    return plan


async def _with_copied(plan: PlatformPlan, preferred: PlatformLock | None, work: BuildWork) -> PlatformPlan:
    """With the images that files are copied from, as they are locked or as their names lead to."""
    if not work.copies:
        return replace(plan, lock=replace(plan.lock, copied={}))
    locked = preferred.copied if preferred else {}
    copied = await open_copied(work.copies, plan.platform, locked, work.cache)
    digests = {name: image.digest for name, image in copied.items()}
    return replace(plan, lock=replace(plan.lock, copied=digests), copied=copied)
