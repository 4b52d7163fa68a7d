"""From a spec, and from options that win over it, to a request for a build."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuyard import errors
from gpuyard.building.copied_images import CopiedPath
from gpuyard.building.environment import WORKDIR
from gpuyard.building.lock import NAME as LOCK_NAME
from gpuyard.building.lock import lock_name
from gpuyard.building.python.sources import ALL_SOURCES
from gpuyard.building.request import Allowed, BuildRequest, ImageSettings, Keeping, LockUse
from gpuyard.building.workdir.base_folders import refuse_system_folder
from gpuyard.images.layers import EPOCH
from gpuyard.images.layout.reference import LayoutReference
from gpuyard.images.oci import Platform
from gpuyard.images.reference import TAG, ImageReference
from gpuyard.workloads.command import resolve_command
from gpuyard.workloads.spec.baked import check_label, check_variable

if TYPE_CHECKING:
    from gpuyard.workloads.spec.run_spec import ImageBuild, RunSpec

#: Set to 1, they say the same as `--locked` and `--frozen`.
ENV_LOCKED = "GPUYARD_LOCKED"
ENV_FROZEN = "GPUYARD_FROZEN"

_TRUE = ("1", "true", "yes", "on")
_DEFAULT_PLATFORM = "linux/amd64"
#: PyPA's specification "Names and normalization".
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class BuildOptions:
    """What wins over a spec, and what no spec says; None and empty leave the spec's word.

    Attributes:
        folder: with the files; the spec's workdir or folder, else the current one by default.
        only_listed: nothing is built, and neither base nor name is needed.
    """

    folder: Path | None = None
    only_listed: bool = False
    base: str | None = None
    requirements: Path | None = None
    tags: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    workdir: str | None = None
    compression: str | None = None
    byte_code: bool = True
    upgrade: bool = False
    copy_from: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    allowed: Allowed = field(default_factory=Allowed)


def request_without_spec(options: BuildOptions, environ: Mapping[str, str]) -> BuildRequest:
    """A build of a folder, by default the current one.

    Raises:
        UsageError: something is missing or wrong.
    """
    return _request(options, options.folder or Path(), options.workdir or WORKDIR, environ)


def request_of_spec(
    spec: RunSpec, file: Path, options: BuildOptions, environ: Mapping[str, str]
) -> BuildRequest:
    """A build of a spec's image.

    Args:
        spec: of a run.
        file: the spec's; paths in it start from its folder, and its lock lies beside it.
        options: what wins over the spec.
        environ: SOURCE_DATE_EPOCH, GPUYARD_LOCKED and GPUYARD_FROZEN count.

    Raises:
        UsageError: something is missing or wrong.
    """
    folder, lock = file.parent, file.with_name(lock_name(file.name))
    absolute = (spec.workdir or "").startswith("/")
    root = options.folder or (folder if absolute or not spec.workdir else folder / spec.workdir)
    workdir = spec.workdir if spec.workdir and absolute else WORKDIR
    if (wanted := spec.build) is None:
        request = _request(options, root, workdir, environ)
        command = resolve_command(spec.run, spec.python, spec.shell)
        request = replace(request, context=folder)
        return _with_spec(request, lock, command=command, env={**spec.baked, **request.image.env})
    merged = replace(
        options,
        base=options.base or _beside(folder, wanted.base),
        tags=options.tags or tuple(_beside(folder, tag) for tag in _tags(wanted)),
        requirements=options.requirements or (folder / wanted.requirements if wanted.requirements else None),
        platforms=options.platforms or wanted.platforms,
        system_packages=options.system_packages or wanted.system_packages,
        allowed=options.allowed | _allowed(wanted),
    )
    request = _request(merged, root, workdir, environ)
    request = replace(
        request,
        context=folder,
        pull_repository=wanted.pull_repository if not options.tags else None,
        base_name=None if options.base else _layout_name(wanted.base),
        copies=(
            *(_copied_beside(folder, CopiedPath.parse(text)) for text in wanted.copy_from),
            *(CopiedPath.parse(text) for text in options.copy_from),
        ),
    )
    return _with_spec(
        request,
        lock,
        command=resolve_command(wanted.run, spec.python, spec.shell) if wanted.run else (),
        env={**spec.baked, **request.image.env},
        labels={**wanted.labels, **request.image.labels},
    )


def _with_spec(request: BuildRequest, lock: Path, **settings: Any) -> BuildRequest:
    """The request with a spec's lock, and settings of its image."""
    image, locking = replace(request.image, **settings), replace(request.locking, file=lock)
    return replace(request, image=image, locking=locking)


def _allowed(wanted: ImageBuild) -> Allowed:
    sources = wanted.build_sources
    if isinstance(sources, bool):
        sources = (ALL_SOURCES,) if sources else ()
    return Allowed(wanted.allow_secrets, wanted.allow_missing_libraries, wanted.build_project, sources)


def _tags(wanted: ImageBuild) -> Iterator[str]:
    """The image's names: one that is a tag alone is of the repository."""
    yield wanted.repository
    layout = LayoutReference.parse(wanted.repository)
    for tag in wanted.tags:
        if not TAG.fullmatch(tag):
            yield tag
        elif layout:
            yield str(replace(layout, tag=tag))
        else:
            parsed = ImageReference.parse(wanted.repository)
            yield f"{parsed.registry}/{parsed.repository}:{tag}"


def _beside(folder: Path, image: str) -> str:
    """A layout that a spec names is relative to the spec."""
    layout = LayoutReference.parse(image)
    # A runtime that is given the path takes no `..` in it.
    return image if layout is None else str(replace(layout, path=(folder / layout.path).resolve()))


def _copied_beside(folder: Path, copied: CopiedPath) -> CopiedPath:
    return replace(copied, opened=_beside(folder, copied.image))


def _layout_name(image: str) -> str | None:
    """A layout as the spec writes it, with its tag; None for an image of a registry."""
    layout = LayoutReference.parse(image)
    return str(layout) if layout else None


def _request(options: BuildOptions, root: Path, workdir: str, environ: Mapping[str, str]) -> BuildRequest:
    if not root.is_dir():
        raise errors.UsageError(f"{root} isn't a folder here", remedy="name the folder with the code")
    if not options.base and not options.only_listed:
        raise errors.UsageError(
            "there is no base image to build on",
            remedy="name one with --base, such as python:3.11-slim, or under image.base in gpuyard.yaml",
        )
    if not options.tags and not options.only_listed:
        raise errors.UsageError(
            "there is no name for the image",
            remedy="name one with -t, such as registry.example.com/me/train:v1",
        )
    _check_builds(options)
    keeping = keeping_of(environ)
    if options.upgrade and keeping is not Keeping.UP_TO_DATE:
        raise errors.UsageError(
            f"--upgrade makes {LOCK_NAME} anew, and --{keeping.value} keeps it as it is",
            remedy="give one of them",
        )
    return BuildRequest(
        base=options.base or "",
        target=next(iter(options.tags), ""),
        root=root,
        requirements=options.requirements,
        platforms=tuple(dict.fromkeys(map(Platform.parse, options.platforms or (_DEFAULT_PLATFORM,)))),
        system_packages=options.system_packages,
        copies=tuple(map(CopiedPath.parse, options.copy_from)),
        tags=options.tags[1:],
        image=ImageSettings(
            workdir=_workdir(workdir),
            env=_pairs("--env", options.env, _check_variable),
            labels=_pairs("--label", options.labels, lambda name, value: check_label(name)),
            created=_epoch(environ),
            compression=options.compression or "gzip",
            byte_code=options.byte_code,
        ),
        locking=LockUse(keeping=keeping, upgrade=options.upgrade),
        allowed=options.allowed,
    )


def keeping_of(environ: Mapping[str, str]) -> Keeping:
    """What the environment says, which the flags `--locked` and `--frozen` are put into, too.

    Raises:
        UsageError: it says both.
    """
    named = {
        Keeping.LOCKED: environ.get(ENV_LOCKED, ""),
        Keeping.FROZEN: environ.get(ENV_FROZEN, ""),
    }
    said = [keeping for keeping, text in named.items() if text.lower() in _TRUE]
    if len(said) > 1:
        raise errors.UsageError(
            f"--locked ({ENV_LOCKED}) looks whether the lock is up to date, --frozen ({ENV_FROZEN}) doesn't",
            remedy="give one of them",
        )
    return said[0] if said else Keeping.UP_TO_DATE


def _check_builds(options: BuildOptions) -> None:
    """Raises UsageError for words that would be passed over."""
    for name in options.allowed.sources:
        # A flag whose value may be left out takes the next word for it.
        if name != ALL_SOURCES and not _DISTRIBUTION.fullmatch(name):
            raise errors.UsageError(
                f"--build-sources {name}: that is no distribution's name",
                remedy=f"write the folder first: gpuyard build {name} --build-sources"
                if Path(name).is_dir()
                else "write --build-sources NAME, or --build-sources alone for whatever has no wheel",
            )
    said = {
        "--build-project": options.allowed.project,
        "--build-sources": options.allowed.sources,
        "--allow-missing-library": options.allowed.missing_libraries,
    }
    if options.requirements is None and (named := [flag for flag, value in said.items() if value]):
        raise errors.UsageError(
            f"{named[0]} is about what requirements ask for, and there are none",
            remedy="name them with --requirements, or under image.requirements in the spec (-f)",
        )


def _check_variable(name: str, value: str) -> None:
    # With all of a spec's checks, which a build without a spec doesn't need.
    from gpuyard.workloads.spec.model import env_name

    env_name(name)
    check_variable(name, value)


def _pairs(flag: str, texts: Iterable[str], check: Callable[[str, str], None]) -> dict[str, str]:
    """NAME=VALUE of a flag that is repeated."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise errors.UsageError(f"{flag} {text} has no value", remedy=f"write {flag} NAME=VALUE")
        try:
            check(name, value)
        except ValueError as error:
            raise errors.UsageError(f"{flag} {text}: {name!r} {error}") from error
        found[name] = value
    return found


def _workdir(text: str) -> str:
    path = "/" + os.path.normpath(text).strip("/")
    if not text.startswith("/"):
        raise errors.UsageError(
            f"the workdir {text!r} must be an absolute path in the image",
            remedy="write for example /workspace",
        )
    refuse_system_folder(path.strip("/"), f"the workdir {path}")
    return path


def _epoch(environ: Mapping[str, str]) -> int:
    text = environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return EPOCH
    if not text.isdigit() or int(text) >= 8**11:
        raise errors.UsageError(
            f"SOURCE_DATE_EPOCH is {text!r}, not seconds since 1970", remedy="unset it, or give a number"
        )
    return int(text)
