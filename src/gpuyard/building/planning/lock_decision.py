"""Whether the lock of an earlier build stays as it is, and why it doesn't.

A lock is kept as long as it answers what is asked: the same base by name, the same requirements and system
packages, and the same files where wheels are files. Else it is made anew, and what it had is preferred,
unless the user wants newer things (`--upgrade`). `--frozen` takes it without such a look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from gpuyard import errors
from gpuyard.building.lock import Lock, PlatformLock, requirements_digest
from gpuyard.building.planning.platform_plan import PlannedRequirements, PlatformPlan
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.work import BuildWork
from gpuyard.images.oci import Platform


@dataclass(frozen=True)
class LockDecision:
    """What becomes of a lock.

    Attributes:
        old: as it was read; None when there was none.
        reason: why it is made anew, in words; empty when what it has stays.
        upgrade: nothing of the old one is preferred.
    """

    old: Lock | None
    reason: str
    upgrade: bool

    def kept(self, platform: Platform) -> PlatformLock | None:
        """What is followed as it is."""
        return None if self.reason else self._old(platform)

    def preferred(self, platform: Platform) -> PlatformLock | None:
        """What is taken again where it still fits."""
        return None if self.upgrade else self._old(platform)

    def _old(self, platform: Platform) -> PlatformLock | None:
        return self.old.platforms.get(str(platform)) if self.old else None


def with_same_base(old: Lock | None, work: BuildWork) -> Lock | None:
    """The lock where its bases are still those to build on."""
    same = old is not None and old.base == work.base.text and not work.request.locking.upgrade
    return old if same else None


def digest_of(requirements: PlannedRequirements | None, work: BuildWork) -> str:
    """Changes with all that the requirements say; empty without any."""
    if requirements is None:
        return ""
    from gpuyard.building.python.resolving.requirements_file import Requirements

    projects = requirements.requested.fingerprint
    texts = Requirements(requirements.file, work.environ).contents()
    return requirements_digest([*texts, *([projects] if projects else [])])


async def decide(old: Lock | None, digest: str, work: BuildWork) -> LockDecision:
    """The decision by what is asked for now.

    Args:
        old: as it was read.
        digest: of the requirements.
        work: the build.
    """
    return LockDecision(old, await _why_new(old, digest, work), work.request.locking.upgrade)


async def _why_new(old: Lock | None, digest: str, work: BuildWork) -> str:
    if old is None:
        return "there was none"
    if work.request.locking.upgrade:
        return "--upgrade"
    if old.base != work.base.text:
        return f"the base is {work.base.text} instead of {old.base}"
    if old.requirements != digest:
        return "the requirements changed" if digest else "there are no requirements any more"
    if set(old.system_packages) != set(work.request.system_packages):
        return "other system packages are asked for"
    if wheels := [w for platform in old.platforms.values() for w in platform.wheels if w.path or w.source]:
        from gpuyard.building.python.resolving.local_wheels import changed

        progress = partial(work.reporter.bytes, "reading wheels")
        return ", ".join(await changed(wheels, work.folder, work.cache, progress))
    return ""


def follow(old: Lock | None, work: BuildWork) -> LockDecision:
    """The decision of `--frozen`.

    Raises:
        UsageError: the lock isn't one for this build.
    """
    if old is None:
        raise _not_frozen("there is none", work)
    if old.base != work.base.text:
        raise _not_frozen(f"its base is {old.base} and not {work.base.text}", work)
    names = map(str, work.request.platforms)
    if missing := [name for name in names if name not in old.platforms]:
        raise _not_frozen(f"it has nothing for {', '.join(missing)}", work)
    return LockDecision(old, "", upgrade=False)


def refuse_change(decision: LockDecision, plan: PlatformPlan, work: BuildWork) -> None:
    """Raises UsageError where a plan differs from the lock that `--frozen` follows."""
    kept = decision.kept(plan.platform)
    if plan.lock != kept:
        from gpuyard.building.planning.lock_changes import changes

        changed = ", ".join(changes(kept, plan.lock))
        raise _not_frozen(f"it says other things for {plan.platform}: {changed}", work)


def _not_frozen(why: str, work: BuildWork) -> errors.UsageError:
    return errors.UsageError(
        f"--frozen takes {work.request.lock_path} as it is, and {why}",
        remedy="build without --frozen once, and commit the lock",
    )


def tell_newer(lock: Lock, requirements: PlannedRequirements | None, work: BuildWork) -> None:
    """A folder of wheels is an index, of which the lock keeps the versions; but nobody sees that."""
    wheels = set(_local_wheels(lock))
    if wheels and requirements:
        from gpuyard.building.python.resolving.local_wheels import newer
        from gpuyard.building.python.resolving.requirements_file import Requirements

        asked = Requirements(requirements.file, work.environ).asked()
        for text in newer(wheels, work.folder, asked):
            work.reporter.say(f"{work.request.lock_path.name} keeps to {text}; --upgrade takes the newer one")


def _local_wheels(lock: Lock) -> Iterator[Wheel]:
    return (wheel for platform in lock.platforms.values() for wheel in platform.wheels if wheel.path)
