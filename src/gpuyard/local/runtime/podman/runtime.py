"""Containers of podman, supervised by the same journal, log and pidfd as a process of the host.

The pidfd is that of conmon, which podman leaves beside each container: it waits for the command, has its
exit code put into podman's own records, and ends. So nobody of ours has to live beside a container, and
whoever comes later, also after the end, learns the exit code from podman.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from gpuyard import errors
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.ending import KILLED_CODE, last_line
from gpuyard.local.runtime.exec_process import ContainerEntry
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.log_copier import wait_until_copied
from gpuyard.local.runtime.members import Members, Namespace, patiently, send
from gpuyard.local.runtime.podman.arguments import (
    CONMON_PID,
    ENV_FILE,
    INIT_PID,
    run_args,
    split_environment,
)
from gpuyard.local.runtime.podman.host import PODMAN, Podman
from gpuyard.local.runtime.runtime import Applied
from gpuyard.local.runtime.spawn import Descriptors, Starts, check_text, pidfd_of, popen
from gpuyard.local.runtime.values import ENV_EXEC, ContainerSpec, Exit, ExitReason

# The journal comes and is kept from podman as in `shell`: its lock must end with this shell, not with conmon.
# One write says all: conmon's line of /proc/PID/stat, or our own when conmon has ended by now, as we do too.
_SCRIPT = r"""
exec 3>&2 2>&1
conmon_file=$1; init_file=$2; shift 2
"$@" 3>&- || exit
read -r conmon <"$conmon_file"
read -r init <"$init_file"
{ read -r line <"/proc/$conmon/stat" || read -r line </proc/$$/stat; } 2>/dev/null
namespace=$(stat -Lc %i "/proc/$init/ns/pid" 2>/dev/null)
printf '{ "stat": "%s", "child-pid": %d, "pid-namespace": %d }\n' "$line" "$init" "${namespace:-0}" >&3
"""


#: Fields of security contexts that podman is told of, or that mean nothing to emptyDir volumes.
_SECURITY = frozenset(
    (
        *("runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "fsGroupChangePolicy", "supplementalGroups"),
        *("capabilities", "allowPrivilegeEscalation", "readOnlyRootFilesystem", "seccompProfile"),
        *("privileged", "procMount"),
    )
)


class PodmanRuntime:
    """Implements `Runtime` for containers with an image.

    Attributes:
        host: podman itself, with its images and what it knows of containers.
    """

    applied = Applied(PODMAN, mounts=True, pod_security=_SECURITY, container_security=_SECURITY)

    def __init__(self, host: Podman, starts: Starts) -> None:
        """Makes it; `host` refuses every start before its probe."""
        self.host = host
        self._starts = starts

    async def start(self, folder: Path, spec: ContainerSpec) -> Container:
        """See `Runtime.start`."""
        await self.host.ready()
        opened = await self._starts.open(folder, spec, PODMAN, self._starts.clock())
        pid = self._starts.launch(folder, opened, lambda: self._spawn(folder, spec, opened))
        # When this is cancelled the shell goes on, and what it starts is there to be adopted.
        code = await exit_code(pid)
        started = await patiently(partial(journals.read, folder / journals.JOURNAL))
        if code != 0 or started is None or started.started is None:
            await wait_until_copied(folder / journals.LOG)
            failure = start_error(folder, code)
            self._starts.note_start_error(folder, failure)
            await self.host.remove(spec.name)
            raise failure
        return self._container(folder, started, await patiently(partial(pidfd_of, started.started)))

    def _spawn(self, folder: Path, spec: ContainerSpec, opened: Descriptors) -> int:
        check_text(spec, by_shell=False)
        argv, env = prepare_run(self.host, folder, spec)
        return popen(argv, env, opened, Path("/"))

    def attach(self, folder: Path, journal: Journal) -> Container:
        """See `Runtime.attach`."""
        assert journal.started is not None
        return self._container(folder, journal, pidfd_of(journal.started))

    def members(self, journal: Journal) -> Members:
        """See `Runtime.members`."""
        return _PodmanNamespace(journal)

    def _container(self, folder: Path, journal: Journal, pidfd: int | None) -> Container:
        assert journal.started is not None
        return PodmanContainer(folder, journal, journal.started.pid, pidfd, self._starts.clock, self.host)

    async def enter(self, folder: Path, command: Sequence[str], *, tty: bool, mark: str) -> ContainerEntry:
        """See `Runtime.enter`."""
        journal = await patiently(partial(journals.read, folder / journals.JOURNAL))
        if journal is None or journal.exit is not None:
            raise errors.BadRequest("the container has just ended")
        words = self.host.command("exec", "--interactive", "--env", f"{ENV_EXEC}={mark}")
        if tty:
            # Podman's own terminal is ours, and it makes another in the container.
            words = ["setsid", "--ctty", "--wait", "--", *words, "--tty"]
        return ContainerEntry([*words, journal.name, *command], self.host.environment, Path("/"), mark)

    async def discard(self, name: str) -> None:
        """See `Runtime.discard`: podman may know a container of which the shell couldn't tell us."""
        await self.host.remove(name)


#: Signals whose default action ends a process, of those that a run can be stopped by.
_ENDING = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)


class _PodmanNamespace(Namespace):
    """A PID namespace whose process 1 is the command itself."""

    def command(self) -> int | None:
        return self._init if self._is_alive() else None


class _WithoutCommand(_PodmanNamespace):
    """The same without the command, whose end is the end of them all."""

    def alive(self) -> set[int]:
        """See `Members.alive`."""
        return super().alive() - {self._init}


def prepare_run(podman: Podman, folder: Path, spec: ContainerSpec) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the shell that starts a container; writes the files that it needs.

    Raises:
        OSError: they can't be written.
    """
    own = podman.environment
    environment = split_environment(spec.env, own)
    (folder / ENV_FILE).touch(mode=0o600)
    (folder / ENV_FILE).write_text(environment.file)
    args = run_args(
        spec,
        folder,
        yard=podman.yard,
        flags=podman.flags.of_run,
        environment=environment,
        limits=podman.flags.limits,
    )
    files = [str(folder / CONMON_PID), str(folder / INIT_PID)]
    argv = ["/bin/sh", "-c", _SCRIPT, "gpuyard", *files, *podman.command(*args)]
    return argv, {**environment.inherited, **own}


def start_error(folder: Path, code: int) -> errors.StartError:
    """Why podman couldn't start a container: it says so where the container's output would be."""
    said = last_line(folder / journals.LOG).removeprefix("Error: ") or f"podman ended with code {code}"
    return errors.StartError(f"podman can't start the container: {said}", code=_start_code(code))


def _start_code(code: int) -> int:
    """126 and 127 as podman has them from the runtime; what else it ends with is about itself."""
    return code if code in (126, 127) else 128


async def exit_code(pid: int) -> int:
    """Waits for a child of this process and reaps it; 128 + n after signal n."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    pidfd = os.pidfd_open(pid)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return _reap(pid)


def _reap(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


class PodmanContainer(Container):
    """Asks podman how it ended, and then removes it from there: log and end are in the folder."""

    def __init__(
        self,
        folder: Path,
        begun: Journal,
        pid: int,
        pidfd: int | None,
        clock: Callable[[], datetime],
        podman: Podman,
    ) -> None:
        """Makes the handle; the arguments are those of `Container`, with conmon as the process."""
        # Its cgroups are podman's.
        super().__init__(folder, begun, pid, pidfd, Cgroups(), clock, _PodmanNamespace)
        self._podman = podman
        self._killed_for: signal.Signals | None = None

    async def _send(self, command: int, by: signal.Signals) -> None:
        """Ends a process 1 that doesn't handle the signal, which any other process would die of.

        The kernel spares a process 1 such signals, and kills all other processes at its end: a shell's
        pipeline that saves something has to end before it. Stopped, the shell begins nothing new meanwhile.
        """
        if by not in _ENDING or not procfs.has_default_action(command, by):
            await super()._send(command, by)
            return
        send([command], signal.SIGSTOP)
        await self._end_leftovers(_WithoutCommand(await patiently(self._journal)))
        if not self._is_overdue():
            self._killed_for = by
        send([command], signal.SIGKILL)

    async def wait(self) -> Exit:
        """See `Container.wait`."""
        exit_ = await super().wait()
        await self._podman.remove(self.name)
        return exit_

    async def _conclude(self, journal: Journal) -> Exit:
        try:
            ended = await self._podman.ended(journal.name)
        except errors.ImageError as error:
            return Exit(KILLED_CODE, ExitReason.UNKNOWN, self._clock(), error.message)
        if ended is None:
            return Exit(
                KILLED_CODE, ExitReason.UNKNOWN, self._clock(), "podman has no record of the container's end"
            )
        code, reason = ended.exit_code, ExitReason.COMPLETED if ended.exit_code == 0 else ExitReason.ERROR
        if ended.out_of_memory:
            reason = ExitReason.OOM_KILLED
        elif code == KILLED_CODE and self._killed_for is not None:
            code = 128 + self._killed_for
        return Exit(code, reason, max(ended.finished_at, journal.started_at))
