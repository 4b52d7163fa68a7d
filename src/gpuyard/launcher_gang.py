"""The pods of one run among themselves: they start together, and when one fails all end.

The launcher of the first pod (rank 0) listens, those of the others connect and stay connected:

    others → first   `here UID RANK`, then `end CODE` when its command has ended
    first → others   `go` once all are there, or `missing RANKS` when the time for that is over;
                     then `stop RANK WHY` when one has failed or its connection broke

So a pod that fails, or is lost with its node, doesn't leave the others in a collective operation that never
ends. They exit with 193, which no Job of gpuyard counts as a failure: the pod that failed counts. UID is the
Job's: who isn't of the run doesn't know it.

Standard library only, Python 3.6 and later, as launcher.py, beside which this file lies.
"""

import os
import select
import signal
import socket
import threading
import time

if False:  # typing would cost every run's start
    from typing import Any

EXIT_WITH_ANOTHER = 193
EXIT_USAGE = 64
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_RETRY_S = 0.3
#: What a message may have, its end of line included.
_MAX_LINE = 4096
#: A connection counts as broken when the other side's machine has said nothing for 10 + 4 × 5 s.
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))
#: How long a first pod that is through waits for a rank's last word before it takes it for lost.
_LAST_WORD_S = 5.0


class NotTogether(Exception):
    """Why the pods of the run didn't start together."""


def stay_together(stay: "Any", run: "Any", say: "Any") -> int:
    """Runs the command by the launcher's `stay` once all pods of this run are there, and no longer than until
    another has failed; gives the exit code.

    Args:
        stay: of the launcher.
        run: becomes the command.
        say: prints a line of ours.
    """
    for number in STOPPING:
        # The first process of a container has no default for them.
        signal.signal(number, lambda number, _: os._exit(128 + number))
    try:
        rank, within_s = of_environment()
        rank.meet(within_s)
    except NotTogether as reason:
        say("this run's pods didn't start together: " + str(reason))
        return EXIT_WITH_ANOTHER
    except (KeyError, ValueError) as error:
        say("GPUYARD_GANG isn't as gpuyard sets it: " + str(error))
        return EXIT_USAGE
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    code = int(stay(run, rank))
    if rank.ended_by:
        say("this pod ends since rank " + rank.ended_by)
        return EXIT_WITH_ANOTHER
    rank.tell_end(code)
    return code


class Rank:
    """This pod's place among those of its run.

    Attributes:
        ended_by: why this pod is to end, once another has failed; empty before.
    """

    def __init__(self, rank: int, size: int, address: str, port: int, uid: str) -> None:
        """`address` is the first pod's, a name or a number."""
        self.rank, self.size, self.uid = rank, size, uid
        self.address, self.port = address, port
        self.ended_by = ""
        self._peers = {}  # type: dict[int, _Line]
        self._over = threading.Event()
        self._wake, self._woken = os.pipe()

    def meet(self, within_s: float) -> None:
        """Returns when all pods are there.

        Raises:
            NotTogether: they aren't within that time.
        """
        due = time.monotonic() + within_s
        if self.rank:
            self._join(due)
        else:
            self._gather(due)

    def watch(self, end: "Any") -> None:
        """From now on calls `end` once, from a thread, when another pod has failed or is lost."""
        threading.Thread(target=self._watch, args=(end,), daemon=True).start()

    def tell_end(self, code: int) -> None:
        """The command of this pod has ended by itself with this code."""
        self._over.set()
        os.write(self._woken, b".")
        word = f"end {code}" if self.rank or not code else f"stop 0 exited with {code}"
        for line in list(self._peers.values()):
            line.send(word)

    # -- before the start -------------------------------------------------------------------------------

    def _gather(self, due: float) -> None:
        """As the first pod: waits for the others' word."""
        try:
            listener = self._listen(due)
        except OSError as error:
            raise NotTogether(f"can't wait for the others at {self._place}: {error}") from error
        new = []  # type: list[_Line]
        with listener:
            while len(self._peers) < self.size - 1:
                left = due - time.monotonic()
                if left <= 0:
                    missing = sorted(set(range(1, self.size)) - set(self._peers))
                    text = ",".join(map(str, missing))
                    for line in self._peers.values():
                        line.send("missing " + text)
                    raise NotTogether(_missing_text(text))
                known = list(self._peers.values())
                ready = _ready([listener, *new, *known], min(left, 1.0))
                if listener in ready:
                    new.append(_Line(listener.accept()[0]))
                for line in [line for line in new if line in ready]:
                    self._greet(line, new)
                # One that has left was ended, and is made again.
                gone = [
                    rank for rank, line in self._peers.items() if line in ready and line.receive() is None
                ]
                for rank in gone:
                    self._peers.pop(rank).close()
        for line in new:
            line.close()
        for line in self._peers.values():
            line.send("go")

    def _greet(self, line: "_Line", new: "list[_Line]") -> None:
        """Takes a connection in, whose first line says which rank it is."""
        said = line.receive()
        if said == []:
            return
        new.remove(line)
        words = said[0].split() if said else []
        if len(words) == 3 and words[:2] == ["here", self.uid] and words[2].isdigit():
            rank = int(words[2])
            if 0 < rank < self.size:
                if rank in self._peers:
                    self._peers[rank].close()
                self._peers[rank] = line
                return
        line.close()

    def _listen(self, due: float) -> socket.socket:
        """On this pod's own address alone; it may take a moment until its name is known, or the port free."""
        while True:
            try:
                family, _, _, _, place = _resolve(self.address, self.port)
                listener = socket.socket(family, socket.SOCK_STREAM)
                try:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind(place)
                    listener.listen(self.size)
                    return listener
                except OSError:
                    listener.close()
                    raise
            except OSError:
                if time.monotonic() > due:
                    raise
            time.sleep(_RETRY_S)

    def _join(self, due: float) -> None:
        """As another pod: tells the first that this one is there, and waits for its word."""
        why = ""
        # The first one's time began at another moment; it is the one to say that it is over.
        late = due + 2 * _LAST_WORD_S
        while time.monotonic() < late:
            try:
                with_first = socket.create_connection((self.address, self.port), 5.0)
            except OSError as error:
                why = str(error)
                time.sleep(_RETRY_S)
                continue
            line = _Line(with_first)
            line.send(f"here {self.uid} {self.rank}")
            said = []  # type: list[str] | None
            while said == []:
                readable = _ready([line], late - time.monotonic())
                said = line.receive() if readable else None
            if said and said[0] == "go":
                self._peers[0] = line
                return
            line.close()
            if said and said[0].startswith("missing "):
                raise NotTogether(_missing_text(said[0][len("missing ") :]))
            why = "it closed the connection" if readable else "it said nothing"
            time.sleep(_RETRY_S)
        raise NotTogether(f"rank 0 isn't there: {self._place}: {why}")

    @property
    def _place(self) -> str:
        return f"{self.address} port {self.port}"

    # -- while the command runs -------------------------------------------------------------------------

    def _watch(self, end: "Any") -> None:
        """Reads what the others say until this pod is to end, or all has been said."""
        while self._peers and not self._over.is_set():
            ready = _ready([self._wake, *self._peers.values()])
            for rank, line in [(rank, line) for rank, line in self._peers.items() if line in ready]:
                said = line.receive()
                why = self._failure(rank, said)
                if why and not self._over.is_set():
                    self._pass_on(why)
                    self.ended_by = why
                    end()
                    return

    def _failure(self, rank: int, said: "list[str] | None") -> str:
        """What became of a rank by what its pod says, `RANK WHY`; empty where it is well."""
        for text in said or ():
            word, _, rest = text.partition(" ")
            if word == "stop":
                return rest
            if word == "end":
                self._peers.pop(rank).close()
                return "" if rest == "0" else f"{rank} exited with {rest}"
        if said is None:
            self._peers.pop(rank).close()
            return f"{rank} is lost"
        return ""

    def _pass_on(self, why: str) -> None:
        if not self.rank:
            for line in list(self._peers.values()):
                line.send("stop " + why)


class _Line:
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


def _ready(sources: "list[Any]", within_s: "float | None" = None) -> "list[Any]":
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


def _resolve(address: str, port: int) -> "Any":
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]


def _missing_text(ranks: str) -> str:
    several = "," in ranks
    return "rank{} {} {} there".format(
        "s" if several else "", ranks.replace(",", ", "), "aren't" if several else "isn't"
    )


def of_environment() -> "tuple[Rank, float]":
    """This pod's place, and how many seconds it may take to meet.

    Raises:
        ValueError: the environment doesn't say it as gpuyard does.
    """
    size, address, port, within_s = os.environ["GPUYARD_GANG"].split()
    rank = os.environ.get("GPUYARD_GANG_RANK", "")
    return Rank(int(rank), int(size), address, int(port), os.environ.get("GPUYARD_GANG_UID", "")), float(
        within_s
    )
