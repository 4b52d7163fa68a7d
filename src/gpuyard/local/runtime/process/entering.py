"""Into a running container of the process runtime: what a start keeps for it, and the command line.

What enters has the container's environment, folder, cgroups and, in a sandbox, its namespaces. A start keeps
the environment in a file that only its user can read, until the container has ended: what /proc shows of the
command is its own to overwrite, as programs do that set their title.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.exec_process import ContainerEntry
from gpuyard.local.runtime.values import DEFAULT_PATH, TERMINAL
from gpuyard.regular_files import open_regular

#: The kernel kills it with its parent: nobody would hear it any more.
_ENDS_WITH_THE_DAEMON = ("setpriv", "--pdeathsig=KILL", "--")
# The same fixed script for every command: joins the cgroups, and becomes what follows. A shell names its own
# folder in PWD, which isn't the container's.
_JOIN = (
    'export PWD="$1"; shift; while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; exec "$@"'
)


def keep_entry(folder: Path, env: Mapping[str, str], working_dir: str) -> None:
    """Writes what is needed to enter a container later.

    Raises:
        OSError: it can't be written.
    """
    path = folder / journals.ENTRY
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        json.dump({"env": env, "working-dir": working_dir}, file)


def entry_of(
    folder: Path, command: Sequence[str], *, cgroups: Sequence[Path], init: int | None, tty: bool, mark: str
) -> ContainerEntry:
    """How a command enters.

    Args:
        folder: of the start.
        command: program and arguments; the program is looked up in the container's PATH.
        cgroups: that the container is in.
        init: process 1 of its sandbox; None where it has none.
        tty: it gets a terminal.
        mark: for `ContainerEntry.mark`.

    Raises:
        BadRequest: the start kept nothing.
        InternalError: there is no such program, in the words of Kubernetes' runtimes.
    """
    try:
        with os.fdopen(open_regular(folder / journals.ENTRY), "rb") as file:
            kept: Mapping[str, Any] = json.load(file)
        env, working_dir = dict(kept["env"]), Path(kept["working-dir"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.BadRequest(
            "the container has just ended, or was started by a gpuyard that couldn't run commands in it: "
            "start it again"
        ) from error
    root = Path("/") if init is None else Path(f"/proc/{init}/root")
    if not any(_has_program(command[0], env, working_dir, one) for one in (root, Path("/"))):
        raise errors.InternalError(
            f"error executing command in container: exec: {json.dumps(command[0])}: "
            "executable file not found in $PATH"
        )
    words = [
        *_ENDS_WITH_THE_DAEMON,
        "/bin/sh",
        "-c",
        _JOIN,
        "gpuyard",
        str(working_dir),
        *(str(cgroup / "cgroup.procs") for cgroup in cgroups),
        "--",
    ]
    if init is not None:
        words += ["nsenter", f"--target={init}", "--mount", "--pid", "--wd"]
        if _has_own_users(init):
            words += ["--user", "--preserve-credentials"]
        # It forks to get into the PID namespace. Bubblewrap sets no_new_privs, too.
        words += ["--", *_ENDS_WITH_THE_DAEMON[:-1], "--no-new-privs", "--"]
    if tty:
        env = {**TERMINAL, **env}
        words += ["setsid", "--ctty", "--wait", "--"]
    words += command
    if init is None:
        return ContainerEntry(words, env, working_dir, mark)
    return ContainerEntry(words, env, Path("/"), mark, root / "dev/pts")


def _has_program(name: str, env: Mapping[str, str], working_dir: Path, root: Path) -> bool:
    """Whether something is where execvp(3) looks for it. Whoever executes it says what is wrong with it.

    A link in a sandbox may lead to the host's root from here, so it isn't followed.
    """
    search = [""] if "/" in name else (env.get("PATH") or DEFAULT_PATH).split(":")
    return any(os.path.lexists(root / str(working_dir / folder / name).lstrip("/")) for folder in search)


def _has_own_users(pid: int) -> bool:
    return procfs.user_namespace(pid) not in (None, procfs.user_namespace(os.getpid()))
