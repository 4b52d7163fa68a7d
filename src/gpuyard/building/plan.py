"""What a build will do on one platform: base, lock, environment, wheels; and how the lock comes about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gpuyard import errors
from gpuyard.building.copied_images import CopiedPath, open_copied
from gpuyard.building.environment import WORKDIR, Environment
from gpuyard.building.lock import (
    Keeping,
    Lock,
    PlatformLock,
    changes,
    check_writable,
    lock_news,
    read_lock,
    requirements_digest,
)
from gpuyard.building.python.byte_code import find_compiler
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.system_packages.locked import debian_arch
from gpuyard.building.workdir.base_folders import check_folders, python_of
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.contents.kept import read_contents, read_system
from gpuyard.images.image import Image, OpenedImages, open_images
from gpuyard.images.oci import Digest, Platform
from gpuyard.images.places import Place

if TYPE_CHECKING:
    from gpuyard.building.project.builds import Builds
    from gpuyard.building.project.project import Project
    from gpuyard.building.project.requested import Requested


class Reporter(Protocol):
    """Hears how a build goes on."""

    def say(self, text: str) -> None:
        """Something the user should read even when all goes well."""

    def bytes(self, what: str, done: int, total: int) -> None:
        """Progress of one piece of work; total is 0 when it isn't known."""


@dataclass(frozen=True)
class PlatformPlan:
    """One platform's image to be.

    Attributes:
        requirements: where wheels may be looked up, if there are any.
        sources: where the index has wheels that were resolved just now; others are looked up when needed.
        copied: the images that files are copied from, by their names.
        requested: what the requirements ask for besides wheels.
        projects: the user's own that are installed.
        base_requires: by name what the base's packages require, where it was resolved just now.
    """

    platform: Platform
    base: Image
    contents: ImageContents
    environment: Environment
    lock: PlatformLock
    requirements: Path | None
    sources: Mapping[Wheel, str]
    copied: Mapping[str, Image] = field(default_factory=dict)
    requested: Requested | None = None
    projects: tuple[Project, ...] = ()
    builds: Builds | None = None
    base_requires: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """All that are in the image: the lock's, and the user's own that were built."""
        return (*self.lock.wheels, *(project.wheel for project in self.projects if project.wheel))


@dataclass(frozen=True)
class _Bases:
    """The base of each platform, and the digest of what its name leads to."""

    digest: Digest
    images: Mapping[Platform, Image]


@dataclass(frozen=True)
class Planner:
    """Makes the plans of all platforms, and the lock that they follow.

    Attributes:
        base: where the base is.
        requirements: None without any.
        lock_path: of gpuyard.lock.
        upgrade: lock anew although nothing changed.
        copies: what comes from other images, and where these are.
        workdir: absolute path in the image; the base must have room for it.
        keeping: whether the lock may change, and whether it is looked at whether it should.
        system_packages: what is to be installed of the base's distribution.
    """

    base: Place
    requirements: Path | None
    lock_path: Path
    upgrade: bool
    cache: Cache
    environ: Mapping[str, str]
    reporter: Reporter
    copies: Sequence[tuple[CopiedPath, Place]] = ()
    workdir: str = WORKDIR
    keeping: Keeping = Keeping.UP_TO_DATE
    system_packages: tuple[str, ...] = ()
    builds: Builds | None = None

    async def plan(self, platforms: Sequence[Platform]) -> tuple[list[PlatformPlan], Lock, str]:
        """The plans, the lock, and what is new in it, in words; empty when it is as it was.

        Raises:
            UsageError: the lock or the requirements can't be read, or the lock couldn't be written.
            ImageNotFound: there is no base for a platform.
            BuildError: the base has no Python, or a lock that is to stay would change.
            ResolveError: no wheels meet the requirements.
        """
        old = read_lock(self.lock_path)
        same_base = old is not None and old.base == self.base.text and not self.upgrade
        requested = await self._requested(platforms[0], old if same_base else None)
        if self.keeping is Keeping.FROZEN:
            return await self._follow(old, platforms, requested)
        digest = self._requirements_digest(requested)
        reason = self._why_new(old, digest)
        missing = old is None or any(str(platform) not in old.platforms for platform in platforms)
        if reason or missing:
            self._check_writable()
        bases = await self._bases(platforms, old if same_base else None)
        plans: list[PlatformPlan] = []
        for platform in platforms:
            was = old.platforms.get(str(platform)) if old else None
            plan = await self._platform(
                platform, bases.images[platform], was, same_base, bool(reason), requested
            )
            plans.append(self._with_projects(await self._with_copied(plan, was), requested))
        kept = dict(old.platforms) if old and not reason else {}
        lock = Lock(
            self.base.text,
            bases.digest,
            digest,
            kept | {str(plan.platform): plan.lock for plan in plans},
            tuple(sorted(set(self.system_packages))),
        )
        if lock == old:
            self._tell_newer(lock)
            return plans, lock, ""
        self._check_writable()
        news = lock_news(old, lock, reason)
        if self.keeping is Keeping.LOCKED:
            raise errors.BuildError(
                f"{self.lock_path.name} is not up to date, and --locked lets nobody change it: {news}",
                remedy="build without --locked, and commit the new lock",
            )
        return plans, lock, news

    def _check_writable(self) -> None:
        """Said before the work, and not after it."""
        if self.keeping is Keeping.UP_TO_DATE:
            check_writable(self.lock_path)

    async def _follow(
        self, lock: Lock | None, platforms: Sequence[Platform], requested: Requested | None
    ) -> tuple[list[PlatformPlan], Lock, str]:
        """The plans by the lock as it is; raises UsageError where it isn't one for them."""
        if lock is None:
            raise self._not_frozen("there is none")
        if lock.base != self.base.text:
            raise self._not_frozen(f"its base is {lock.base} and not {self.base.text}")
        if missing := [str(platform) for platform in platforms if str(platform) not in lock.platforms]:
            raise self._not_frozen(f"it has nothing for {', '.join(missing)}")
        bases = await self._bases(platforms, lock)
        plans = []
        for platform in platforms:
            was = lock.platforms[str(platform)]
            plan = await self._platform(platform, bases.images[platform], was, True, False, requested)
            plan = self._with_projects(await self._with_copied(plan, was), requested)
            if plan.lock != was:
                raise self._not_frozen(
                    f"it says other things for {platform}: {', '.join(changes(was, plan.lock))}"
                )
            plans.append(plan)
        return plans, lock, ""

    def _not_frozen(self, why: str) -> errors.UsageError:
        return errors.UsageError(
            f"--frozen takes {self.lock_path} as it is, and {why}",
            remedy="build without --frozen once, and commit the lock",
        )

    async def _bases(self, platforms: Sequence[Platform], locked: Lock | None) -> _Bases:
        """The base for each platform: by the lock's digest where it has one, else what its name leads to."""
        images: dict[Platform, Image] = {}
        for platform in platforms:
            if locked and (was := locked.platforms.get(str(platform))):
                images[platform] = await self._locked_base(platform, was.base_digest)
        missing = [platform for platform in platforms if platform not in images]
        if not missing:
            assert locked is not None  # each platform's base was in it
            return _Bases(locked.base_digest, images)
        place = replace(self.base, target=locked.base_digest) if locked else self.base
        opened = await open_images(place, missing, cache=self.cache, called=self._called)
        images |= {platform: self._fitting(opened, platform) for platform in missing}
        return _Bases(locked.base_digest if locked else opened.digest, images)

    async def _locked_base(self, platform: Platform, digest: Digest) -> Image:
        place = replace(self.base, target=digest)
        opened = await open_images(place, [platform], cache=self.cache, called=self._called)
        return self._fitting(opened, platform)

    def _fitting(self, opened: OpenedImages, platform: Platform) -> Image:
        found = opened.find(platform)
        if found is None:
            there = ", ".join(map(str, opened.platforms)) or "unnamed platforms"
            raise errors.ImageNotFound(
                f"{self._called} is not there for {platform}, only for {there}",
                remedy="choose another --base, or build for what there is with --platform",
            )
        if len(found.config.diff_ids) != len(found.manifest.layers):
            raise errors.ImageDamaged(
                f"{self._called} lists {len(found.manifest.layers)} layers and names others",
                remedy="push or copy the image again",
            )
        return found

    async def _with_copied(self, plan: PlatformPlan, was: PlatformLock | None) -> PlatformPlan:
        """With the images that files are copied from, as they are locked or as their names lead to."""
        if not self.copies:
            return replace(plan, lock=replace(plan.lock, copied={}))
        locked = was.copied if was and not self.upgrade else {}
        copied = await open_copied(self.copies, plan.platform, locked, self.cache)
        digests = {name: image.digest for name, image in copied.items()}
        return replace(plan, lock=replace(plan.lock, copied=digests), copied=copied)

    @property
    def _called(self) -> str:
        return f"the base {self.base.text}"

    async def _requested(self, platform: Platform, locked: Lock | None) -> Requested | None:
        """What the requirements ask for besides wheels, read before uv sees them."""
        if self.requirements is None or self.builds is None:
            return None
        builder = None
        if self.builds.project:
            bases = await self._bases([platform], locked)
            contents = await self._contents(bases.images[platform])
            builder = self.builds.builder(platform, contents)
        found = await self.builds.requested(self.requirements, builder)
        for notice in found.notices:
            self.reporter.say(notice)
        return found

    def _with_projects(self, plan: PlatformPlan, requested: Requested | None) -> PlatformPlan:
        if requested is None or self.builds is None:
            return plan
        from gpuyard.building.project.builds import fitting
        from gpuyard.building.project.requested import projects_for
        from gpuyard.building.python.platform_tags import environment

        python = plan.environment.python
        variables = environment(plan.platform, python.minor)
        projects = projects_for(requested, python.version, variables, self._called)
        fitting(self.builds, plan.platform, plan.contents, projects)
        return replace(plan, requested=requested, projects=projects, builds=self.builds)

    def _requirements_digest(self, requested: Requested | None) -> str:
        if self.requirements is None or requested is None:
            return ""
        from gpuyard.building.python.resolving.requirements_file import Requirements

        own = [requested.fingerprint] if requested.fingerprint else []
        texts = Requirements(self.requirements, self.environ).contents()
        return requirements_digest([*texts, *own])

    def _why_new(self, old: Lock | None, digest: str) -> str:
        if old is None:
            return "there was none"
        if self.upgrade:
            return "--upgrade"
        if old.base != self.base.text:
            return f"the base is {self.base.text} instead of {old.base}"
        if old.requirements != digest:
            return "the requirements changed" if digest else "there are no requirements any more"
        if set(old.system_packages) != set(self.system_packages):
            return "other system packages are asked for"
        wheels = [wheel for platform in old.platforms.values() for wheel in platform.wheels if wheel.path]
        if wheels:
            from gpuyard.building.python.resolving.local_wheels import changed

            return ", ".join(changed(wheels, self.lock_path.parent.absolute(), self.cache))
        return ""

    def _tell_newer(self, lock: Lock) -> None:
        """A folder of wheels is an index, of which the lock keeps the versions; but nobody sees that."""
        wheels = {wheel for platform in lock.platforms.values() for wheel in platform.wheels if wheel.path}
        if wheels and self.requirements:
            from gpuyard.building.python.resolving.local_wheels import newer
            from gpuyard.building.python.resolving.requirements_file import Requirements

            asked = Requirements(self.requirements, self.environ).asked()
            for text in newer(wheels, self.lock_path.parent.absolute(), asked):
                self.reporter.say(f"{self.lock_path.name} keeps to {text}; --upgrade takes the newer one")

    async def _platform(
        self,
        platform: Platform,
        base: Image,
        was: PlatformLock | None,
        same_base: bool,
        fresh: bool,
        requested: Requested | None,
    ) -> PlatformPlan:
        contents = await self._contents(base)
        assert contents.python is not None
        check_folders(contents, self.workdir, self._called)
        environment = Environment(contents.python)
        if was and not fresh and same_base:
            return PlatformPlan(platform, base, contents, environment, was, self.requirements, {})
        requires: Mapping[str, Sequence[str]] = {}
        if self.requirements:
            requires = (await read_system(base, self.cache, self._reading(base))).requires
        lock, sources = await self._resolve(platform, contents, requires, base, was, requested)
        if self.system_packages:
            lock = await self._choose(platform, base, was, lock)
        return PlatformPlan(
            platform, base, contents, environment, lock, self.requirements, sources, base_requires=requires
        )

    async def _choose(
        self, platform: Platform, base: Image, was: PlatformLock | None, lock: PlatformLock
    ) -> PlatformLock:
        """The lock with system packages, from the base's archives."""
        from gpuyard.building.system_packages.choose import Chooser

        self.reporter.bytes(f"choosing system packages for {platform}", 0, 0)
        arch = debian_arch(platform)
        system = await read_system(base, self.cache, self._reading(base))
        chooser = Chooser(self.base.text, system.files, arch, self.cache, self.environ, self.reporter.say)
        preferred = was.system_packages if was and not self.upgrade else ()
        chosen = await chooser.choose(self.system_packages, datetime.now(UTC), preferred)
        return replace(lock, system_packages=chosen, distribution=chooser.distribution)

    async def _contents(self, base: Image) -> ImageContents:
        contents = await read_contents(base, self.cache, self._reading(base))
        python_of(contents, self._called)
        return contents

    def _reading(self, base: Image) -> Callable[[int, int], None]:
        return lambda done, total: self.reporter.bytes(f"reading the base {base.digest[7:19]}", done, total)

    async def _resolve(
        self,
        platform: Platform,
        contents: ImageContents,
        requires: Mapping[str, Sequence[str]],
        base: Image,
        was: PlatformLock | None,
        requested: Requested | None,
    ) -> tuple[PlatformLock, Mapping[Wheel, str]]:
        assert contents.python is not None
        if self.requirements is None:
            return PlatformLock(base.digest), {}
        from gpuyard.building.python.conflicts import replaced
        from gpuyard.building.python.index.fetching import wheel_fetcher
        from gpuyard.building.python.resolve import Resolver

        self.reporter.bytes(f"resolving {self.requirements.name} for {platform}", 0, 0)
        preferred = was.wheels if was and not self.upgrade else ()
        folder = self.lock_path.parent.absolute()
        resolver = Resolver(self.environ, folder, platform, contents, requires, requested)
        found = await resolver.resolve(self.requirements, preferred)
        for name, version in sorted(found.base_packages.items()):
            self.reporter.say(f"{name} {version} comes with the base and is not installed again")
        fetcher = wheel_fetcher(self.cache, self.environ, folder, self.requirements)
        sources = await fetcher.measured(found.sources)
        if found.to_build and self.builds:
            builder = self.builds.builder(platform, contents)
            built = await self.builds.of_sources(found.to_build, builder, self.requirements)
            sources |= dict.fromkeys(built, "")
        wheels = tuple(sorted(sources))
        if other := replaced(wheels, contents.packages):
            self.reporter.say(
                "installed in the place of the base's, for the base's own packages too: " + ", ".join(other)
            )
        compiler = await find_compiler(contents.python.minor, self.environ) if wheels else None
        byte_code = str(compiler or "none") if wheels else ""
        return (
            PlatformLock(base.digest, contents.python.version, found.base_packages, wheels, byte_code),
            sources,
        )
