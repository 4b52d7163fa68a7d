"""Limits of CPU, memory and the number of processes by cgroups, where this process may make them.

RLIMIT_NPROC is no stand-in for the last: it counts all processes of the user, those of other runs and of the
desktop too, and doesn't hold root.

Source: cgroups(7) and the kernel's documentation of v1 and v2.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.values import Limits
from gpuyard.workloads.memory_kills import OomCause

log = logging.getLogger(__name__)

_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1_000
_TRIAL_S = 10.0
#: Processes and threads of one container; a host with less room gives half of it.
_MAX_PROCESSES = 32_768
#: A name from a damaged journal may be another: nothing below may take the folder of all for a container's.
_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Cgroups:
    """One folder per container below each of these, which are the same with cgroup v2.

    Without `cpu` and `memory` limits aren't enforced; without `processes` a container may have as many as
    the host allows.
    """

    cpu: Path | None = None
    memory: Path | None = None
    processes: Path | None = None
    max_processes: int = _MAX_PROCESSES

    @property
    def enforced(self) -> str:
        """ "cpu,memory" or "none", as the node's annotation has it."""
        return "cpu,memory" if self.cpu and self.memory else "none"

    def create(self, name: str, limits: Limits) -> list[Path]:
        """Makes the container's groups and returns those that its processes have to join.

        Raises:
            OSError: the kernel refuses a value.
        """
        if self.cpu is None or self.memory is None:
            return []
        cpu, memory = self.cpu / name, self.memory / name
        # That of memory always: it counts what the kernel kills, also for the memory of the whole machine.
        folders = [memory] if limits == Limits() else [cpu, memory]
        if self.processes is not None:
            folders.append(self.processes / name)
        folders = list(dict.fromkeys(folders))
        for folder in folders:
            folder.mkdir(exist_ok=True)
        if self.processes is not None:
            (self.processes / name / "pids.max").write_text(str(self.max_processes))
        if limits.cpu_milli is not None:
            quota_us = max(limits.cpu_milli * _PERIOD_US // 1000, _LEAST_QUOTA_US)
            if self._unified:
                (cpu / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
            else:
                (cpu / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
                (cpu / "cpu.cfs_quota_us").write_text(str(quota_us))
        if limits.memory_bytes is not None:
            file = "memory.max" if self._unified else "memory.limit_in_bytes"
            (memory / file).write_text(str(limits.memory_bytes))
            if self._unified:
                # As the kubelet does: a trainer that lost one of its workers only hangs.
                (memory / "memory.oom.group").write_text("1")
        return folders

    def oom_kills(self, name: str) -> int:
        """How many processes of the container the kernel has killed for lack of memory, its own or the
        machine's; 0 also once the groups are removed.

        Raises:
            OSError: this process has no descriptor or memory left to look.
        """
        return self._counts(name, "memory.events" if self._unified else "memory.oom_control").get(
            "oom_kill", 0
        )

    def oom_cause(self, name: str) -> OomCause | None:
        """Whether it was for the container's own limit; None where the kernel doesn't tell.

        Raises:
            OSError: as `oom_kills`.
        """
        if self._unified:
            at_limit = self._counts(name, "memory.events.local").get("oom")
        else:
            # Also when it could free what it kept of files: a container at its limit may die for another's.
            at_limit = self._counts(name, "memory.failcnt").get("")
        if at_limit is None:
            return None
        return OomCause.LIMIT if at_limit else OomCause.NODE

    @property
    def _unified(self) -> bool:
        return self.cpu == self.memory

    def _counts(self, name: str, file: str) -> dict[str, int]:
        """The numbers in a file of the container's group of memory, by what stands before each."""
        if self.memory is None or not _NAME.fullmatch(name):
            return {}
        try:
            text = (self.memory / name / file).read_text()
        except OSError as error:
            if procfs.is_shortage(error):
                raise
            return {}
        lines = (line.rpartition(" ") for line in text.splitlines())
        return {key: int(number) for key, _, number in lines}

    def folders(self, name: str) -> list[Path]:
        """The container's groups."""
        if not _NAME.fullmatch(name):
            return []
        parents = dict.fromkeys((self.cpu, self.memory, self.processes))
        found = [parent / name for parent in parents if parent is not None]
        return [folder for folder in found if folder.is_dir()]

    def pids(self, name: str) -> set[int]:
        """Processes of the container, on this host."""
        # The kernel writes 0 for one of a PID namespace that we don't see: to kill(2) that's our own group.
        return self._listed(name) - {0}

    def _listed(self, name: str) -> set[int]:
        if not _NAME.fullmatch(name):
            return set()
        for parent in (self.processes, self.cpu, self.memory):
            if parent is not None:
                with suppress(OSError):
                    return {int(pid) for pid in (parent / name / "cgroup.procs").read_text().split()}
        return set()

    def remove(self, name: str) -> None:
        """Removes the container's groups, of which no process is left."""
        if not _NAME.fullmatch(name):
            return
        for parent in {self.cpu, self.memory, self.processes} - {None}:
            assert parent is not None
            try:
                (parent / name).rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                log.warning("can't remove the cgroup %s: %s", parent / name, error.strerror)

    def remove_all(self) -> None:
        """Removes the folders that the groups are in, unless a container still runs."""
        for parent in {self.cpu, self.memory, self.processes}:
            if parent is not None:
                with suppress(OSError):
                    parent.rmdir()


def find_cgroups(
    name: str, mounts: Path = Path("/proc/self/mounts"), own: Path = Path("/proc/self/cgroup")
) -> Cgroups:
    """Makes groups called `name` where we may, and tries them. Blocks for some milliseconds."""
    for find in (_unified, _legacy):
        try:
            found = find(name, mounts.read_text(), own.read_text())
            if found is not None and _works(found):
                return found
        except OSError as error:
            log.debug("cgroups: %s", error)
    return Cgroups()


def _unified(name: str, mounts: str, own: str) -> Cgroups | None:
    mount = _mount(mounts, lambda kind, _: kind == "cgroup2")
    if mount is None:
        return None
    here = _own_folder(mount, own, "")
    # A group that holds processes can't hand controllers down, unless it is the root: so ours goes beside it.
    for base in dict.fromkeys((here, here.parent if here != mount else here)):
        if not {"cpu", "memory"} <= set((base / "cgroup.controllers").read_text().split()):
            continue
        try:
            folder = base / name
            _hand_down(base)
            folder.mkdir(exist_ok=True)
            _hand_down(folder)
        except OSError:
            continue
        processes = folder if "pids" in _handed_down(folder) else None
        return Cgroups(folder, folder, processes, _max_processes())
    return None


def _hand_down(folder: Path) -> None:
    """Lets groups below have limits; that of processes where there is one."""
    control, there = folder / "cgroup.subtree_control", (folder / "cgroup.controllers").read_text().split()
    if not {"cpu", "memory"} <= _handed_down(folder):
        control.write_text("+cpu +memory")
    if "pids" in set(there) - _handed_down(folder):
        with suppress(OSError):
            control.write_text("+pids")


def _handed_down(folder: Path) -> set[str]:
    return set((folder / "cgroup.subtree_control").read_text().split())


def _max_processes(kernel: Path = Path("/proc/sys/kernel")) -> int:
    """Half of what the host has room for, so that one container can't take all; at most our own bound."""
    bounds = [_MAX_PROCESSES]
    for file in ("pid_max", "threads-max"):
        with suppress(OSError, ValueError):
            bounds.append(int((kernel / file).read_text()) // 2)
    return min(bounds)


def _legacy(name: str, mounts: str, own: str) -> Cgroups | None:
    folders: list[Path | None] = []
    for controller in ("cpu", "memory", "pids"):
        mount = _mount(mounts, lambda kind, options, c=controller: kind == "cgroup" and c in options)  # type: ignore[misc]
        if mount is None and controller != "pids":
            return None
        if mount is None:
            folders.append(None)
            continue
        folder = _own_folder(mount, own, controller) / name
        folder.mkdir(exist_ok=True)
        folders.append(folder)
    cpu, memory, processes = folders
    return Cgroups(cpu, memory, processes, _max_processes())


def _mount(mounts: str, wanted: Callable[[str, list[str]], bool]) -> Path | None:
    for line in mounts.splitlines():
        _, target, kind, options = line.split()[:4]
        if wanted(kind, options.split(",")):
            return Path(target)
    return None


def _own_folder(mount: Path, own: str, controller: str) -> Path:
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            folder = mount / path.lstrip("/")
            return folder if folder.is_dir() else mount
    return mount


def _works(cgroups: Cgroups) -> bool:
    folders = cgroups.create("trial", Limits(cpu_milli=1000, memory_bytes=64 << 20))
    join = " && ".join(f'echo 0 >"${number}/cgroup.procs"' for number in range(1, len(folders) + 1))
    try:
        run = subprocess.run(
            ["/bin/sh", "-c", join, "gpuyard", *map(str, folders)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        cgroups.remove("trial")
    return run.returncode == 0
