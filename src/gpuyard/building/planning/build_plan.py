"""The plan of a whole build: what is made for each platform, and the lock that all of it follows.

1. The old lock is read, and what the requirements ask for besides wheels (`projects.py`).
2. The old lock stays or it doesn't, for a reason that the user is told (`lock_decision.py`).
3. Each platform's base is opened, and its plan follows its lock or is chosen anew (`platform_choices.py`).
4. What was chosen is the new lock, where it is allowed to change. The caller writes it when all is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.building.lock import Lock, check_writable, read_lock
from gpuyard.building.planning.bases import Bases, open_bases
from gpuyard.building.planning.lock_decision import (
    LockDecision,
    decide,
    digest_of,
    follow,
    refuse_change,
    tell_newer,
    with_same_base,
)
from gpuyard.building.planning.moved_layouts import tell_moved
from gpuyard.building.planning.platform_choices import plan_platform
from gpuyard.building.planning.platform_plan import PlannedRequirements, PlatformPlan
from gpuyard.building.planning.projects import read_requirements, tell_unused
from gpuyard.building.request import Keeping
from gpuyard.building.work import BuildWork


@dataclass(frozen=True)
class BuildPlan:
    """What a build will do.

    Attributes:
        platforms: in the request's order.
        lock: that it follows.
        news: what is new in the lock, in words; empty when it is as it was.
    """

    platforms: tuple[PlatformPlan, ...]
    lock: Lock
    news: str = ""


async def plan_build(work: BuildWork) -> BuildPlan:
    """Decides all that a build does.

    Raises:
        UsageError: the lock or the requirements can't be read, or the lock couldn't be written.
        ImageNotFound: there is no base for a platform.
        BuildError: the base has no Python, or a lock that is to stay would change.
        ResolveError: no wheels meet the requirements.
    """
    old = read_lock(work.request.lock_path)
    same_base = with_same_base(old, work)
    requirements = await read_requirements(work, same_base)
    if work.request.locking.keeping is Keeping.FROZEN:
        return await _frozen(follow(old, work), requirements, work)
    digest = digest_of(requirements, work)
    decision = await decide(old, digest, work)
    if not all(map(decision.kept, work.request.platforms)):
        _check_writable(work)
    bases = await open_bases(work, work.request.platforms, same_base)
    plans = [
        await plan_platform(platform, bases.images[platform], decision, requirements, work)
        for platform in work.request.platforms
    ]
    tell_unused(requirements, plans, work)
    lock = _new_lock(decision, digest, bases, plans, work)
    await tell_moved(lock, work)
    if lock == old:
        tell_newer(lock, requirements, work)
        return BuildPlan(tuple(plans), lock)
    return BuildPlan(tuple(plans), lock, _news(decision, lock, work))


async def _frozen(
    decision: LockDecision, requirements: PlannedRequirements | None, work: BuildWork
) -> BuildPlan:
    """The plan by the lock as it is; raises UsageError where it isn't one for it."""
    lock = decision.old
    assert lock is not None
    bases = await open_bases(work, work.request.platforms, lock)
    plans = []
    for platform in work.request.platforms:
        plan = await plan_platform(platform, bases.images[platform], decision, requirements, work)
        refuse_change(decision, plan, work)
        plans.append(plan)
    tell_unused(requirements, plans, work)
    return BuildPlan(tuple(plans), lock)


def _new_lock(
    decision: LockDecision, digest: str, bases: Bases, plans: Sequence[PlatformPlan], work: BuildWork
) -> Lock:
    """Of platforms that this build isn't for, what was locked stays, unless all is locked anew."""
    others = dict(decision.old.platforms) if decision.old and not decision.reason else {}
    return Lock(
        work.base.text,
        bases.digest,
        digest,
        others | {str(plan.platform): plan.lock for plan in plans},
        tuple(sorted(set(work.request.system_packages))),
    )


def _news(decision: LockDecision, lock: Lock, work: BuildWork) -> str:
    """What is new in a lock that may change; raises BuildError where it mayn't."""
    from gpuyard.building.planning.lock_changes import lock_news  # Few builds change their lock.

    _check_writable(work)
    news = lock_news(decision.old, lock, decision.reason)
    if work.request.locking.keeping is Keeping.LOCKED:
        raise errors.BuildError(
            f"{work.request.lock_path.name} is not up to date, and --locked lets nobody change it: {news}",
            remedy="build without --locked, and commit the new lock",
        )
    return news


def _check_writable(work: BuildWork) -> None:
    """Said before the work, and not after it."""
    if work.request.locking.keeping is Keeping.UP_TO_DATE:
        check_writable(work.request.lock_path)
