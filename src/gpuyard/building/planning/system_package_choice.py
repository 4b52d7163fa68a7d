"""The system packages of one platform, chosen anew from the archives of its base's distribution."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from gpuyard.building.lock import PlatformLock
from gpuyard.building.planning.bases import base_system
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.system_packages.choose import Chooser
from gpuyard.building.system_packages.locked import debian_arch
from gpuyard.building.work import BuildWork


async def choose_system_packages(
    plan: PlatformPlan, preferred: PlatformLock | None, work: BuildWork
) -> PlatformPlan:
    """The plan with a lock that has what the request names, and what that depends on.

    Args:
        plan: of a base whose archives are asked.
        preferred: has versions that are taken where they still fit.
        work: the build.
    """
    work.reporter.bytes(f"choosing system packages for {plan.platform}", 0, 0)
    system = await base_system(work, plan.base)
    chooser = Chooser(
        work.base.text,
        system.files,
        debian_arch(plan.platform),
        work.cache,
        work.environ,
        work.reporter.say,
    )
    chosen = await chooser.choose(
        work.request.system_packages, datetime.now(UTC), preferred.system_packages if preferred else ()
    )
    lock = replace(plan.lock, system_packages=chosen, distribution=chooser.distribution)
    return replace(plan, lock=lock)
