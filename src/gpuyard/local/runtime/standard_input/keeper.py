"""The process beside a container with standard input or a terminal that keeps the other side open.

It belongs to no daemon: it ends by itself, with the last process that has the terminal or reads the input.
Who connects to its socket, and is of the same user, gets the descriptor to write to. It is run by its path,
without our packages: it takes little memory and nothing that changes under it.

Input that ends with the first client is kept no longer once a client has it: then it ends with the client,
however that ends.

    keeper.py pipe|once LISTENER INPUT            descriptors, by number
    keeper.py tty LISTENER TERMINAL OUTPUT        what the terminal prints is copied to OUTPUT
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys

BACKLOG = 64
_PIECE_BYTES = 1 << 16
#: pid, uid and gid; source: unix(7), SO_PEERCRED.
CREDENTIALS = struct.Struct("3i")


def main(kind: str, listening: int, kept: int, output: int | None = None) -> None:
    """Keeps `kept` until nobody is at its other side."""
    listener = socket.socket(fileno=listening)
    listener.listen(BACKLOG)  # Who connects is told the pid of who did this last.
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    # That a pipe has no reader any more is told unasked.
    poll.register(kept, 0 if output is None else select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listening:
                if _hand_over(listener, kept) and kind == "once":
                    return
            elif output is None or not _copy(kept, output):
                return


def _hand_over(listener: socket.socket, kept: int) -> bool:
    try:
        connection, _ = listener.accept()
    except OSError:  # it has left
        return False
    with connection:
        connection.setblocking(False)
        try:
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            if CREDENTIALS.unpack(raw)[1] != os.geteuid():
                return False
            socket.send_fds(connection, [b"\0"], [kept])
        except OSError:
            return False
    return True


def _copy(terminal: int, output: int) -> bool:
    """Copies what is there; False at the end."""
    try:
        piece = os.read(terminal, _PIECE_BYTES)
        while piece:
            piece = piece[os.write(output, piece) :]
    except BlockingIOError:
        pass
    except OSError:  # nobody has the terminal any more, or nobody reads the output
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
