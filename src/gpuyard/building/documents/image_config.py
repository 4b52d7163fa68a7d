"""The config and the annotations of a built image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gpuyard.building.documents.entry_point import entry_point
from gpuyard.building.environment import HOME, LABEL_PYTHON, PREFIX, UID, USER, Environment
from gpuyard.building.python.wheels import Wheel
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.contents.torch import LABELS, Installed
from gpuyard.images.image import Image
from gpuyard.images.layers import Layer
from gpuyard.images.oci import Config, ContainerConfig, History
from gpuyard.kube.timestamps import format_time
from gpuyard.workloads.spec.baked import with_own

if TYPE_CHECKING:
    from gpuyard.building.request import ImageSettings

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHONPATH = "PYTHONPATH"
_TOOL = "gpuyard build"


def image_config(
    base: Image,
    contents: ImageContents,
    environment: Environment,
    layers: Sequence[tuple[str, Layer]],
    wheels: Sequence[Wheel],
    settings: ImageSettings,
) -> Config:
    """How a container of the image starts.

    Args:
        base: what it stands on; its environment, labels and ports are kept; for its entry point see there.
        contents: what it holds; with the wheels it gives the labels that tell of torch and CUDA.
        environment: the image's virtual environment.
        layers: what the build adds, each with what it holds.
        wheels: what is installed.
        settings: what the request says of the image.
    """
    container = base.config.container
    installed = Installed.seen(
        {wheel.name: wheel.version for wheel in wheels}, contents.packages, contents.torch
    )
    all_labels = {name: value for name, value in container.labels.items() if name not in LABELS}
    all_labels |= dict(settings.labels) | {LABEL_PYTHON: environment.python.version} | installed.labels()
    other = {name: value for name, value in container.other.items() if name not in ("Healthcheck", "OnBuild")}
    when = timestamp(settings.created)
    variables = _variables(container, environment, settings.env)
    start = entry_point(container, settings.command)
    return Config(
        platform=base.config.platform,
        container=ContainerConfig(
            user=f"{UID}:{UID}",
            env=tuple(f"{name}={value}" for name, value in variables.items()),
            entrypoint=start.entrypoint,
            cmd=start.cmd,
            working_dir=settings.workdir,
            labels=all_labels,
            other=other,
        ),
        diff_ids=(*base.config.diff_ids, *(layer.diff_id for _, layer in layers)),
        history=(
            *_base_history(base),
            *(History(created=when, created_by=f"{_TOOL}: {title}") for title, _ in layers),
        ),
        created=when,
    )


def _variables(base: ContainerConfig, environment: Environment, env: Mapping[str, str]) -> dict[str, str]:
    found = base.environment
    # A base of ours has our folder already.
    found["PATH"] = (found.get("PATH") or _DEFAULT_PATH).removeprefix(f"{PREFIX}/bin:")
    if paths := found.get(_PYTHONPATH, "").removeprefix(f"{environment.site_packages}:"):
        # Python looks there before its own folders, so what was locked has to be the first of them.
        # Bases that set it: those of Apache Spark, and many that were made for one program.
        found[_PYTHONPATH] = f"{environment.site_packages}:{paths}"
    found |= {name: with_own(name, value, found.get(name, "")) for name, value in env.items()}
    found["PATH"] = f"{PREFIX}/bin:{found['PATH']}"
    return found | {"VIRTUAL_ENV": PREFIX, "HOME": HOME, "USER": USER, "LOGNAME": USER}


def _base_history(base: Image) -> tuple[History, ...]:
    """One entry that isn't empty for each of the base's layers: tools refuse an image without."""
    entries = base.config.history
    if sum(not entry.empty_layer for entry in entries) == len(base.config.diff_ids):
        return entries
    return tuple(History(created_by="base image") for _ in base.config.diff_ids)


def image_annotations(
    base: str, base_digest: str, *, created: int, compression: str, byte_code: str
) -> Mapping[str, str]:
    """OCI's annotations, and what the digest depends on besides the content."""
    found = {
        "org.opencontainers.image.base.name": base,
        "org.opencontainers.image.base.digest": base_digest,
        "org.opencontainers.image.created": timestamp(created),
        "io.gpuyard.compression": compression,
        "io.gpuyard.byte-code": byte_code or "none",
    }
    return {name: value for name, value in found.items() if value}


def timestamp(seconds: int) -> str:
    """RFC 3339 in UTC."""
    return format_time(datetime.fromtimestamp(seconds, UTC))
