"""The yard's own folders in a sandbox: empty there, but for what is the container's.

They hold the token, the database, what other runs print and their code; and who reaches the API's socket may
do everything. What the container is given of them as a volume is mounted elsewhere, and isn't hidden.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from pathlib import Path

from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.values import ContainerSpec

#: A sandbox has its own in the place of these.
_REPLACED = (Path("/dev"), Path("/proc"), Path("/tmp"))


def yard_hidden(spec: ContainerSpec, yard: YardPaths, kept: Set[Path]) -> list[str]:
    """Arguments of bubblewrap, before the mounts, that hide the yard in what is seen of the host.

    Args:
        spec: of the container.
        yard: whose folders they are.
        kept: what of the host's /tmp it sees.
    """
    args: list[str] = []
    data_dir = _real(yard.data_dir)
    if _is_seen(data_dir, kept) and _real(spec.working_dir) != data_dir:
        args += [*_emptied(data_dir), *_given_back(spec, yard, data_dir)]
    runtime_dir = _real(yard.runtime_dir)
    if _is_seen(runtime_dir, kept) and data_dir not in runtime_dir.parents:
        args += _emptied(runtime_dir)
    return args


def yard_hidden_in_mounts(spec: ContainerSpec, yard: YardPaths) -> list[str]:
    """The same for mounts of folders that the yard's are somewhere in, after them."""
    args: list[str] = []
    for folder in map(_real, (yard.data_dir, yard.runtime_dir)):
        for mount in spec.mounts:
            source = _real(mount.host_path)
            if source in folder.parents and folder.is_dir():
                args += _emptied(Path(mount.container_path, folder.relative_to(source)))
    return args


def _is_seen(folder: Path, kept: Set[Path]) -> bool:
    seen_first = {folder, *folder.parents} & kept
    return folder.is_dir() and (bool(seen_first) or not any(place in folder.parents for place in _REPLACED))


def _emptied(folder: Path) -> list[str]:
    # Whoever writes there is to hear of it, as what is written would be lost.
    return ["--perms", "0555", "--tmpfs", str(folder)]


def _given_back(spec: ContainerSpec, yard: YardPaths, data_dir: Path) -> Iterator[str]:
    """The snapshot that the container works in, and what the user keeps beside the yard's files."""
    snapshots = data_dir / yard.snapshots_dir.name
    working_dir = _real(spec.working_dir)
    if snapshots in working_dir.parents:
        snapshot = snapshots / working_dir.relative_to(snapshots).parts[0]
        yield from ("--bind", str(snapshot), str(snapshot))
    for entry in sorted(data_dir.iterdir()):
        if entry.is_symlink() and not yard.is_own(entry.name):
            yield from ("--symlink", str(entry.readlink()), str(entry))
        elif not yard.is_own(entry.name):
            yield from ("--bind-try", str(entry), str(entry))


def _real(path: Path | str) -> Path:
    return Path(os.path.realpath(path))
