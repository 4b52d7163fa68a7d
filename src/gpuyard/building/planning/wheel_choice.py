"""The wheels of one platform, chosen anew: by uv from an index, or built of sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpuyard.building.lock import PlatformLock
from gpuyard.building.planning.bases import base_system
from gpuyard.building.planning.platform_plan import PlannedRequirements, PlatformPlan
from gpuyard.building.python.byte_code import find_compiler
from gpuyard.building.python.conflicts import replaced
from gpuyard.building.python.index.fetching import wheel_fetcher
from gpuyard.building.python.resolve import Resolved, Resolver
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.work import BuildWork


async def choose_wheels(
    plan: PlatformPlan, requirements: PlannedRequirements, preferred: PlatformLock | None, work: BuildWork
) -> PlatformPlan:
    """The plan with a lock of what meets the requirements on its base.

    Args:
        plan: with a lock that has no wheels.
        requirements: of the build.
        preferred: has versions that are taken where they still fit.
        work: the build.

    Raises:
        ResolveError: no wheels meet the requirements.
    """
    say, file, contents = work.reporter.say, requirements.file, plan.contents
    requires = (await base_system(work, plan.base)).requires
    work.reporter.bytes(f"resolving {file.name} for {plan.platform}", 0, 0)
    resolver = Resolver(work.environ, work.folder, plan.platform, contents, requires, requirements.requested)
    found = await resolver.resolve(file, preferred.wheels if preferred else ())
    for name, version in sorted(found.base_packages.items()):
        say(f"{name} {version} comes with the base and is not installed again")
    sources = await _measured_or_built(found, plan, requirements, work)
    wheels = tuple(sorted(sources))
    if other := replaced(wheels, contents.packages):
        say("installed in the place of the base's, for the base's own packages too: " + ", ".join(other))
    python = plan.environment.python
    compiler = await find_compiler(python.minor, work.environ) if wheels else None
    lock = replace(
        plan.lock,
        python=python.version,
        from_base=found.base_packages,
        wheels=wheels,
        byte_code=str(compiler or "none") if wheels else "",
    )
    return replace(plan, lock=lock, sources=sources, base_requires=requires)


async def _measured_or_built(
    found: Resolved, plan: PlatformPlan, requirements: PlannedRequirements, work: BuildWork
) -> Mapping[Wheel, str]:
    """Each wheel with its size, and where the index has it; one that was built is on this machine."""
    fetcher = wheel_fetcher(work.cache, work.environ, work.folder, requirements.file)
    sources = dict(await fetcher.measured(found.sources))
    if found.to_build:
        builder = requirements.builds.builder(plan.platform, plan.contents)
        built = await requirements.builds.of_sources(found.to_build, builder, requirements.file)
        sources |= dict.fromkeys(built, "")
    return sources
