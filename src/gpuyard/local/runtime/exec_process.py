"""A program that a client runs in a container beside its command, with pipes or a terminal of its own.

It is a child of this process and ends with it, with the container, or when its client leaves: the terminal's
end is a SIGHUP, as in any terminal window; what is left of its sessions is killed a little later.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.members import patiently, send
from gpuyard.local.runtime.values import ENV_EXEC

#: From the SIGHUP to the SIGKILL.
_GRACE_S = 2.0
#: Pauses between two looks at all of the host's processes.
_FIRST_POLL_S, _LAST_POLL_S = 0.05, 1.0
#: Control-D: the end of the input, to a terminal.
_END_OF_FILE = b"\x04"
_PTMX = os.makedev(5, 2)
#: Let the other side of a terminal be opened, and open it wherever it is. Source: asm-generic/ioctls.h.
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441


@dataclass(frozen=True)
class ContainerEntry:
    """How a program gets into a container.

    Attributes:
        argv: program and arguments on the host; they end with those of the program itself.
        env: the whole environment.
        cwd: where it is started.
        mark: value of `ENV_EXEC`, unique on this host.
        terminals: the container's own /dev/pts, None where it has the host's.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    mark: str
    terminals: Path | None = None


class ExecProcess:
    """Implements `ContainerStreams`. Owns its ends of the pipes or the terminal, and the child."""

    def __init__(
        self, pid: int, mark: str, note: Path, stdin: int | None, outputs: dict[int, int], *, tty: bool
    ) -> None:
        """Takes the descriptors and the child over."""
        self.stdin = stdin
        self.outputs = outputs
        self._pid = pid
        self._mark = mark
        self._note = note
        self._terminal = outputs[1] if tty else None
        #: Start ticks of what has to end, by pid.
        self._known: dict[int, int] = {}
        self._pidfd = os.pidfd_open(pid)
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)
        except OSError:
            os.close(self._pidfd)
            raise

    @classmethod
    def start(
        cls, entry: ContainerEntry, *, stdin: bool, stdout: bool, stderr: bool, tty: bool, note: Path
    ) -> ExecProcess:
        """Starts it; `note` is a file that is there from now until `close`.

        Raises:
            InternalError: no process can be started.
        """
        theirs, ours, outputs, inputs = [], [], {}, None
        _write_note(note)
        try:
            if tty:
                master, slave = _open_terminal(entry.terminals)
                ours.append(master)
                theirs.append(slave)
                outputs, inputs = {1: master}, master if stdin else None
                given: list[int] = [slave, slave, slave]
            else:
                given = [subprocess.DEVNULL] * 3
                for number, wanted in ((0, stdin), (1, stdout), (2, stderr)):
                    if not wanted:
                        continue
                    ends = os.pipe()
                    given[number], mine = ends if number == 0 else ends[::-1]
                    theirs.append(given[number])
                    ours.append(mine)
                    if number == 0:
                        inputs = mine
                    else:
                        outputs[number] = mine
            for descriptor in ours:
                os.set_blocking(descriptor, False)
            process = subprocess.Popen(
                entry.argv,
                env={**entry.env, ENV_EXEC: entry.mark},
                cwd=entry.cwd,
                stdin=given[0],
                stdout=given[1],
                stderr=given[2],
                # With a terminal setsid(1) makes the session, which must not be its leader's already.
                start_new_session=not tty,
                umask=0o022,
            )
            try:
                made = cls(process.pid, entry.mark, note, inputs, outputs, tty=tty)
            except OSError:
                process.kill()
                process.wait()
                raise
        except OSError as error:
            for descriptor in ours:
                os.close(descriptor)
            _remove_note(note)
            what = "the command line is too long" if error.errno == errno.E2BIG else error.strerror
            raise errors.InternalError(f"can't start {entry.argv[-1]!r} in the container: {what}") from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        process.returncode = 0  # reaping it is ours
        return made

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._code.set_result(code if code >= 0 else 128 - code)

    def close_stdin(self) -> None:
        """See `ContainerStreams.close_stdin`."""
        if self.stdin is None:
            return
        if self._terminal is not None:
            with suppress(OSError):
                os.write(self.stdin, _END_OF_FILE)
        else:
            os.close(self.stdin)
        self.stdin = None

    def resize(self, width: int, height: int) -> None:
        """See `ContainerStreams.resize`."""
        if self._terminal is not None:
            with suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        """See `ContainerStreams.wait`."""
        return await asyncio.shield(self._code)

    async def close(self) -> None:
        """See `ContainerStreams.close`."""
        if runs := not self._code.done():
            # Now: the child may end by its terminal's end, and leave others.
            await patiently(self._processes)
        self.close_stdin()
        for descriptor in self.outputs.values():
            os.close(descriptor)  # of a terminal: SIGHUP to its session
        self.outputs, self._terminal = {}, None
        if runs:
            await self._end()
        os.close(self._pidfd)
        _remove_note(self._note)

    async def _end(self) -> None:
        kill_at, pause_s = asyncio.get_running_loop().time() + _GRACE_S, _FIRST_POLL_S
        left = await patiently(self._processes)
        self._send(left, signal.SIGHUP)
        # What brought the program into a sandbox is among them, and may end before it.
        while left or not self._code.done():
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_POLL_S)
            left = await patiently(self._processes)
            if asyncio.get_running_loop().time() > kill_at:
                self._send(left, signal.SIGKILL)

    def _send(self, pids: set[int], number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self._pidfd, number)
        send(pids - {self._pid}, number)

    def _processes(self) -> set[int]:
        """The child, its session and descendants, and who bears the mark: any may have dropped that."""
        table = procfs.all_processes()
        found = {
            pid for pid, start in self._known.items() if pid in table and table[pid].start_ticks == start
        }
        if not self._code.done():  # So its number was no other's in the table.
            found |= {pid for pid, stat in table.items() if self._pid in (pid, stat.session)}
        found |= procfs.with_environment(f"{ENV_EXEC}={self._mark}", table)
        found |= procfs.descendants(found, table)
        self._known = {pid: table[pid].start_ticks for pid in found}
        return found


def _write_note(note: Path) -> None:
    """By it the next daemon tells what a killed one had open from what ended commands left on purpose."""
    # On a full disk it goes without: then one needs a command in the run more than ever.
    with suppress(OSError):
        note.touch(mode=0o600)


def _remove_note(note: Path) -> None:
    with suppress(OSError):
        note.unlink()


def _open_terminal(folder: Path | None) -> tuple[int, int]:
    """Both sides of a new terminal, which has a name where its program looks for it. Source: ioctl_tty(2).

    Raises:
        OSError: there is none.
    """
    if folder is None:
        return os.openpty()
    # The container may have put anything there.
    found = os.open(folder / "ptmx", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(found).st_rdev != _PTMX:
            raise OSError(errno.ENXIO, "its /dev/pts is not as it was made")
        flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        master = os.open(f"/proc/self/fd/{found}", flags)
    finally:
        os.close(found)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        return master, fcntl.ioctl(master, _TIOCGPTPEER, flags)
    except OSError:
        os.close(master)
        raise
