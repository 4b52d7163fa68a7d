"""What a node's container runtime and NVIDIA's toolkit are told to do with images that name GPUs.

Sources: containerd docs/cri/config.md and docs/man/containerd-config.toml.5.md; cri-o docs/crio.conf.5.md;
NVIDIA/nvidia-container-toolkit internal/config and cmd/nvidia-ctk-installer.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpuyard.gpus.exposure import Exposure
from gpuyard.regular_files import read_regular

#: Of containerd as such, and as k3s, RKE2, k0s and MicroK8s start it.
_CONTAINERD = (
    "etc/containerd/config.toml",
    "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    "etc/k0s/containerd.toml",
    "var/snap/microk8s/current/args/containerd.toml",
)
_CRIO = ("etc/crio/crio.conf", "etc/crio/crio.conf.d/*")
#: A hook that CRI-O and podman run for every container.
_HOOKS = ("usr/share/containers/oci/hooks.d/*nvidia*.json", "etc/containers/oci/hooks.d/*nvidia*.json")
_TOOLKIT = (
    "etc/nvidia-container-runtime/config.toml",
    "usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml",
)
#: No configuration is larger.
_MAX_BYTES = 4 << 20
_ACCEPT = "accept-nvidia-visible-devices-envvar-when-unprivileged"
_ACCEPT_MOUNTS = "accept-nvidia-visible-devices-as-volume-mounts"
#: Of containerd's configuration in versions 2 and 3.
_PLUGINS = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
_NVIDIA = "nvidia"


def mounts_name_devices(root: Path) -> bool:
    """Whether NVIDIA's runtime of the node takes devices that mounts name.

    Args:
        root: where the node's file system is.
    """
    return any(raw.get(_ACCEPT_MOUNTS) is True for pattern in _TOOLKIT for raw in _read_all(root, pattern))


def find_exposure(root: Path) -> Exposure:
    """What the node's files say; nothing of what no file says.

    Args:
        root: where the node's file system is.
    """
    runtimes = [*_containerds(root), *_crios(root)]
    accepted = [bool(raw.get(_ACCEPT, True)) for pattern in _TOOLKIT for raw in _read_all(root, pattern)]
    return Exposure(any(runtimes) if runtimes else None, any(accepted) if accepted else None)


def _containerds(root: Path) -> Iterator[bool]:
    """Of each containerd, whether its default runtime is NVIDIA's."""
    for path in _CONTAINERD:
        for main in _read_all(root, path):
            imports = [str(name) for name in _list(main.get("imports"))]
            folder = Path("/", path).parent
            parts = [
                part for name in imports for part in _read_all(root, str(folder / name).removeprefix("/"))
            ]
            yield _is_nvidia(
                [
                    table
                    for part in (main, *parts)
                    for plugin in _PLUGINS
                    if (table := _at(part, "plugins", plugin, "containerd"))
                ],
                "default_runtime_name",
            )


def _crios(root: Path) -> Iterator[bool]:
    tables = [_at(raw, "crio", "runtime") for pattern in _CRIO for raw in _read_all(root, pattern)]
    if tables:
        yield _is_nvidia(tables, "default_runtime")
    if any(True for pattern in _HOOKS for _ in root.glob(pattern)):
        yield True


def _is_nvidia(tables: list[Mapping[str, Any]], key: str) -> bool:
    """Whether the default runtime of these tables, of which the last counts, is NVIDIA's."""
    default, runtimes = "runc", dict[str, Any]()
    for table in tables:
        default = str(table.get(key) or default)
        runtimes |= _at(table, "runtimes")
    runtime = _at(runtimes, default)
    programs = (_at(runtime, "options").get("BinaryName", ""), runtime.get("runtime_path", ""))
    return any(_NVIDIA in str(text) for text in (default, *programs))


def _read_all(root: Path, pattern: str) -> Iterator[Mapping[str, Any]]:
    """The files that there are and that can be read."""
    try:
        # As Go looks for files: `**` goes no deeper than `*`.
        paths = sorted(root.glob(re.sub(r"\*+", "*", pattern)))
    except (OSError, ValueError, NotImplementedError):
        return  # Such a name can't be searched for, and is no file's.
    for path in paths:
        try:
            yield tomllib.loads(read_regular(path, max_bytes=_MAX_BYTES).decode())
        except (OSError, ValueError, RecursionError):
            continue


def _at(raw: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The table of these names; empty when there is none."""
    found: Any = raw
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _list(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []
