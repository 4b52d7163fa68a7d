"""Connections between the launchers of one run (see launcher_gang.py), which carry lines of text.

Standard library only, Python 3.6 and later, as launcher.py, beside which this file lies.
"""

import select
import socket

if False:  # typing would cost every run's start
    from typing import Any

#: What a message may have, its end of line included.
_MAX_LINE = 4096
#: A connection counts as broken when the other side's machine has said nothing for 10 + 4 × 5 s.
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))


class Line:
    """A connection that carries lines of text."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self) -> int:
        """For select."""
        return self._connection.fileno()

    def send(self, text: str) -> None:
        """Writes a line; to one that has left it is nothing."""
        try:
            self._connection.sendall(text.encode() + b"\n")
        except OSError:
            pass

    def receive(self) -> "list[str] | None":
        """The whole lines that have come; None when the other side has left, or says what nobody does."""
        try:
            data = self._connection.recv(_MAX_LINE)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data or len(self._rest) + len(data) > _MAX_LINE:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


def ready_of(sources: "list[Any]", within_s: "float | None" = None) -> "list[Any]":
    """Those from which something can be read, or that have ended, once there is one; none after that time.
    Unlike select's, poll's files may have any number."""
    poll = select.poll()
    numbers = {}
    for source in sources:
        number = source if isinstance(source, int) else source.fileno()
        numbers[number] = source
        poll.register(number, select.POLLIN)
    found = poll.poll(None if within_s is None else max(within_s, 0) * 1000)
    return [numbers[number] for number, _ in found]
