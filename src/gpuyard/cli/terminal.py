"""This process's own input and output, given to a process elsewhere; a terminal in raw mode meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable

from gpuyard.client.streams.remote_command import Channel, Streams
from gpuyard.client.streams.websocket import Bytes

_READ_BYTES = 1 << 16
_ENDING = (signal.SIGTERM, signal.SIGHUP)
#: Ctrl-P Ctrl-Q.
_DETACH = b"\x10\x11"


class DetachKeys:
    """Ctrl-P Ctrl-Q among what is typed, as docker has it; `are_typed` once they came."""

    def __init__(self) -> None:
        self.are_typed = False
        self._held = b""

    def pass_on(self, typed: bytes) -> bytes:
        """What of it is for the program; a Ctrl-P waits for the key behind it."""
        keys, _, rest = (self._held + typed).partition(_DETACH)
        self.are_typed = self._held + typed != keys
        self._held = _DETACH[:1] if keys.endswith(_DETACH[:1]) and not rest and not self.are_typed else b""
        return keys.removesuffix(self._held) if self._held else keys


class TerminalConsole:
    """Implements `runs.interactive.command.Console`; see `open_console`.

    Attributes:
        resized: to be called when the terminal's size may have changed.
    """

    def __init__(self, streams: Streams, keys: DetachKeys | None, detach: Callable[[], object]) -> None:
        self.streams = streams
        self._keys = keys
        self._detach = detach
        self._size_changed = asyncio.Event()
        self.resized = self._size_changed.set

    async def read(self) -> bytes:
        """See `Console`; a terminal that went away has ended."""
        while typed := await self._typed():
            if self._keys is None:
                return typed
            passed = self._keys.pass_on(typed)
            if self._keys.are_typed:
                self._detach()
            if passed:
                return passed
        return b""

    async def _typed(self) -> bytes:
        fd = sys.stdin.fileno()
        # What always can be read isn't waited for, nor can it be.
        if not stat.S_ISREG(os.fstat(fd).st_mode) and fd_can_wait(fd):
            await _readable(fd)
        try:
            return os.read(fd, _READ_BYTES)
        except OSError:
            return b""

    async def write(self, channel: Channel, data: Bytes) -> None:
        """See `Console`."""
        fd = (sys.stderr if channel is Channel.STDERR else sys.stdout).fileno()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:  # another process made our terminal so
                await _writable(fd)

    async def size(self) -> tuple[int, int]:
        """See `Console`."""
        await self._size_changed.wait()
        self._size_changed.clear()
        size = os.get_terminal_size(sys.stdout.fileno())
        return size.columns, size.lines


@contextlib.asynccontextmanager
async def open_console(
    *, stdin: bool = True, tty: bool | None = None, detachable: bool = False
) -> AsyncIterator[TerminalConsole]:
    """The console of this process, as a terminal where both its input and its output are one.

    Within the block a terminal sends every key, Ctrl-C too; it is restored however the block ends. SIGTERM
    and SIGHUP cancel the block, and `SystemExit` has their code.

    Args:
        stdin: whether input is connected at all.
        tty: whether the process has a terminal; None where it gets one if this one has.
        detachable: Ctrl-P Ctrl-Q cancels the block.
    """
    is_terminal = stdin and tty is not False and sys.stdin.isatty() and sys.stdout.isatty()
    task, loop, got = asyncio.current_task(), asyncio.get_running_loop(), list[int]()
    assert task is not None
    keys = DetachKeys() if detachable and is_terminal else None
    console = TerminalConsole(Streams(stdin, is_terminal if tty is None else tty), keys, task.cancel)
    if not is_terminal:
        yield console
        return
    import termios
    import tty as terminals

    def end(number: int) -> None:
        got.append(number)
        if len(got) == 1:  # a terminal that is closed sends several
            task.cancel()

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    for number in _ENDING:
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGWINCH, console.resized)
    console.resized()
    try:
        terminals.setraw(fd, termios.TCSADRAIN)  # what was typed meanwhile stays
        yield console
    except asyncio.CancelledError:
        if got:
            sys.exit(128 + got[0])
        raise
    finally:
        with contextlib.suppress(termios.error):  # it went away
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        # Once the process is ending, more of them don't disturb what its end has to do.
        for number in (signal.SIGWINCH,) if got else (*_ENDING, signal.SIGWINCH):
            loop.remove_signal_handler(number)


def has_input() -> bool:
    """Whether somebody gives standard input: a pipe, a file, or a terminal that shows the output, too."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # it is closed
        return False
    return not stat.S_ISCHR(mode) or (sys.stdin.isatty() and sys.stdout.isatty())


def fd_can_wait(fd: int) -> bool:
    """Whether the kernel tells when it can be read: not of /dev/null."""
    import select

    try:
        with select.epoll() as poll:
            poll.register(fd, select.EPOLLIN)
    except PermissionError:
        return False
    return True


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, _done, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _done(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
