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
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.cluster.harness.state import Process

#: Started parts get none of the caller's environment: a proxy or a token there is none of their business.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_S = 10.0


def start_init(folder: Path) -> Process:
    """Makes the cluster's namespaces; they last as long as the process that is returned.

    Args:
        folder: the cluster's; its name is in the command line of that process.
    """
    log = folder / "logs" / "init.log"
    with log.open("ab") as output:
        unshare = subprocess.Popen(
            [
                *("unshare", "--fork", "--pid", "--mount-proc", "--net", "--mount", "--kill-child"),
                *(sys.executable, "-I", str(Path(__file__).with_name("init.py")), str(folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={"PATH": PATH},
        )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and unshare.poll() is None:
        if init := find_init(folder):
            return init
        time.sleep(0.02)
    unshare.kill()
    raise RuntimeError(f"can't make namespaces (are you root?); see {log}: {log.read_text()[-500:]}")


def find_init(folder: Path) -> Process | None:
    """Process 1 of the cluster in this folder, if it is there, whether or not someone noted it down."""
    wanted = [b"-I", str(Path(__file__).with_name("init.py")).encode(), str(folder).encode()]
    for entry in Path("/proc").iterdir():
        try:
            # Before it is Python it is unshare, with the mounts yet to be made.
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().split(b"\0")[1:-1] == wanted:
                return Process.of(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def enter(process: Process) -> list[str]:
    """The command prefix that runs a command in the namespaces of a process."""
    return ["nsenter", f"--target={process.pid}", "--mount", "--net", "--pid", "--"]


def run(process: Process, *argv: str, stdin: str = "") -> str:
    """Runs a command in the namespaces of a process to its end, and gives what it printed.

    Raises:
        RuntimeError: it failed.
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
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
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
        raise RuntimeError(f"can't start {argv[0]}; see {log}")
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
    raise RuntimeError(f"can't make the mounts of {folder.name}; see {log}: {log.read_text()[-500:]}")


def end(init: Process, timeout_s: float = 30) -> None:
    """Kills everything in the namespaces. What was mounted and configured in them goes with it."""
    init.signal(signal.SIGKILL)
    # The kernel lets process 1 of a pid namespace go only after all the others.
    deadline = time.monotonic() + timeout_s
    while Path(f"/proc/{init.pid}").exists() and _is(init):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes of the cluster can't be killed; process 1 of them is {init.pid}")
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
    raise RuntimeError(f"{command} ended at once")
