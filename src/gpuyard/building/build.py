"""A build from beginning to end: plan, fetch, layers, config, manifest; the tag is written last.

Everything that a tag will name is in the store before the tag is: a build that fails or is stopped leaves
what it uploaded without a name, and the tag as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gpuyard import errors
from gpuyard.atomic_files import sweep
from gpuyard.building.documents.entry_point import entry_point
from gpuyard.building.layers.large_files import large_files
from gpuyard.building.lock import lock_names, write_lock
from gpuyard.building.planning.build_plan import BuildPlan, plan_build
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.platform_build import PlatformBuild
from gpuyard.building.request import BuildRequest
from gpuyard.building.result import BuildResult, BuiltImage
from gpuyard.building.revision import record_revision, source_revision
from gpuyard.building.work import BuildWork, Reporter
from gpuyard.building.workdir.application import Application, read_application
from gpuyard.building.workdir.secret_search import refuse_secret_values
from gpuyard.images.cache import Cache
from gpuyard.images.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Index
from gpuyard.images.places import Place, Places
from gpuyard.images.reference import ImageReference

#: What the cache keeps for good: where it came from, it may not be had any more; and the newest Release of
#: each archive, after which nobody is to hand out an older one.
_LASTING = ("wheels", "built-wheels", "debs", "apt-releases")


async def build(
    request: BuildRequest, places: Places, cache: Cache, environ: Mapping[str, str], reporter: Reporter
) -> BuildResult:
    """Builds an image and stores it.

    Raises:
        UsageError: the request, the lock or the application's files can't be taken.
        ImageError: the base, the wheels or the target fail; nothing was tagged.
    """
    work = await _open(request, places, cache, environ, reporter)
    cache.sweep(_LASTING)
    sweep(request.lock_path.parent)
    application = read_files(request, cache, environ)
    work.tell_once(application.notices)
    for warning in application.warnings:
        reporter.say(f"warning: {warning}")
    revision = asyncio.create_task(source_revision(application, environ), name="source revision")
    try:
        return await _build(work, application, revision)
    finally:
        revision.cancel()
        await asyncio.gather(revision, return_exceptions=True)


async def _open(
    request: BuildRequest, places: Places, cache: Cache, environ: Mapping[str, str], reporter: Reporter
) -> BuildWork:
    targets = [await _open_target(places, text) for text in request.targets]
    base = await places.open(request.base)
    base = replace(base, text=request.base_name or base.text)
    copies = [(copied, await places.open(copied.opened or copied.image)) for copied in request.copies]
    return BuildWork(request, base, tuple(targets), tuple(copies), cache, environ, reporter)


async def _open_target(places: Places, text: str) -> Place:
    target = await places.open(text, write=True)
    if not target.tag:
        raise errors.UsageError(
            f"{text} is a digest, and an image gets its digest from what it holds", remedy="name a tag"
        )
    return target


def read_files(request: BuildRequest, cache: Cache, environ: Mapping[str, str]) -> Application:
    """The files that a build takes.

    Raises:
        UsageError: one of them, or what the request says, looks like a secret; one can't be read.
    """
    own = (*lock_names(request.root), *_archive_inside(request))
    application = read_application(
        request.root,
        environ,
        allow_secrets=request.allowed.secrets,
        leave_out=own,
        cache=cache,
        context=request.context,
    )
    refuse_secret_values(
        {f"the variable {name}": f"{name}={value}" for name, value in request.image.env.items()}
        | {f"the label {name}": value for name, value in request.image.labels.items()}
        | {"the command": " ".join(request.image.command)}
    )
    return application


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


async def _build(work: BuildWork, application: Application, revision: asyncio.Task[str]) -> BuildResult:
    plan = await plan_build(work)
    digests = await _file_digests(application, work)

    async def images_made(*, trusting: bool) -> list[BuiltImage]:
        return [
            await PlatformBuild(each, application, digests, work, trusting).run() for each in plan.platforms
        ]

    images = await images_made(trusting=True)
    if work.request.locking.stays and not all(image.unchanged for image in images):
        _tell_entry_points(plan.platforms, work)
    if plan.news:
        _write_lock(plan, work)
    if plan.news and work.request.locking.stays:
        work.reporter.say(f"{work.request.lock_path.name} written: {plan.news}")
    try:
        manifest = await _tag(plan.platforms, images, work, revision)
    except errors.BlobsMissing:
        # A registry lost them and has the manifest still, which was taken as a sign of them.
        images = await images_made(trusting=False)
        manifest = await _tag(plan.platforms, images, work, revision, trusting=False)
    pushed = work.target.pinned(manifest.digest)
    elsewhere = dict.fromkeys(place.pinned(manifest.digest) for place in work.targets[1:])
    return BuildResult(
        reference=_pulled_as(work.request.pull_repository, work.target).pinned(manifest.digest),
        pushed=pushed,
        tags=tuple(place.text for place in work.targets),
        elsewhere=tuple(name for name in elsewhere if name != pushed),
        manifest=manifest,
        platforms={str(each.platform): image for each, image in zip(plan.platforms, images, strict=True)},
    )


def _tell_entry_points(plans: Sequence[PlatformPlan], work: BuildWork) -> None:
    """Says what became of the base's own."""
    starts = [entry_point(plan.base.config.container, work.request.image.command) for plan in plans]
    work.tell_once(dict.fromkeys(start.left_out for start in starts if start.left_out))


async def _file_digests(application: Application, work: BuildWork) -> dict[str, str]:
    sizes = large_files(application)
    if not sizes:
        return {}
    from gpuyard.building.workdir.file_digests import FileDigests

    def progress(done: int, total: int) -> None:
        work.reporter.bytes("reading large files", done, total)

    return await FileDigests(application.root, work.cache, progress).digests(sizes)


def _write_lock(plan: BuildPlan, work: BuildWork) -> None:
    """By now every wheel of it was fetched, and is what it says."""
    from gpuyard.building.layers.wheel_conflicts import check_wheels  # Few builds change their lock.

    for each in plan.platforms:
        check_wheels(each, each.wheels, work.folder, work.cache, work.environ)
    write_lock(work.request.lock_path, plan.lock)


async def _tag(
    plans: Sequence[PlatformPlan],
    images: Sequence[BuiltImage],
    work: BuildWork,
    revision: asyncio.Task[str],
    *,
    trusting: bool = True,
) -> Descriptor:
    """Has the image in all places, with its commit, and then gives it its names; returns its manifest."""
    target = work.target
    content, media_type = images[0].manifest_json, OCI_MANIFEST
    if len(images) > 1:
        content, media_type = await _make_index(target, plans, images), OCI_INDEX
    manifest = Descriptor.for_bytes(media_type, content)
    known = all(image.unchanged for image in images)
    await _send_on(work, manifest, content, trusting=trusting)
    for store in {place.store.name: place.store for place in work.targets}.values():
        may_be_known = known or store is not target.store
        await record_revision(store, manifest, await revision, may_be_known=may_be_known)
    for place in work.targets:
        await place.store.put_manifest(content, media_type, place.tag)
    return manifest


async def _make_index(target: Place, plans: Sequence[PlatformPlan], images: Sequence[BuiltImage]) -> bytes:
    """The index over several platforms, whose images are in the store."""
    for image in images:
        # Also what is there: a registry that lost a blob of it says so.
        await target.store.put_manifest(image.manifest_json, OCI_MANIFEST)
    entries = tuple(
        replace(image.manifest, platform=plan.base.platform)
        for image, plan in zip(images, plans, strict=True)
    )
    return Index(entries, images[0].annotations).to_bytes()


async def _send_on(work: BuildWork, manifest: Descriptor, content: bytes, *, trusting: bool) -> None:
    """Has in the other places all that the manifest names; none has a tag of it yet."""
    target, *others = work.targets
    if all(place.store.name == target.store.name for place in others):
        return
    from gpuyard.building.documents.sbom import MEDIA_TYPE as SBOM
    from gpuyard.images.copying import copy_contents  # Most builds have one place, and imports cost time.

    # By digest alone, so that it can be read from there.
    await target.store.put_manifest(content, manifest.media_type)
    for place in others:
        await copy_contents(
            target,
            place,
            manifest,
            artifacts=(SBOM,),
            progress=lambda digest, done, total: work.reporter.bytes(f"layer {digest[7:19]}", done, total),
            trusting=trusting,
        )


def _pulled_as(repository: str | None, target: Place) -> Place:
    """The target by the name that nodes know it by."""
    if repository is None or target.reference is None:
        return target
    return replace(target, reference=ImageReference.parse(repository))
