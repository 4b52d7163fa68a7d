"""Bubblewrap: whether it works on this host, and what it is told. Source: bwrap(1), 0.5 and later.

A sandboxed container sees the host's file system, except for its own /tmp, its own /proc with a PID
namespace, a /dev with the usual nodes and the devices allotted to it, and the yard's folders, which are empty
(see `yard_folders`). The network is the host's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.ending import is_by_chance
from gpuyard.local.runtime.process.yard_folders import yard_hidden, yard_hidden_in_mounts
from gpuyard.local.runtime.trials import trial_folder
from gpuyard.local.runtime.values import ContainerSpec, HostDevice

BUBBLEWRAP = "bubblewrap"

_TRIAL_S = 10.0
_MORE_TRIALS = 3
#: MAX_ARGS of bubblewrap.c, less those that we call it with.
_MOST_WORDS = 9000 - 6
_TMP = Path("/tmp")


@dataclass(frozen=True)
class Isolation:
    """How containers are kept apart on this host.

    Attributes:
        level: "bubblewrap" or "none".
        program: path of bwrap; empty at level "none".
        warning: what level "none" means and how to mend it; empty at level "bubblewrap".
    """

    level: str
    program: str = ""
    warning: str = ""


def no_isolation(reason: str) -> Isolation:
    """Plain sessions, because of `reason`."""
    return Isolation(
        "none",
        warning=f"{reason}: containers see all devices and one another's processes and /tmp, and the size of "
        "/dev/shm isn't applied; install bubblewrap and let users make namespaces to mend it",
    )


async def find_isolation(search_path: str) -> Isolation:
    """Looks for bwrap in `search_path`, and tries a container with everything that we ask of it."""
    program = shutil.which("bwrap", path=search_path)
    if program is None:
        return no_isolation("bubblewrap (bwrap) is not installed")
    found = await _tried(program)
    for _ in range(_MORE_TRIALS):
        if not is_by_chance(found.warning):
            break
        found = await _tried(program)
    return found


async def _tried(program: str) -> Isolation:
    with trial_folder() as folder:
        spec = ContainerSpec(
            name="trial",
            argv=["/bin/sh", "-c", ": > /dev/gpuyard-trial && : > /tmp/file"],
            env={},
            working_dir="/",
            devices=[HostDevice("/dev/null", "/dev/gpuyard-trial")],
            shm_bytes=1 << 20,
        )
        process = await asyncio.create_subprocess_exec(
            program,
            *bubblewrap_args(spec, folder),
            "--",
            *spec.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, complaint = await asyncio.wait_for(process.communicate(), _TRIAL_S)
        except TimeoutError:
            process.kill()
            await process.communicate()
            return no_isolation(f"{program} doesn't answer")
    if process.returncode != 0:
        said = complaint.decode(errors="replace").strip() or f"exit code {process.returncode}"
        return no_isolation(f"{program} doesn't work here ({said})")
    return Isolation(BUBBLEWRAP, program=program)


def bubblewrap_args(spec: ContainerSpec, tmp: Path, yard: YardPaths | None = None) -> list[str]:
    """The arguments that set the sandbox up.

    Args:
        spec: what it is for.
        tmp: becomes its /tmp.
        yard: whose folders it doesn't see.

    Raises:
        StartError: a device or mount that this host can't give.
    """
    args = [*_root(spec), "--dev", "/dev"]
    if spec.shm_bytes:
        args += ["--size", str(spec.shm_bytes), "--tmpfs", "/dev/shm"]
    for device in spec.devices:
        _check_device(device)
        args += ["--dev-bind", device.host_path, device.container_path]
    kept = named_in_tmp(spec)
    if _TMP not in kept:
        args += ["--bind", str(tmp), "/tmp"]
        for path in sorted(kept):
            args += ["--bind", str(path), str(path)]
    if yard:
        args += yard_hidden(spec, yard, kept)
    for mount in spec.mounts:
        _check_mount(mount.host_path, mount.container_path)
        args += ["--ro-bind" if mount.read_only else "--bind", str(mount.host_path), mount.container_path]
    if yard:
        args += yard_hidden_in_mounts(spec, yard)
    # No --die-with-parent: containers outlive the daemon.
    args += ["--proc", "/proc", "--unshare-pid", "--new-session", "--chdir", spec.working_dir, "--clearenv"]
    for name, value in spec.env.items():
        args += ["--setenv", name, value]
    return args


def _root(spec: ContainerSpec) -> list[str]:
    """The host's root; where mounts want folders that it hasn't, such as /data, one of the container's own
    with the host's folders in it. Writing into the root itself then reaches nobody."""
    if not any(_is_missing_at_root(mount.container_path) for mount in spec.mounts):
        return ["--bind", "/", "/"]
    args: list[str] = []
    for entry in sorted(Path("/").iterdir()):
        if entry.is_symlink():
            args += ["--symlink", str(entry.readlink()), str(entry)]
        elif entry.name not in ("dev", "proc"):
            args += ["--bind-try", str(entry), str(entry)]
    return args


def _is_missing_at_root(target: str) -> bool:
    return not os.path.lexists(Path("/", *Path(target).parts[1:2]))


def check_word_count(setup: Sequence[str], command: Sequence[str]) -> None:
    """Refuses a command that bubblewrap would: it counts its own arguments and the command's together.

    Raises:
        StartError: with how many words there may be.
    """
    most = _MOST_WORDS - len(setup)
    if most <= 0:
        raise errors.StartError(
            f"its environment and mounts make {len(setup)} words, and bubblewrap takes {_MOST_WORDS}: three "
            "to a variable",
            code=126,
            remedy="put variables into a file that the command reads",
        )
    if len(command) > most:
        raise errors.StartError(
            f"the command has {len(command)} words, and bubblewrap takes {most} beside its own",
            code=126,
            remedy="put them into a file that the command reads, or let a script expand them",
        )


def named_in_tmp(spec: ContainerSpec) -> set[Path]:
    """Entries of the host's /tmp that the container names in its working folder, arguments or environment.

    They stay visible in its own /tmp: a workdir, a virtual environment or data may lie there.
    """
    texts = [spec.working_dir, *(part for arg in spec.argv for part in (arg, arg.partition("=")[2]))]
    texts += [part for value in spec.env.values() for part in value.split(":")]
    return set(_tmp_entries(text for text in texts if text.startswith("/")))


def _tmp_entries(paths: Iterable[str]) -> Iterable[Path]:
    for text in paths:
        for path in (Path(os.path.normpath(text)), Path(os.path.realpath(text))):
            if path == _TMP:
                yield path
            elif _TMP in path.parents:
                entry = _TMP / path.relative_to(_TMP).parts[0]
                if entry.exists():
                    yield entry


def _check_device(device: HostDevice) -> None:
    if not device.container_path.startswith("/dev/"):
        raise errors.StartError(
            f"the device {device.host_path} can't be shown as {device.container_path}: only under /dev"
        )
    if not Path(device.host_path).exists():
        raise errors.StartError(
            f"the device {device.host_path} isn't there",
            remedy="load its driver, or restart the yard so that it counts the devices again",
        )


def _check_mount(source: Path, target: str) -> None:
    if not target.startswith("/"):
        raise errors.StartError(f"a volume can't be mounted at {target!r}: the path isn't absolute")
    # Bubblewrap would make a missing mount point on the host itself.
    inside = target.startswith(("/tmp/", "/dev/shm/")) or _is_missing_at_root(target)
    if not inside and Path(target).is_dir() != source.is_dir():
        raise errors.StartError(
            f"a volume can't be mounted at {target}: there is no such folder on this host",
            remedy=f"make the folder (mkdir -p {target}), or mount it below / or /tmp, such as at /data",
        )
