"""A build from beginning to end: plan, fetch, layers, config, manifest; the tag is written last.

Everything that a tag will name is in the store before the tag is: a build that fails or is stopped leaves
what it uploaded without a name, and the tag as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpuyard import errors
from gpuyard.atomic_files import sweep
from gpuyard.building.copied_images import CopiedPath
from gpuyard.building.entry_point import entry_point
from gpuyard.building.environment import WORKDIR
from gpuyard.building.layers.large_files import large_files
from gpuyard.building.layers.wheel_layers import check_wheels
from gpuyard.building.lock import NAME as LOCK_NAME
from gpuyard.building.lock import Keeping, lock_names, write_lock
from gpuyard.building.plan import Planner, PlatformPlan, Reporter
from gpuyard.building.platform_build import BuiltImage, PlatformBuild, Recipe
from gpuyard.building.revision import record_revision, source_revision
from gpuyard.building.workdir.application import Application, read_application
from gpuyard.building.workdir.secret_search import refuse_secret_values
from gpuyard.images.cache import Cache
from gpuyard.images.layers import EPOCH, compression
from gpuyard.images.oci import OCI_INDEX, OCI_MANIFEST, Config, Descriptor, Digest, Index, Platform
from gpuyard.images.places import Place, Places
from gpuyard.images.reference import ImageReference


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        base: where the base image is.
        target: where the image goes, with its tag.
        root: folder of the application's files.
        requirements: file with what to install, if any.
        lock: gpuyard.lock; beside the application by default.
        lock_stays: whether it is anybody's after the build; else nobody hears of it.
        platforms: at least one; several make an index.
        workdir: absolute path in the image.
        command: what a container of the image starts when it is told nothing; empty for the base's own.
        compression: "gzip" or "zstd".
        byte_code: whether wheels are compiled.
        allow_secrets: files, folders or patterns of what may go in although it looks secret.
        upgrade: lock anew.
        created: Unix time of everything in the image, seconds.
        base_name: what the lock and the image call the base, where that is another than `base`: a layout's
            path as the user wrote it, which is the same on each machine.
        pull_repository: the name that nodes pull the image by, where that is another than the target's.
        tags: further names for the same image, in the target's repository or elsewhere.
        keeping: what becomes of the lock.
        allow_missing_libraries: names of shared libraries that wheels may lack.
        copies: files and folders of other images.
        env: variables of the image, over the base's.
        labels: of the image, over the base's.
        system_packages: what to install of the base's distribution: NAME or NAME=VERSION.
        build_project: whether the user's own projects are built, by their backends.
        build_sources: names of distributions that may be built of their sources; ALL_SOURCES for all.
    """

    base: str
    target: str
    root: Path
    requirements: Path | None = None
    lock: Path | None = None
    lock_stays: bool = True
    platforms: tuple[Platform, ...] = (Platform("linux", "amd64"),)
    workdir: str = WORKDIR
    command: tuple[str, ...] = ()
    compression: str = "gzip"
    byte_code: bool = True
    allow_secrets: tuple[str, ...] = ()
    upgrade: bool = False
    created: int = EPOCH
    base_name: str | None = None
    pull_repository: str | None = None
    keeping: Keeping = Keeping.UP_TO_DATE
    tags: tuple[str, ...] = ()
    allow_missing_libraries: tuple[str, ...] = ()
    copies: tuple[CopiedPath, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    build_project: bool = False
    build_sources: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """All names that the image gets, the first of which it is built into."""
        return tuple(dict.fromkeys((self.target, *self.tags)))


@dataclass(frozen=True)
class BuildResult:
    """What was built.

    Attributes:
        reference: the image by digest, by the name that nodes know it by.
        pushed: the same where it was pushed.
        tags: as they were asked for, the first being where it was built into.
        elsewhere: the image by digest in the other places that it was pushed to.
        manifest: the image's, or the index over several platforms.
    """

    reference: str
    pushed: str
    tags: tuple[str, ...]
    elsewhere: tuple[str, ...]
    manifest: Descriptor
    platforms: Mapping[str, BuiltImage]

    @property
    def tag(self) -> str:
        """The first one."""
        return self.tags[0]

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """Of its containers; that of all platforms, whose bases are one image's."""
        first = next(iter(self.platforms.values()))
        return Config.parse(first.config_json).container.entrypoint

    @property
    def digest(self) -> Digest:
        """The manifest's."""
        return self.manifest.digest

    @property
    def unchanged(self) -> bool:
        """Whether the store had all of it already."""
        return all(image.unchanged for image in self.platforms.values())


async def build(
    request: BuildRequest, places: Places, cache: Cache, environ: Mapping[str, str], reporter: Reporter
) -> BuildResult:
    """Builds an image and stores it.

    Raises:
        UsageError: the request, the lock or the application's files can't be taken.
        ImageError: the base, the wheels or the target fail; nothing was tagged.
    """
    targets = [await _open_target(places, text) for text in request.targets]
    base = await places.open(request.base)
    base = replace(base, text=request.base_name or base.text)
    copies = [(copied, await places.open(copied.opened or copied.image)) for copied in request.copies]
    cache.sweep()
    sweep((request.lock or request.root / LOCK_NAME).parent)
    application = read_files(request, cache, environ)
    for notice in application.notices:
        reporter.say(notice)
    for warning in application.warnings:
        reporter.say(f"warning: {warning}")
    revision = asyncio.create_task(source_revision(application, environ), name="source revision")
    try:
        return await _build(request, base, copies, targets, application, revision, cache, environ, reporter)
    finally:
        revision.cancel()
        await asyncio.gather(revision, return_exceptions=True)


def read_files(request: BuildRequest, cache: Cache, environ: Mapping[str, str]) -> Application:
    """The files that a build takes.

    Raises:
        UsageError: one of them, or what the request says, looks like a secret; one can't be read.
    """
    own = (*lock_names(request.root), *_archive_inside(request))
    application = read_application(
        request.root, environ, allow_secrets=request.allow_secrets, leave_out=own, cache=cache
    )
    refuse_secret_values(
        {f"the variable {name}": f"{name}={value}" for name, value in request.env.items()}
        | {f"the label {name}": value for name, value in request.labels.items()}
        | {"the command": " ".join(request.command)}
    )
    return application


async def _build(
    request: BuildRequest,
    base: Place,
    copies: Sequence[tuple[CopiedPath, Place]],
    targets: Sequence[Place],
    application: Application,
    revision: asyncio.Task[str],
    cache: Cache,
    environ: Mapping[str, str],
    reporter: Reporter,
) -> BuildResult:
    target, *others = targets
    lock_path = request.lock or request.root / LOCK_NAME
    planner = _planner(request, base, copies, lock_path, cache, environ, reporter)
    plans, lock, news = await planner.plan(request.platforms)
    if news and request.lock_stays:
        _tell_entry_points(plans, request.command, reporter)
    digests = await _file_digests(application, cache, reporter)
    recipe = _recipe(request, base, target, application, digests)
    images = [await PlatformBuild(plan, recipe, cache, environ, reporter).run() for plan in plans]
    if news:
        # By now every wheel of it was fetched, and is what it says.
        for plan in plans:
            check_wheels(plan, plan.wheels, recipe.folder, cache, environ)
        write_lock(lock_path, lock)
    if news and request.lock_stays:
        reporter.say(f"{lock_path.name} written: {news}")
    content, media_type = images[0].manifest_json, OCI_MANIFEST
    if len(images) > 1:
        content, media_type = await _make_index(target, plans, images), OCI_INDEX
    manifest = Descriptor.for_bytes(media_type, content)
    known = all(image.unchanged for image in images)
    await _send_on(target, others, manifest, content, reporter)
    for store in {place.store.name: place.store for place in targets}.values():
        may_be_known = known or store is not target.store
        await record_revision(store, manifest, await revision, may_be_known=may_be_known)
    for place in targets:
        await place.store.put_manifest(content, media_type, place.tag)
    pushed = target.pinned(manifest.digest)
    elsewhere = dict.fromkeys(place.pinned(manifest.digest) for place in others)
    return BuildResult(
        reference=_pulled_as(request.pull_repository, target).pinned(manifest.digest),
        pushed=pushed,
        tags=tuple(place.text for place in targets),
        elsewhere=tuple(name for name in elsewhere if name != pushed),
        manifest=manifest,
        platforms={str(plan.platform): image for plan, image in zip(plans, images, strict=True)},
    )


def _recipe(
    request: BuildRequest,
    base: Place,
    target: Place,
    application: Application,
    file_digests: Mapping[str, str],
) -> Recipe:
    return Recipe(
        base=base,
        target=target,
        application=application,
        workdir=request.workdir,
        command=request.command,
        compression=compression(request.compression),
        byte_code=request.byte_code,
        created=request.created,
        folder=(request.lock or request.root / LOCK_NAME).parent.absolute(),
        file_digests=file_digests,
        allow_missing_libraries=request.allow_missing_libraries,
        copies=request.copies,
        env=request.env,
        labels=request.labels,
    )


async def _file_digests(application: Application, cache: Cache, reporter: Reporter) -> dict[str, str]:
    sizes = large_files(application)
    if not sizes:
        return {}
    from gpuyard.building.layers.file_digests import FileDigests

    def progress(done: int, total: int) -> None:
        reporter.bytes("reading large files", done, total)

    return await FileDigests(application.root, cache, progress).digests(sizes)


async def _open_target(places: Places, text: str) -> Place:
    target = await places.open(text, write=True)
    if not target.tag:
        raise errors.UsageError(
            f"{text} is a digest, and an image gets its digest from what it holds", remedy="name a tag"
        )
    return target


async def _send_on(
    target: Place, others: Sequence[Place], manifest: Descriptor, content: bytes, reporter: Reporter
) -> None:
    """Has in the other places all that the manifest names; none has a tag of it yet."""
    if all(place.store.name == target.store.name for place in others):
        return
    from gpuyard.building.sbom import MEDIA_TYPE as SBOM
    from gpuyard.images.copying import copy_contents  # Most builds have one place, and imports cost time.

    # By digest alone, so that it can be read from there.
    await target.store.put_manifest(content, manifest.media_type)
    for place in others:
        await copy_contents(
            target,
            place,
            manifest,
            artifacts=(SBOM,),
            progress=lambda digest, done, total: reporter.bytes(f"layer {digest[7:19]}", done, total),
        )


def _planner(
    request: BuildRequest,
    base: Place,
    copies: Sequence[tuple[CopiedPath, Place]],
    lock_path: Path,
    cache: Cache,
    environ: Mapping[str, str],
    reporter: Reporter,
) -> Planner:
    builds: Builds | None = None
    if request.requirements is not None:
        from gpuyard.building.project.builds import Builds  # Only for requirements: it costs start-up time.

        allowed = (request.build_project, request.build_sources)
        builds = Builds(*allowed, cache, environ, lock_path.parent.absolute(), request.created, reporter.say)
    return Planner(
        base,
        request.requirements,
        lock_path,
        request.upgrade,
        cache,
        environ,
        reporter,
        keeping=request.keeping,
        copies=copies,
        workdir=request.workdir,
        system_packages=request.system_packages,
        builds=builds,
    )


def _tell_entry_points(plans: Sequence[PlatformPlan], command: Sequence[str], reporter: Reporter) -> None:
    """Says what became of the base's own; once, while the base stays the same."""
    starts = [entry_point(plan.base.config.container, command) for plan in plans]
    for words in dict.fromkeys(start.left_out for start in starts if start.left_out):
        reporter.say(words)


async def _make_index(target: Place, plans: Sequence[PlatformPlan], images: Sequence[BuiltImage]) -> bytes:
    """The index over several platforms, whose images are in the store."""
    for image in images:
        if not image.unchanged:
            await target.store.put_manifest(image.manifest_json, OCI_MANIFEST)
    entries = tuple(
        replace(image.manifest, platform=plan.base.platform)
        for image, plan in zip(images, plans, strict=True)
    )
    return Index(entries, images[0].annotations).to_bytes()


def _archive_inside(request: BuildRequest) -> Iterator[str]:
    """The targets' paths below the application's folder: the last build's archive is no part of the next."""
    for target in request.targets:
        if not target.startswith("oci"):
            continue
        from gpuyard.images.layout.reference import (
            LayoutReference,  # Only where it is needed: it costs start-up time.
        )

        layout = LayoutReference.parse(target)
        root = request.root.absolute()
        if layout and layout.archive and layout.path.absolute().is_relative_to(root):
            yield str(layout.path.absolute().relative_to(root))


def _pulled_as(repository: str | None, target: Place) -> Place:
    """The target by the name that nodes know it by."""
    if repository is None or target.reference is None:
        return target
    return replace(target, reference=ImageReference.parse(repository))
