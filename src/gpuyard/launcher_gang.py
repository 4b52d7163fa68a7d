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

In an elastic run (GPUYARD_GANG begins with `2..4`) pods come and go: see launcher_elastic.py.

Standard library only, Python 3.6 and later, as launcher.py, beside which this file lies.
"""

import os
import signal
import socket
import threading
import time

if __package__:
    from gpuyard.launcher_lines import Line, ready_of
else:
    from launcher_lines import Line, ready_of  # type: ignore[import-not-found, no-redef]

if False:  # typing would cost every run's start
    from typing import Any

EXIT_WITH_ANOTHER = 193
EXIT_MISSING = 195
EXIT_USAGE = 64
#: The end of the command where it is to start again.
AGAIN = "again"
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_RETRY_S = 0.3
_STRANGERS = 16
#: How long a pod that waits for the others goes on asking after the first one's time is over.
_LAST_WORD_S = 5.0
#: How long it takes until a cluster knows that pods have ended: kubelets look once a second.
KNOWN_S = 2.0


class NotTogether(Exception):
    """Why the pods of the run didn't start together.

    Attributes:
        code: with which this pod ends.
    """

    def __init__(self, why: str, code: int = EXIT_MISSING) -> None:
        super().__init__(why)
        self.code = code


def stay_together(make: "Any", stay: "Any", say: "Any") -> int:
    """Runs the command by the launcher's `stay` once all pods of this run are there, and no longer than until
    another has failed; gives the exit code when all have ended.

    Args:
        make: of a pod's place among the others, `Rank` or its like.
        stay: of the launcher, with the command.
        say: prints a line of ours.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        rank, within_s = of_environment(make)
    except (KeyError, ValueError) as error:
        say("GPUYARD_GANG isn't as gpuyard sets it: " + str(error))
        return EXIT_USAGE
    own, code = 0, None  # type: int, int | None

    def code_of(stop: int) -> int:
        return EXIT_WITH_ANOTHER if rank.is_replaceable else own or 128 + stop

    while code is None:
        # The first process of a container has no default for them.
        _exit_when_stopped(code_of)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            rank.meet(within_s)
        except NotTogether as reason:
            say("this run's pods didn't start together: " + str(reason))
            return reason.code
        rank.begin(say)
        own = int(stay(rank))
        # `stay` blocks signals. What had come before is done with.
        while signal.sigtimedwait(set(signal.Signals).difference(STOPPING), 0):
            pass
        while signal.sigtimedwait(STOPPING, 0):
            rank.leave()
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

    def __init__(self, rank: int, size: int, address: str, port: int, uid: str) -> None:
        """`address` is the first pod's, a name or a number."""
        self.rank, self.size, self.uid = rank, size, uid
        #: So many are enough to start.
        self.least = size
        self.address, self.port = address, port
        self.ended_by = self.over = ""
        self._peers = {}  # type: dict[int, Line]
        self._new = []  # type: list[Line]
        self._listener = None  # type: socket.socket | None
        self._ends = {}  # type: dict[int, tuple[int, str]]
        self._first_failed = ""
        self._stops = {}  # type: dict[int, float]
        self._end = None  # type: Any
        self._watcher = None  # type: Any
        self._wake, self._woken = os.pipe()

    @property
    def why(self) -> str:
        """Why this pod ends, where it isn't for its own command."""
        return "rank " + (self.ended_by or self.over.replace("lost ", ""))

    @property
    def is_over(self) -> bool:
        """Whether its command had ended before it was to end."""
        return not self.ended_by

    @property
    def is_replaceable(self) -> bool:
        """Whether this pod's end is not the run's."""
        return bool(self.ended_by)

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

    def begin(self, say: "Any") -> None:
        """Called before each start of the command."""

    def leave(self) -> None:
        """Called when this pod is stopped."""

    def watch(self, end: "Any", stops: "dict[int, float]") -> None:
        """From now on calls `end` once, from a thread, when another pod has failed or is lost.

        Args:
            end: ends the command.
            stops: the signals that this pod was sent, as they come.
        """
        self._end, self._stops = end, stops
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def end(self, code: int) -> "int | None":
        """Says that the command of this pod has ended with this code, waits until those of all have, and
        gives the code to exit with; None where it is to start again."""
        how = "told" if self.ended_by else "stopped" if set(STOPPING).intersection(self._stops) else "alone"
        self._ends[self.rank] = code, how
        os.write(self._woken, b".")
        self._watcher.join()
        who = self.over.partition(" ")[0]
        if who == "well":
            return code
        if who == str(self.rank):
            time.sleep(KNOWN_S)
            # Who was stopped hasn't done its work, whatever it says.
            return code or 128 + signal.SIGTERM
        return code if who == "lost" and code and how == "alone" else EXIT_WITH_ANOTHER

    # -- before the start -------------------------------------------------------------------------------

    def _gather(self, due: float) -> None:
        """As the first pod: waits for the others' word."""
        try:
            self._listener = self._listener or self._listen(due)
        except OSError as error:
            raise NotTogether(f"can't wait for the others at {self._place}: {error}") from error
        while self._waits_for_more():
            left = due - time.monotonic()
            if left <= 0 and len(self._peers) < self.least - 1:
                missing = sorted(set(range(1, self.least)) - set(self._peers))
                text = ",".join(map(str, missing))
                for line in self._peers.values():
                    line.send("missing " + text)
                time.sleep(KNOWN_S)
                raise NotTogether(_missing_text(text))
            known = list(self._peers.values())
            ready = ready_of([self._listener, *self._new, *known], min(max(left, 0.1), 1.0))
            self._take_in(ready)
            # One that has left was ended, and is made again.
            gone = [rank for rank, line in self._peers.items() if line in ready and line.receive() is None]
            for rank in gone:
                self._peers.pop(rank).close()
        self._go()

    def _waits_for_more(self) -> bool:
        return len(self._peers) < self.least - 1

    def _go(self) -> None:
        for line in self._peers.values():
            line.send("go")
        while self._new:
            self._new.pop().close()
        if self._listener:
            self._listener.close()
            self._listener = None

    def _take_in(self, ready: "list[Any]") -> "list[int]":
        """Takes in those who connect, and gives the ranks that have said who they are."""
        came = []
        if self._listener and self._listener in ready:
            try:
                self._new.append(Line(self._listener.accept()[0]))
            except OSError:  # no file is free
                time.sleep(_RETRY_S)
            # Anybody may connect and say nothing.
            while len(self._new) > self.size + _STRANGERS:
                self._new.pop(0).close()
        for line in [line for line in self._new if line in ready]:
            rank = self._greet(line)
            if rank:
                came.append(rank)
        return came

    def _greet(self, line: "Line") -> int:
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
            line = Line(with_first)
            line.send(f"here {self.uid} {self.rank}")
            if self._may_go(line, late):
                return
            why = "it said nothing" if time.monotonic() >= late else "it closed the connection"
            time.sleep(_RETRY_S)
        raise NotTogether(f"rank 0 isn't there: {self._place}: {why}")

    def _may_go(self, line: "Line", late: "float | None") -> bool:
        """Waits for the first one's word, at most until then; False when none comes.

        Raises:
            NotTogether: its word is another.
        """
        said = []  # type: list[str] | None
        while said == []:
            said = self._receive(line, None if late is None else late - time.monotonic())
        word, _, rest = (said[0] if said else "").partition(" ")
        if said and word == "go":
            self._peers[0] = line
            self._hear_go(rest)
            return True
        line.close()
        if word == "missing":
            # The first one's end is the run's.
            raise NotTogether(_missing_text(rest), EXIT_WITH_ANOTHER)
        if word in ("over", "stop"):
            raise NotTogether("the others are through", EXIT_WITH_ANOTHER)
        return False

    def _receive(self, line: "Line", within_s: "float | None") -> "list[str] | None":
        return line.receive() if ready_of([line], within_s) else None

    def _hear_go(self, said: str) -> None:
        """What the first one says with `go`."""

    @property
    def _place(self) -> str:
        return f"{self.address} port {self.port}"

    # -- while the command runs -------------------------------------------------------------------------

    def _watch(self) -> None:
        """Until the commands of all have ended: reads what the others say, and ends this one's when another
        failed."""
        try:
            self.over = self._follow() if self.rank else self._lead()
        except (OSError, ValueError) as error:
            # A thread's end is noticed by nobody, and no other could end this pod's command.
            self.over = f"lost {self.rank} can't go on: {error}"
            self._be_stopped(self.over.partition(" ")[2])
        if self.over != AGAIN:
            for line in self._peers.values():
                line.close()

    def _lead(self) -> str:
        """As the first: passes on who failed, and says when all have ended."""
        while self._running():
            ready = ready_of([self._wake, *self._sources(), *self._peers.values()], self._left_s())
            self._look_at(ready)
            if self._wake in ready:
                os.read(self._wake, 1)
                self._hear_own()
            for rank, line in [(rank, line) for rank, line in self._peers.items() if line in ready]:
                said = line.receive()
                for text in said or ():
                    self._hear(rank, text)
                if said is None:
                    self._lose(rank)
        return self._tell_over()

    def _running(self) -> "set[int]":
        """The ranks whose commands haven't ended."""
        return {0, *self._peers}.difference(self._ends)

    def _sources(self) -> "list[Any]":
        """What is looked at besides."""
        return []

    def _left_s(self) -> "float | None":
        """When to look again though nobody says anything."""
        return None

    def _look_at(self, ready: "list[Any]") -> None:
        """Looks at what is ready of `_sources`."""

    def _hear_own(self) -> None:
        """Something has become of this pod's own command."""
        if 0 in self._ends:
            self._hear_end(0)

    def _hear(self, rank: int, text: str) -> None:
        """What another says."""
        word, code, how = (text + " 1 alone").split()[:3]
        if word == "end" and code.isdigit():
            self._ends[rank] = int(code), how
            self._hear_end(rank)

    def _hear_end(self, rank: int) -> None:
        """The command of a rank has ended; some ends are everybody's."""
        code, how = self._ends[rank]
        if code and how != "told":
            self._stop(f"{rank} exited with {code}")

    def _lose(self, rank: int) -> None:
        self._peers.pop(rank).close()
        self._ends.pop(rank, None)
        self._stop(f"{rank} is lost")

    def _tell_over(self) -> str:
        over = self._whose_end()
        for line in self._peers.values():
            line.send("over " + over)
        return over

    def _stop(self, why: str) -> None:
        """Has everybody end; the first reason counts."""
        if self._first_failed:
            return
        self._first_failed = why
        for line in self._peers.values():
            line.send("stop " + why)
        self._be_stopped(why)

    def _be_stopped(self, why: str) -> None:
        is_told = bool(self.ended_by)
        if is_told or self.rank not in self._ends:
            self.ended_by = why
        if self.ended_by and not is_told:
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
        over = ""
        while not over:
            ready = ready_of([self._wake, first])
            if self._wake in ready:
                os.read(self._wake, 1)
                over = self._tell_first(first)
            said = first.receive() if first in ready and not over else []
            for number, text in enumerate(said or ()):
                over = over or self._hear_first(text, said[number + 1 :] if said else [])
            if said is None:
                self._be_stopped("0 is lost")
                return "lost 0 is lost"
        return over

    def _tell_first(self, first: "Line") -> str:
        """Something has become of this pod's own command. Gives what is over by it, else nothing."""
        first.send("end {} {}".format(*self._ends[self.rank]))
        return ""

    def _hear_first(self, text: str, unread: "list[str]") -> str:
        """What the first one says. Gives what is over by it, else nothing."""
        word, _, rest = text.partition(" ")
        if word == "stop":
            self._be_stopped(rest)
        return rest if word == "over" else ""


def _resolve(address: str, port: int) -> "Any":
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]


def _missing_text(ranks: str) -> str:
    several = "," in ranks
    return "rank{} {} {} there".format(
        "s" if several else "", ranks.replace(",", ", "), "aren't" if several else "isn't"
    )


def of_environment(make: "Any") -> "tuple[Any, float]":
    """This pod's place, and how many seconds it may take to meet.

    Raises:
        ValueError: the environment doesn't say it as gpuyard does.
    """
    sizes, address, port, within_s = os.environ["GPUYARD_GANG"].split()
    numbers = [int(number) for number in sizes.split("..")]
    rank, uid = int(os.environ.get("GPUYARD_GANG_RANK", "")), os.environ.get("GPUYARD_GANG_UID", "")
    return make(rank, numbers[-1], address, int(port), uid, *numbers[:-1]), float(within_s)


def _exit_when_stopped(code_for: "Any") -> None:
    for number in STOPPING:
        signal.signal(number, lambda number, _: os._exit(code_for(number)))
