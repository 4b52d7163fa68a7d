"""What the cluster changes on the machine itself, where no namespace keeps it apart: cgroups and sysctls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_SYSCTLS = Path("/proc/sys")
#: What a kubelet sets when it starts.
_KUBELET_SETS = (
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def read_sysctls() -> dict[str, str]:
    """The values that a kubelet is going to change."""
    return {name: (_SYSCTLS / name).read_text().strip() for name in _KUBELET_SETS}


def write_sysctls(values: Mapping[str, str]) -> None:
    """Puts them back."""
    for name, value in values.items():
        if (_SYSCTLS / name).read_text().strip() != value:
            (_SYSCTLS / name).write_text(value)


def make_cgroups(name: str, children: Iterable[str]) -> None:
    """Makes NAME/CHILD in every hierarchy: a kubelet wants its root to be there."""
    for root in _hierarchies():
        for folder in (root / name, *(root / name / child for child in children)):
            folder.mkdir(exist_ok=True)
            # A new cpuset of cgroups v1 has no CPUs, and no process can enter it.
            for file in ("cpuset.cpus", "cpuset.mems"):
                if root.name == "cpuset" and not (folder / file).read_text().strip():
                    (folder / file).write_text((folder.parent / file).read_text())


def remove_cgroups(name: str, timeout_s: float = 10) -> None:
    """Removes NAME and all below from every hierarchy, once their processes are gone."""
    deadline = time.monotonic() + timeout_s
    for root in _hierarchies():
        top = root / name
        folders = [*(path for path in top.rglob("*") if path.is_dir()), top] if top.exists() else []
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)


def _hierarchies() -> list[Path]:
    """One with cgroups v2 alone, else one for each controller of v1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]
