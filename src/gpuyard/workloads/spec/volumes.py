"""Volumes of a run: what is mounted where, as a spec file or `--volume PATH=SOURCE` has it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpuyard.kube.names import is_subdomain

_FORM = "write a claim's name, or a folder of this machine, which begins with './', '/' or '~'"
#: What an image or a machine can't do without: a volume there would hide it.
_SYSTEM = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/proc",
     "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/local",
     "/usr/local/bin", "/usr/local/lib", "/usr/sbin", "/usr/share", "/var"}
)  # fmt: skip
_NOT_BELOW = ("/dev/", "/etc/gpuyard/", "/proc/", "/sys/")
#: What a run in an image has there already.
_OURS = frozenset({"/etc/gpuyard", "/home/gpuyard"})
_FOLDERS = (".", "/", "~")


@dataclass(frozen=True)
class Volume:
    """What a run mounts at one path.

    Attributes:
        path: where, in the run: absolute.
        claim: name of a PersistentVolumeClaim; empty for a folder.
        folder: of this machine, as it is written, and absolute in a run of which all is decided.
        size: of the claim, which is made where it isn't there; None where it has to be.
        storage_class: of a claim that is made; None for the default one.
        read_only: whether the run can't write to it.
    """

    path: str
    claim: str = ""
    folder: str = ""
    size: str | None = None
    storage_class: str | None = None
    read_only: bool = False


def mount_path(written: str) -> str:
    """Where a volume can be mounted; raises ValueError elsewhere."""
    path = posixpath.normpath(written)
    if not written.startswith("/"):
        raise ValueError(f"{written!r} must be an absolute path, such as /data")
    if ".." in written.split("/"):
        raise ValueError(f"{written!r} must not go up by '..'")
    if ":" in written or not written.isprintable():
        raise ValueError(f"{written!r} must not have a colon or a control character")
    if _is_system(path):
        raise ValueError(f"{written} is a folder that the system needs; mount it at a path such as /data")
    return path


def _is_system(path: str) -> bool:
    return path in _SYSTEM | _OURS or path.startswith(_NOT_BELOW)


def parse_source(written: str) -> Mapping[str, Any]:
    """`NAME[:ro]` or `FOLDER[:ro]` as the keys that it stands for.

    Raises:
        ValueError: it is neither.
    """
    source, colon, mode = written.rpartition(":")
    if not colon or mode not in ("ro", "rw"):
        source, mode = written, "rw"
    kind = "folder" if source.startswith(_FOLDERS) else "claim"
    if kind == "claim" and not is_subdomain(source):
        raise ValueError(f"{source!r} is neither a claim nor a folder; {_FORM}")
    return {kind: source, "read_only": mode == "ro"}


def claim_name(written: str) -> str:
    """The name of a claim or a class; raises ValueError for what can't be one."""
    if not is_subdomain(written):
        raise ValueError(f"{written!r} can't be its name; a name has lower case letters, digits, '-' and '.'")
    return written


def folder_name(written: str) -> str:
    """A folder of this machine; raises ValueError for what can't be one."""
    if not written.strip() or "\0" in written:
        raise ValueError("names no folder; write for example ./ckpt")
    return written


def check_volume(found: Mapping[str, Any]) -> None:
    """Raises ValueError where the keys of one volume don't agree."""
    if ("claim" in found) == ("folder" in found):
        raise ValueError("needs either `claim` or `folder`")
    for key in ("size", "storage_class"):
        if key in found and "folder" in found:
            raise ValueError(f"a folder has no {key}; leave it out, or name a claim")
    if "storage_class" in found and "size" not in found:
        raise ValueError("only a claim that is made has a storage_class; add its size, or leave it out")


def volumes_of(found: Mapping[str, Mapping[str, Any]]) -> tuple[Volume, ...]:
    """The volumes, the outer ones first."""
    made = (Volume(posixpath.normpath(path), **keys) for path, keys in found.items())
    return tuple(sorted(made, key=lambda volume: volume.path))


def across_volumes(root: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with volumes that are each right for themselves: place and message."""
    volumes = root.get("volumes")
    seen: dict[str, str] = {}
    sizes: dict[str, str] = {}
    for path, node in volumes.items() if isinstance(volumes, dict) else ():
        normal = posixpath.normpath(path)
        if normal in seen:
            yield (
                ("volumes", path),
                f"{path} is the same place as {seen[normal]}; one volume can be mounted there",
            )
        seen.setdefault(normal, path)
        claim, size = (node.get("claim"), node.get("size")) if isinstance(node, dict) else (None, None)
        if claim and size and sizes.setdefault(claim, size) != size:
            yield ("volumes", path), f"claim {claim} has another size above; say it once"
