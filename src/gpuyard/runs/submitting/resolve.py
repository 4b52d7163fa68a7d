"""From a spec to a run of which all is decided, as far as this machine alone can tell."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.runs.submitting.host import host_context
from gpuyard.runs.submitting.script import launcher_files, take_script
from gpuyard.workloads.command import split_run, subject
from gpuyard.workloads.names import generate_name, service_name
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.run_spec import ImageBuild, RunSpec

#: An OCI image layout: a folder of this machine in the place of a registry.
_LAYOUT = "oci:"
_ARCHIVE = "oci-archive:"


def resolve(spec: RunSpec, base: Path, environ: Mapping[str, str], *, namespace: str) -> ResolvedRun:
    """The run, with its name, and with what it takes over from this machine.

    An image that is built for the run is named by its tag: the digest is known once it is built.

    Args:
        spec: what its user wants.
        base: folder that relative paths start from, the spec file's or the current one.
        environ: of the shell.
        namespace: where it goes.

    Raises:
        UsageError: something that it needs isn't here.
    """
    if spec.sweep is not None or spec.sweep_file is not None:
        from gpuyard.runs.submitting.sweep import with_whole_sweep  # Few runs have one.

        spec = with_whole_sweep(spec, base)
    name = spec.name or _name(spec)
    image = _image_name(spec)
    folder = str(base.absolute()) if spec.service is not None else ""
    if spec.service is not None and not name[0].isalpha():
        raise errors.UsageError(
            f"{name!r} can't name a service, whose name begins with a letter",
            remedy=advice("choose one (--name)"),
        )
    if spec.volumes:
        from gpuyard.runs.submitting.volumes import with_folders  # Few runs have any.

        spec = with_folders(spec, base, is_process=not image)
    if not image:
        host = host_context(spec, base, environ)
        if spec.snapshot:
            from gpuyard.local.paths import find_paths
            from gpuyard.runs.submitting.snapshot import in_snapshot

            host = in_snapshot(host, spec, name, find_paths(environ).snapshots_dir)
        return ResolvedRun(spec, name, namespace, host=host, spec_folder=folder)
    _refuse_archive(image)
    if image.startswith(_LAYOUT):
        # The yard's daemon has a working folder of its own.
        image = _LAYOUT + os.path.normpath(base.absolute() / image.removeprefix(_LAYOUT))
    return ResolvedRun(
        spec,
        name,
        namespace,
        image=image,
        entrypoint=_entrypoint(spec),
        script=take_script(spec, base),
        launcher=launcher_files(),
        spec_folder=folder,
    )


def _name(spec: RunSpec) -> str:
    said = subject(split_run(spec.run, spec.shell))
    return generate_name(said, random.SystemRandom()) if spec.service is None else service_name(said)


def check_ends(spec: RunSpec) -> None:
    """Raises UsageError for a service, which is no run."""
    if spec.service is not None:
        raise errors.UsageError(
            "this is a service: the spec has `service`",
            remedy=advice("`gpuyard serve` starts it; or leave `service` out for a run, which ends"),
        )


def check_serves(spec: RunSpec) -> None:
    """Raises UsageError for a run, which is no service."""
    if spec.service is None:
        raise errors.UsageError(
            "this is no service: nothing says where its program listens",
            remedy=advice("add `service` with a port to the spec file (--port); or `gpuyard run` it"),
        )


def check_for_cluster(spec: RunSpec) -> None:
    """Raises UsageError for what no cluster has."""
    image = _image_name(spec)
    if not image:
        raise errors.UsageError(
            "a run without an image is a process of this machine, and the command goes to a cluster",
            remedy=advice("add `image` (--image), or run it here with --context yard"),
        )
    if image.startswith((_LAYOUT, _ARCHIVE)):
        kind = "folder" if image.startswith(_LAYOUT) else "file"
        raise errors.UsageError(
            f"{image} is a {kind} of this machine, and the command goes to a cluster",
            remedy="push the image to a registry that the cluster reaches, and name it there",
        )
    if folder := next((volume for volume in spec.volumes if volume.folder), None):
        raise errors.UsageError(
            f"{folder.folder} is a folder of this machine, and the command goes to a cluster",
            remedy=advice(
                "name a claim of the cluster (--volume PATH=CLAIM); `gpuyard volume ls` lists them"
            ),
        )


def _refuse_archive(image: str) -> None:
    """Podman would take an archive's tag for the image's name, which others may have."""
    if not image.startswith((_LAYOUT, _ARCHIVE)):
        return
    from gpuyard.images.layout.reference import LayoutReference  # Few runs have one.

    layout = LayoutReference.parse(image)
    if layout and layout.archive:
        folder = layout.path.with_suffix("")
        raise errors.UsageError(
            f"{image} is an archive, and a run on the yard takes an image from a folder or a registry",
            remedy=f"unpack it: mkdir {folder} && tar -xf {layout.path} -C {folder}, and name "
            f"oci:{folder}:{layout.tag}; or build into oci:FOLDER:TAG",
        )


def _image_name(spec: RunSpec) -> str:
    """As the nodes know it; empty for a process."""
    return _built_name(spec.build) if spec.build else spec.image or ""


def _built_name(build: ImageBuild) -> str:
    if not build.pull_repository:
        return build.repository
    tag = build.repository.rpartition("/")[2].partition(":")[2]
    return f"{build.pull_repository}:{tag}" if tag else build.pull_repository


def _entrypoint(spec: RunSpec) -> tuple[str, ...]:
    """Of an image that is built for the run; that of another is known when it was read."""
    if spec.build is None:
        return ()
    from gpuyard.building.environment import ENTRYPOINT

    return ENTRYPOINT
