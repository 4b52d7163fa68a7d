"""Device names of the Container Device Interface, looked up in the specs of one folder.

Podman reads CDI specs itself, but only from the system's own folders, and not all of its releases can be told
of another. So names are resolved here, and podman gets plain devices, mounts and variables.
Source: the CDI specification, 0.5.0 (https://github.com/cncf-tags/container-device-interface).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.local.runtime.values import HostDevice, Mount

#: Fields of containerEdits that are honoured; a spec that needs more can't be.
_KNOWN = {"deviceNodes", "env", "mounts"}
#: Podman mounts as rbind and rprivate by itself.
_MOUNT_OPTIONS = ("nosuid", "nodev", "noexec")


@dataclass(frozen=True)
class CdiEdits:
    """What a container gets for its devices; each thing once."""

    devices: tuple[HostDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


def resolve(folder: Path, names: Iterable[str]) -> CdiEdits:
    """The edits for fully qualified names, such as `gpuyard.io/gpu=0`.

    Raises:
        DeviceError: a spec can't be read, or no spec has the device.
    """
    wanted = list(dict.fromkeys(names))
    specs = _read(folder) if wanted else []
    used: list[Mapping[str, Any]] = []
    for name in wanted:
        kind, _, device_name = name.partition("=")
        found = [
            (spec, device)
            for spec in specs
            if spec.get("kind") == kind
            for device in spec.get("devices") or ()
            if device.get("name") == device_name
        ]
        if not found:
            raise errors.DeviceError(
                f"no CDI spec in {folder} has the device {name}",
                remedy="see the agent's lines in the daemon's log; restart the yard",
            )
        spec, device = found[0]
        used += [spec.get("containerEdits") or {}, device.get("containerEdits") or {}]
    return _merge(used, folder)


def _read(folder: Path) -> list[Mapping[str, Any]]:
    specs = []
    for path in sorted(folder.glob("*.json")):
        try:
            specs.append(json.loads(path.read_text()))
        except FileNotFoundError:
            continue  # the agent took it back just now
        except (OSError, ValueError) as error:
            raise errors.DeviceError(f"the CDI spec {path} can't be read: {error}") from error
    return specs


def _merge(edits: list[Mapping[str, Any]], folder: Path) -> CdiEdits:
    devices: dict[str, HostDevice] = {}
    mounts: dict[str, Mount] = {}
    env: dict[str, str] = {}
    for one in edits:
        if more := sorted(one.keys() - _KNOWN):
            raise errors.DeviceError(f"a CDI spec in {folder} uses what a yard doesn't: {', '.join(more)}")
        for node in one.get("deviceNodes") or ():
            path = node["path"]
            devices[path] = HostDevice(node.get("hostPath") or path, path)
        for mount in one.get("mounts") or ():
            path = mount["containerPath"]
            options = mount.get("options") or ()
            kept = tuple(option for option in options if option in _MOUNT_OPTIONS)
            mounts[path] = Mount(Path(mount["hostPath"]), path, read_only="ro" in options, options=kept)
        env |= dict(entry.split("=", 1) for entry in one.get("env") or ())
    return CdiEdits(tuple(devices.values()), tuple(mounts.values()), tuple(env.items()))
