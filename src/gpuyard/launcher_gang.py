"""The pods of one run among themselves: they start together, and when one fails all end.

The launcher of the first pod (rank 0) listens, those of the others connect and stay connected:

    others → first   `here UID RANK`, then `end CODE HOW` when its command has ended: by itself, since its pod
                     was stopped, or since this pod told it (`alone`, `stopped`, `told`)
    first → others   `go` once all are there, or `missing RANKS` when the time for that is over;
                     then `stop RANK WHY` when one has failed or its connection broke;
                     at last `over WHO`, when the commands of all have ended: `well`, or the rank whose exit
                     code is the run's, or `lost` when that one can't say it any more

So a pod that fails, or is lost with its node, doesn't leave the others in a collective operation that never
ends. Nobody exits before all have ended, since a Job that fails deletes the pods that still run, and with
them what they printed; the pod that fails it comes last, when the others are known to have ended. They exit
with 193, which no Job of gpuyard counts as a failure. With 195 a run ends whose pods weren't all there in
time. UID is the Job's: who isn't of the run doesn't know it.

In an elastic run (GPUYARD_GANG begins with `2..4`) the first goes on listening. It starts with the least
number, others join later, and whoever is stopped or lost ends nobody while so many are left.

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
EXIT_MISSING = 195
EXIT_USAGE = 64
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_RETRY_S = 0.3
#: What a message may have, its end of line included.
_MAX_LINE = 4096
#: A connection counts as broken when the other side's machine has said nothing for 10 + 4 × 5 s.
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))
#: How long a pod that waits for the others goes on asking after the first one's time is over.
_LAST_WORD_S = 5.0
#: How long it takes until a cluster knows that pods have ended: kubelets look once a second.
_KNOWN_S = 2.0


class NotTogether(Exception):
    """Why the pods of the run didn't start together.

    Attributes:
        code: with which this pod ends.
    """

    def __init__(self, why: str, code: int = EXIT_MISSING) -> None:
        super().__init__(why)
        self.code = code


def stay_together(stay: "Any", run: "Any", say: "Any") -> int:
    """Runs the command by the launcher's `stay` once all pods of this run are there, and no longer than until
    another has failed; gives the exit code when all have ended.

    Args:
        stay: of the launcher.
        run: becomes the command.
        say: prints a line of ours.
    """
    # The first process of a container has no default for them.
    _exit_when_stopped(lambda number: 128 + number)
    try:
        rank, within_s = of_environment()
        rank.meet(within_s)
    except NotTogether as reason:
        say("this run's pods didn't start together: " + str(reason))
        return reason.code
    except (KeyError, ValueError) as error:
        say("GPUYARD_GANG isn't as gpuyard sets it: " + str(error))
        return EXIT_USAGE
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    own = int(stay(run, rank))
    # `stay` blocks signals. What had come before is done with.
    _exit_when_stopped(lambda number: EXIT_WITH_ANOTHER if rank.is_replaceable else own or 128 + number)
    while signal.sigtimedwait(STOPPING, 0):
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    code = rank.end(own)
    if code == EXIT_WITH_ANOTHER and own != code:
        say(
            "this pod ends since "
            + rank.why
            + (f"; its own command exited with {own}" if rank.is_over else "")
        )
    return code


class Rank:
    """This pod's place among those of its run.

    Attributes:
        ended_by: why this pod is to end, once another has failed; empty before.
        over: whose end is the run's, by its rank and why, when all have ended.
    """

    def __init__(
        self, rank: int, size: int, address: str, port: int, uid: str, least: "int | None" = None
    ) -> None:
        """`address` is the first pod's, a name or a number; of `size` pods `least` are enough to start."""
        self.rank, self.size, self.uid = rank, size, uid
        self.least = size if least is None else least
        self.address, self.port = address, port
        self.ended_by = self.over = ""
        self._peers = {}  # type: dict[int, _Line]
        self._new = []  # type: list[_Line]
        self._listener = None  # type: socket.socket | None
        self._ends = {}  # type: dict[int, tuple[int, str]]
        self._first_failed = ""
        self._stops = {}  # type: dict[int, float]
        self._end = None  # type: Any
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._wake, self._woken = os.pipe()

    @property
    def why(self) -> str:
        """Why this pod ends, where it isn't for its own command."""
        if self.over == "left":
            return "it was stopped, and the others go on"
        return "rank " + (self.ended_by or self.over.replace("lost ", ""))

    @property
    def is_over(self) -> bool:
        """Whether its command had ended before it was to end."""
        return not self.ended_by and self.over != "left"

    @property
    def is_replaceable(self) -> bool:
        """Whether this pod's end is not the run's."""
        return bool(self.ended_by) or (self.is_elastic and self.rank > 0)

    @property
    def is_elastic(self) -> bool:
        """Whether pods may come and go."""
        return self.least < self.size

    def meet(self, within_s: float) -> None:
        """Returns when all pods are there, or as many as are needed.

        Raises:
            NotTogether: they aren't within that time.
        """
        due = time.monotonic() + within_s
        if self.rank:
            self._join(due)
        else:
            self._gather(due)

    def watch(self, end: "Any", stops: "dict[int, float]") -> None:
        """From now on calls `end` once, from a thread, when another pod has failed or is lost.

        Args:
            end: ends the command.
            stops: the signals that this pod was sent, as they come.
        """
        self._end, self._stops = end, stops
        self._watcher.start()

    def end(self, code: int) -> int:
        """Says that the command of this pod has ended with this code, waits until those of all have, and
        gives the code to exit with."""
        how = "told" if self.ended_by else "stopped" if set(STOPPING).intersection(self._stops) else "alone"
        self._ends[self.rank] = code, how
        os.write(self._woken, b".")
        self._watcher.join()
        who = self.over.partition(" ")[0]
        if who == "well":
            # Its end is that of an elastic run's Job.
            time.sleep(_KNOWN_S if self.is_elastic and not self.rank else 0)
            return code
        if who == str(self.rank):
            time.sleep(_KNOWN_S)
            # Who was stopped hasn't done its work, whatever it says.
            return code or 128 + signal.SIGTERM
        return code if who == "lost" and code and how == "alone" else EXIT_WITH_ANOTHER

    # -- before the start -------------------------------------------------------------------------------

    def _gather(self, due: float) -> None:
        """As the first pod: waits for the others' word."""
        try:
            self._listener = self._listen(due)
        except OSError as error:
            raise NotTogether(f"can't wait for the others at {self._place}: {error}") from error
        while len(self._peers) < self.least - 1:
            left = due - time.monotonic()
            if left <= 0:
                missing = sorted(set(range(1, self.least)) - set(self._peers))
                text = ",".join(map(str, missing))
                for line in self._peers.values():
                    line.send("missing " + text)
                time.sleep(_KNOWN_S)
                raise NotTogether(_missing_text(text))
            known = list(self._peers.values())
            ready = _ready([self._listener, *self._new, *known], min(left, 1.0))
            self._take_in(ready)
            # One that has left was ended, and is made again.
            gone = [rank for rank, line in self._peers.items() if line in ready and line.receive() is None]
            for rank in gone:
                self._peers.pop(rank).close()
        for line in self._peers.values():
            line.send("go")
        if not self.is_elastic:
            while self._new:
                self._new.pop().close()
            self._listener.close()
            self._listener = None

    def _take_in(self, ready: "list[Any]") -> "list[int]":
        """Takes in those who connect, and gives the ranks that have said who they are."""
        came = []
        if self._listener and self._listener in ready:
            self._new.append(_Line(self._listener.accept()[0]))
        for line in [line for line in self._new if line in ready]:
            rank = self._greet(line)
            if rank:
                came.append(rank)
        return came

    def _greet(self, line: "_Line") -> int:
        """Takes a connection in, whose first line says which rank it is; 0 for none."""
        said = line.receive()
        if said == []:
            return 0
        self._new.remove(line)
        words = said[0].split() if said else []
        if len(words) == 3 and words[:2] == ["here", self.uid] and words[2].isdigit():
            rank = int(words[2])
            if 0 < rank < self.size:
                if rank in self._peers:
                    self._peers[rank].close()
                self._peers[rank] = line
                return rank
        line.close()
        return 0

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
                # The first one's end is the run's.
                raise NotTogether(_missing_text(said[0][len("missing ") :]), EXIT_WITH_ANOTHER)
            why = "it closed the connection" if readable else "it said nothing"
            time.sleep(_RETRY_S)
        raise NotTogether(f"rank 0 isn't there: {self._place}: {why}")

    @property
    def _place(self) -> str:
        return f"{self.address} port {self.port}"

    # -- while the command runs -------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until the commands of all have ended: reads what the others say, and ends this one's when another
        failed."""
        try:
            self.over = self._follow() if self.rank else self._lead()
        finally:
            for line in self._peers.values():
                line.close()

    def _lead(self) -> str:
        """As the first: passes on who failed, and says when all have ended."""
        while not (0 in self._ends and set(self._peers) <= set(self._ends)):
            sources = [self._listener, *self._new] if self._listener else []
            ready = _ready([self._wake, *sources, *self._peers.values()])
            for rank in self._take_in(ready):
                self._ends.pop(rank, None)
                if self._first_failed:  # it is for the next attempt
                    self._peers.pop(rank).close()
                else:
                    self._peers[rank].send("go")
            if self._wake in ready:
                os.read(self._wake, 1)
                self._hear_end(0)
            for rank, line in [(rank, line) for rank, line in self._peers.items() if line in ready]:
                said = line.receive()
                for text in said or ():
                    word, code, how = (text + " 1 alone").split()[:3]
                    if word == "end" and code.isdigit():
                        self._ends[rank] = int(code), how
                        self._hear_end(rank)
                if said is None:
                    self._lose(rank)
        over = self._whose_end()
        for line in self._peers.values():
            line.send("over " + over)
        return over

    def _hear_end(self, rank: int) -> None:
        """The command of a rank has ended; some ends are everybody's."""
        code, how = self._ends[rank]
        if how == "stopped" and self._can_leave(rank):
            line = self._peers.pop(rank)
            line.send("over left")
            line.close()
            del self._ends[rank]
        elif code and how != "told":
            self._stop(f"{rank} exited with {code}")

    def _lose(self, rank: int) -> None:
        can_leave = self._can_leave(rank)
        self._peers.pop(rank).close()
        self._ends.pop(rank, None)
        if not can_leave:
            self._stop(f"{rank} is lost")

    def _can_leave(self, rank: int) -> bool:
        return self.is_elastic and bool(rank) and rank in self._peers and len(self._peers) >= self.least

    def _stop(self, why: str) -> None:
        """Has everybody end; the first reason counts."""
        if self._first_failed:
            return
        self._first_failed = why
        for line in self._peers.values():
            line.send("stop " + why)
        self._be_stopped(why)

    def _be_stopped(self, why: str) -> None:
        if self.rank not in self._ends and not self.ended_by:
            self.ended_by = why
            # It returns when the grace is over.
            threading.Thread(target=self._end, daemon=True).start()

    def _whose_end(self) -> str:
        """What `over` says. A rank that failed by itself counts before those that were stopped."""
        rank = self._first_failed.partition(" ")[0]
        if rank and int(rank) not in self._ends:
            return "lost " + self._first_failed
        stopped = sorted(rank for rank, (_, how) in self._ends.items() if how == "stopped")
        if rank and (self._ends[int(rank)][1] == "alone" or not stopped):
            return self._first_failed
        return f"{stopped[0]} was stopped" if stopped else "well"

    def _follow(self) -> str:
        """As another: tells the first, and hears from it."""
        first = self._peers[0]
        while True:
            ready = _ready([self._wake, first])
            if self._wake in ready:
                os.read(self._wake, 1)
                first.send("end {} {}".format(*self._ends[self.rank]))
            said = first.receive() if first in ready else []
            for text in said or ():
                word, _, rest = text.partition(" ")
                if word == "stop":
                    self._be_stopped(rest)
                if word == "over":
                    return rest
            if said is None:
                self._be_stopped("0 is lost")
                return "lost 0 is lost"


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
    sizes, address, port, within_s = os.environ["GPUYARD_GANG"].split()
    least, _, size = sizes.rpartition("..")
    rank, uid = int(os.environ.get("GPUYARD_GANG_RANK", "")), os.environ.get("GPUYARD_GANG_UID", "")
    return Rank(rank, int(size), address, int(port), uid, int(least or size)), float(within_s)


def _exit_when_stopped(code_for: "Any") -> None:
    for number in STOPPING:
        signal.signal(number, lambda number, _: os._exit(code_for(number)))
