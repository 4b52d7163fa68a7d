"""Which container holds which devices, and the file that remembers it across restarts.

The file is JSON, `{"version": 1, "assignments": […]}`. It is replaced whole (written beside, synced,
renamed), so a reader finds either the old state or the new one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.atomic_files import replace_file
from gpuyard.regular_files import read_regular

_VERSION = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceSpec:
    """A device node to show in a container; `permissions` is a subset of "rwm"."""

    container_path: str
    host_path: str
    permissions: str


@dataclass(frozen=True)
class DeviceMount:
    """A path of the host to mount into a container."""

    container_path: str
    host_path: str
    read_only: bool


@dataclass(frozen=True)
class ContainerAllocation:
    """What a container gets: device ids by resource, and what the plugins asked to be done for them."""

    device_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    envs: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[DeviceSpec, ...] = ()
    mounts: tuple[DeviceMount, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def merged(cls, parts: Sequence[ContainerAllocation]) -> ContainerAllocation:
        """Of several resources, as one."""
        return cls(
            device_ids={key: ids for part in parts for key, ids in part.device_ids.items()},
            envs={key: value for part in parts for key, value in part.envs.items()},
            devices=tuple(dict.fromkeys(node for part in parts for node in part.devices)),
            mounts=tuple(dict.fromkeys(mount for part in parts for mount in part.mounts)),
            cdi_devices=tuple(dict.fromkeys(name for part in parts for name in part.cdi_devices)),
            annotations={key: value for part in parts for key, value in part.annotations.items()},
        )


@dataclass(frozen=True)
class Assignment:
    """One container's allocation.

    Attributes:
        reusable: the container is an ordinary init container: it is over before the pod's other
            containers start, so they may take over its devices.
        numa_nodes: device id → NUMA nodes, as the plugin said when the device was assigned.
    """

    pod_uid: str
    namespace: str
    pod: str
    container: str
    allocation: ContainerAllocation
    reusable: bool = False
    numa_nodes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def write_checkpoint(path: Path, assignments: Iterable[Assignment]) -> None:
    """Replaces the file; on return it is on the disk.

    Raises:
        CheckpointError: it can't be written; the old file is still there.
    """
    raw = {"version": _VERSION, "assignments": [asdict(one) for one in assignments]}
    try:
        replace_file(path, json.dumps(raw).encode(), mode=0o600)
    except OSError as error:
        raise errors.CheckpointError(
            f"can't write the device checkpoint {path}: {error.strerror}",
            remedy="make room on that disk, or give its folder back to the user of the yard",
        ) from error


def read_checkpoint(path: Path, now: datetime) -> tuple[Assignment, ...]:
    """Reads the file; a missing one is empty.

    A damaged one is moved aside, with a warning: `told_devices` has what was in it.

    Raises:
        DeviceError: the file is there and can't be read.
    """
    try:
        text = read_regular(path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise errors.DeviceError(
            f"can't read the device checkpoint {path}: {error.strerror}",
            remedy=f"mend its permissions, or remove {path}: the pods tell, too, which devices they have",
        ) from error
    try:
        raw = json.loads(text)
        if raw["version"] != _VERSION:
            raise ValueError(f"version {raw['version']}")
        return tuple(_assignment(one) for one in raw["assignments"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%SZ}")
        path.replace(aside)
        _LOG.warning(
            "the device checkpoint %s can't be understood (%s: %s): moved to %s, starting without it",
            path,
            type(error).__name__,
            error,
            aside,
        )
        return ()


def _assignment(raw: Mapping[str, Any]) -> Assignment:
    inner = raw["allocation"]
    return Assignment(
        pod_uid=_text(raw["pod_uid"]),
        namespace=_text(raw["namespace"]),
        pod=_text(raw["pod"]),
        container=_text(raw["container"]),
        reusable=bool(raw["reusable"]),
        numa_nodes={key: tuple(map(int, nodes)) for key, nodes in raw["numa_nodes"].items()},
        allocation=ContainerAllocation(
            device_ids={key: tuple(map(_text, ids)) for key, ids in inner["device_ids"].items()},
            envs=_texts(inner["envs"]),
            devices=tuple(
                DeviceSpec(
                    container_path=_text(one["container_path"]),
                    host_path=_text(one["host_path"]),
                    permissions=_text(one["permissions"]),
                )
                for one in inner["devices"]
            ),
            mounts=tuple(
                DeviceMount(
                    container_path=_text(one["container_path"]),
                    host_path=_text(one["host_path"]),
                    read_only=bool(one["read_only"]),
                )
                for one in inner["mounts"]
            ),
            cdi_devices=tuple(map(_text, inner["cdi_devices"])),
            annotations=_texts(inner["annotations"]),
        ),
    )


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError(f"{raw!r} is no text")
    return raw


def _texts(raw: Mapping[str, Any]) -> dict[str, str]:
    return {key: _text(value) for key, value in raw.items()}
