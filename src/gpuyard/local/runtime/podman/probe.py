"""What podman has to be told on this host, found out by trying a container.

On most machines it is nothing. Where a hard limit of the host is below podman's default, or the default
OCI runtime doesn't get along with the host's cgroups, some flags are needed, and nobody should have to know.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.local.runtime.trials import mark_of

#: On every trial's container: the process that tries, see `mark_of`.
LABEL_TRIAL = "io.gpuyard.trial"

_RUNTIMES = ("crun", "runc")
#: Podman 4 lowers its own hard limit to this, and without CAP_SYS_RESOURCE nothing raises it again.
_MOST_PROCESSES = 32_768
#: Of the host, for the trial's program: the trial needs no image.
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/nix")
_MOUNT_POINTS = ("proc", "sys", "dev", "etc", "tmp", "run")

#: Runs podman with these arguments; gives its exit code and what it complained of.
Call = Callable[[Sequence[str]], Awaitable[tuple[int, str]]]


@dataclass(frozen=True)
class Flags:
    """What this host needs.

    Attributes:
        of_podman: before `run`.
        of_run: after it.
        limits: whether limits of CPU and memory can be set.
    """

    of_podman: tuple[str, ...] = ()
    of_run: tuple[str, ...] = ()
    limits: bool = True


async def find_flags(call: Call, name: str, folder: Path, search_path: str) -> Flags:
    """The first flags that a container starts with, the plainest first.

    Podman removes a trial's container at its end, also where nobody waits for it any more. What a trial that
    was killed leaves behind, the next one replaces; the caller removes the last.

    Args:
        call: runs podman.
        name: of the trial's container.
        folder: empty, for the trial's file system.
        search_path: where OCI runtimes are looked for.

    Raises:
        ImageError: none does; with podman's complaints.
    """
    mounts = _make_root(folder)
    complaints: dict[str, None] = {}
    for flags in _candidates(search_path):
        limits = ("--memory=64m", "--cpu-period=100000", "--cpu-quota=100000") if flags.limits else ()
        code, said = await call(
            [
                *(*flags.of_podman, "run", "--rm", "--replace", "--name", name, *flags.of_run, *limits),
                *("--label", f"{LABEL_TRIAL}={mark_of(os.getpid())}"),
                *("--network=host", "--user=1000:1000", "--cap-drop=ALL", "--log-driver=passthrough"),
                *("--security-opt", "label=disable", "--device=/dev/null:/dev/gpuyard-trial:rw"),
                *(*mounts, "--rootfs", str(folder), "/bin/sh", "-c", ": >/dev/gpuyard-trial"),
            ]
        )
        if code == 0:
            return flags
        complaints[said] = None
    raise errors.ImageError(f"podman can't start containers on this host: {'; '.join(complaints)}")


def _candidates(search_path: str) -> Iterator[Flags]:
    runtimes: list[tuple[str, ...]] = [()]
    runtimes += [("--runtime", name) for name in _RUNTIMES if shutil.which(name, path=search_path)]
    for limits, ulimits, runtime in itertools.product((True, False), _ulimits(), runtimes):
        yield Flags(runtime, ulimits, limits)


def _ulimits() -> list[tuple[str, ...]]:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
    bounds = dict.fromkeys((processes, _fewer(processes)))
    explicit = [("--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={n}:{n}") for n in bounds]
    return [(), *explicit]


def _fewer(processes: int) -> int:
    return _MOST_PROCESSES if processes < 0 else min(processes, _MOST_PROCESSES)


def _make_root(folder: Path) -> list[str]:
    """Mount points for the host's own programs, and the arguments that mount them."""
    mounts = []
    folder.chmod(0o755)
    for name in _MOUNT_POINTS:
        (folder / name).mkdir()
    for path in filter(lambda path: Path(path).is_dir(), _SYSTEM):
        (folder / path.lstrip("/")).mkdir()
        mounts += ["--volume", f"{path}:{path}:ro"]
    return mounts
