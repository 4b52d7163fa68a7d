"""Namespaces that hold the whole cluster, so that ending one process ends and undoes everything in them.

The cluster has a pid, a network and a mount namespace. Each node has a mount namespace of its own, in which
the folders that a kubelet and a containerd use by fixed names (/var/lib, /run, /var/log, /etc) are its own.
From these namespaces no address outside this machine can be reached.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.cluster.harness.state import Process

#: Started parts get none of the caller's environment: a proxy or a token there is none of their business.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_S = 10.0


class ClusterError(Exception):
    """The cluster, or a command on it, failed; the message says which part and what it printed."""


def start_init(folder: Path) -> Process:
    """Makes the cluster's namespaces; they last as long as the process that is returned.

    Args:
        folder: the cluster's; its name is in the command line of that process.
    """
    log = folder / "logs" / "init.log"
    with log.open("ab") as output:
        subprocess.run(
            [
                *("setsid", "--fork", "unshare", "--fork", "--kill-child"),
                *("--pid", "--mount-proc", "--net", "--mount"),
                *(sys.executable, "-I", *_init_arguments(folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": PATH},
            check=True,
        )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        for process, arguments in _makers(folder):
            # Before it is Python it is unshare, with the mounts yet to be made.
            if arguments[1] == "-I":
                return process
        time.sleep(0.02)
    raise ClusterError(f"can't make namespaces: {log.read_text()[-500:]}")


def _init_arguments(folder: Path) -> list[str]:
    return [str(Path(__file__).with_name("init.py")), str(folder)]


def _is_init(path: str) -> bool:
    return path.endswith("/tests/cluster/harness/init.py")


def _makers(folder: Path) -> Iterator[tuple[Process, list[str]]]:
    """Process 1 of the cluster in this folder and what is on the way to it, noted down or not."""
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_text().split("\0")[:-1] if entry.name.isdigit() else []
            # Whatever checkout it was started from.
            if len(arguments) > 2 and _is_init(arguments[-2]) and arguments[-1] == str(folder):
                yield Process.of(int(entry.name)), arguments
        except (FileNotFoundError, ProcessLookupError):
            continue


def folders() -> set[Path]:
    """Of the clusters that live on this machine, whoever started them."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_text().split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if len(arguments) > 2 and _is_init(arguments[-2]):
            found.add(Path(arguments[-1]))
    return found


def enter(process: Process) -> list[str]:
    """The command prefix that runs a command in the namespaces of a process."""
    return ["nsenter", f"--target={process.pid}", "--mount", "--net", "--pid", "--"]


def run(process: Process, *argv: str, stdin: str = "") -> str:
    """Runs a command in the namespaces of a process to its end, and gives what it printed.

    Raises:
        ClusterError: it failed.
    """
    done = subprocess.run(
        [*enter(process), *argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": PATH},
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    return done.stdout


def start(
    process: Process,
    argv: Sequence[str],
    log: Path,
    *,
    environ: dict[str, str] | None = None,
    pass_fds: Iterable[int] = (),
) -> Process:
    """Starts a command in the namespaces of a process, as a child of their process 1.

    Its output is appended to `log`.
    """
    script = 'echo $$; exec "$@" >>"$0" 2>&1 </dev/null'
    with subprocess.Popen(
        [*enter(process), "setsid", "--fork", "sh", "-c", script, str(log), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": PATH, "HOME": "/root", **(environ or {})},
        pass_fds=tuple(pass_fds),
    ) as starting:
        assert starting.stdout is not None
        inner = starting.stdout.readline().strip()
    if not inner:
        raise ClusterError(f"can't start {argv[0]}; see {log}")
    return _outer(process, int(inner), argv[0])


def hold_mounts(init: Process, folder: Path, log: Path) -> Process:
    """Makes a node's mount namespace; it lasts as long as the process that is returned.

    Args:
        folder: the node's; `lib`, `run`, `log` and `etc` in it stand for /var/lib, /run, /var/log and what is
            laid over /etc.
    """
    for name in ("lib", "run/lock", "log", "etc", "etc.work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    script = """
        set -e
        mount -t overlay overlay -o lowerdir=/etc,upperdir="$0"/etc,workdir="$0"/etc.work /etc
        mount --bind "$0"/lib /var/lib
        mount --bind "$0"/log /var/log
        mount --bind "$0"/run /run
        mount --make-rshared /
        exec sleep infinity
    """
    holder = start(init, ["unshare", "--mount", "sh", "-c", script, str(folder)], log)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and holder.alive:
        if Path(f"/proc/{holder.pid}/cmdline").read_bytes().startswith(b"sleep"):
            return holder
        time.sleep(0.02)
    raise ClusterError(f"can't make the mounts of {folder.name}; see {log}: {log.read_text()[-500:]}")


def end(folder: Path, timeout_s: float = 30) -> None:
    """Kills everything in the namespaces of the cluster in this folder.

    What was mounted and configured in them goes with it.
    """
    makers = [process for process, _ in _makers(folder)]
    for process in makers:
        process.signal(signal.SIGKILL)
    # The kernel lets process 1 of a pid namespace go only after all the others.
    deadline = time.monotonic() + timeout_s
    while any(_is(process) for process in makers):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes of the cluster can't be killed: children of {makers}")
        time.sleep(0.02)


def _is(process: Process) -> bool:
    """Whether it is still in the process table, as a zombie too."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(stat.rpartition(")")[2].split()[19]) == process.start


def _outer(process: Process, inner: int, command: str) -> Process:
    """The process whose pid in the namespace of `process` is `inner`."""
    namespace = os.readlink(f"/proc/{process.pid}/ns/pid")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(entry / "ns/pid") != namespace:
                continue
            status = (entry / "status").read_text()
            pids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if int(pids[-1]) == inner:
                return Process.of(int(entry.name))
        except (OSError, StopIteration):
            continue
    raise ClusterError(f"{command} ended at once")
