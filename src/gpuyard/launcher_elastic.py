"""The pods of an elastic run among themselves: they come and go, and the command starts again with the rest.

GPUYARD_GANG begins with `2..4`. It starts once the least number is there and no other has come for a moment.
The first pod (rank 0) goes on listening. When another comes, is stopped or is lost, and enough are left, the
commands of all are ended as by a stop, so that they can save, and start again: PET_NNODES and PET_NODE_RANK,
or WORLD_SIZE and RANK, are those of the pods that are there now, without gaps. Too few, or the end of the
first, end all, as in any run of several pods. What is said besides (see launcher_gang.py):

    others → first   `leaving` when this pod is stopped
    first → others   `go COUNT PLACE`, at each start; `again WHY` when the command is to end for the next one

Standard library only, Python 3.6 and later, as launcher.py, beside which this file lies.
"""

import os
import signal
import time

if __package__:
    from gpuyard.launcher_gang import AGAIN, EXIT_WITH_ANOTHER, KNOWN_S, Rank
else:
    from launcher_gang import AGAIN, EXIT_WITH_ANOTHER, KNOWN_S, Rank  # type: ignore[import-not-found, no-redef]

if False:  # typing would cost every run's start
    from typing import Any

    from gpuyard.launcher_lines import Line

#: Pods that start together come one after another.
_SETTLE_S = 3.0
_PLACE = ("PET_NODE_RANK", "WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK")


class ElasticRank(Rank):
    """This pod's place among those that are there.

    Attributes:
        count: how many they are.
        place: of this one among them.
    """

    def __init__(self, rank: int, size: int, address: str, port: int, uid: str, least: int) -> None:
        """Of `size` pods `least` are enough."""
        super().__init__(rank, size, address, port, uid)
        self.least = least
        self.count = self.place = 0
        #: The ranks that have started together; this and what follows is the first one's, but for `_leaves`.
        self._members = set()  # type: set[int]
        self._leaving = set()  # type: set[int]
        self._again = ""
        self._quiet_at = time.monotonic() + _SETTLE_S
        self._leaves = self._has_said_so = self._has_said_end = False
        self._unread = []  # type: list[str]
        # What else is there already is the run's own.
        self._wiring = {name for name in _PLACE if name not in os.environ}
        if os.environ.get("PET_NNODES") == f"{least}:{size}":
            self._wiring.add("PET_NNODES")

    @property
    def why(self) -> str:
        """Why this pod ends, where it isn't for its own command."""
        return "it was stopped, and the others go on" if self.over == "left" else super().why

    @property
    def is_over(self) -> bool:
        """Whether its command had ended before it was to end."""
        return self.over != "left" and super().is_over

    @property
    def is_replaceable(self) -> bool:
        """Whether this pod's end is not the run's."""
        return self.rank > 0 or super().is_replaceable

    def begin(self, say: "Any") -> None:
        """Tells the command how many pods there are, and which of them this is."""
        wiring = {"PET_NNODES": self.count, "PET_NODE_RANK": self.place}
        if os.environ.get("PET_NPROC_PER_NODE") == "1":
            wiring.update(WORLD_SIZE=self.count, RANK=self.place, LOCAL_WORLD_SIZE=1, LOCAL_RANK=0)
        os.environ.update({name: str(value) for name, value in wiring.items() if name in self._wiring})
        if not self.rank:
            since = f" again, since rank {self._again}" if self._again else ""
            say(f"this run starts{since}, with {self.count} of at most {self.size} pods")
        self._again = ""

    def leave(self) -> None:
        """Called when this pod is stopped."""
        self._leaves = True
        os.write(self._woken, b".")

    def watch(self, end: "Any", stops: "dict[int, float]") -> None:
        """From now on calls `end` once, from a thread, when all are to end."""
        self.ended_by = self.over = ""
        self._has_said_so = self._has_said_end = False
        self._ends = {}
        super().watch(end, stops)

    def end(self, code: int) -> "int | None":
        """As of any gang; None where the command is to start again."""
        result = super().end(code)
        if self.over == AGAIN:
            return None
        if self.rank and self._leaves:
            return EXIT_WITH_ANOTHER
        if not self.rank and (self.over == "well" or self._leaves):
            # Its end is the Job's, which deletes those that still run.
            time.sleep(KNOWN_S)
        return code or 128 + signal.SIGTERM if self._leaves else result

    # -- before each start ------------------------------------------------------------------------------

    def _waits_for_more(self) -> bool:
        is_whole = len(self._peers) == self.size - 1
        return super()._waits_for_more() or not (is_whole or time.monotonic() >= self._quiet_at)

    def _greet(self, line: "Line") -> int:
        rank = super()._greet(line)
        if rank:
            self._quiet_at = time.monotonic() + _SETTLE_S
        return rank

    def _go(self) -> None:
        ranks = [0, *sorted(self._peers)]
        self._members, self._leaving = set(ranks), set()
        for place, rank in enumerate(ranks):
            if rank:
                self._peers[rank].send(f"go {len(ranks)} {place}")
        self.count, self.place = len(ranks), 0

    def _join(self, due: float) -> None:
        if 0 not in self._peers or not self._may_go(self._peers.pop(0), None):
            super()._join(due)

    def _receive(self, line: "Line", within_s: "float | None") -> "list[str] | None":
        """Who is connected waits without a limit: the first one may give the others time to save."""
        said, self._unread = self._unread, []
        return said or super()._receive(line, None)

    def _hear_go(self, said: str) -> None:
        self.count, self.place = map(int, said.split())

    # -- while the command runs, as the first -----------------------------------------------------------

    def _running(self) -> "set[int]":
        return super()._running() & self._members

    def _sources(self) -> "list[Any]":
        return [self._listener, *self._new]

    def _left_s(self) -> "float | None":
        return max(self._quiet_at - time.monotonic(), 0.0) if self._newcomers() else None

    def _newcomers(self) -> "list[int]":
        """Who waits to be taken in, as long as that is possible."""
        may_come = not (self._again or self._first_failed or self._is_through())
        return sorted(set(self._peers) - self._members) if may_come else []

    def _is_through(self) -> bool:
        """Whether the work is done, as far as one says."""
        return (0, "alone") in self._ends.values()

    def _look_at(self, ready: "list[Any]") -> None:
        for rank in self._take_in(ready):
            if self._first_failed:  # it is for the next attempt
                self._peers.pop(rank).close()
            elif rank in self._members:  # its pod has been replaced, and nobody has said so
                self._forget(rank)
                self._start_again(f"{rank} is lost")
        came = self._newcomers()
        if came and time.monotonic() >= self._quiet_at:
            self._start_again(f"{came[0]} has come")

    def _hear_own(self) -> None:
        if self._leaves:
            self._stop("0 is stopped")
        super()._hear_own()

    def _hear(self, rank: int, text: str) -> None:
        if text != "leaving":
            super()._hear(rank, text)
        elif self._can_leave(rank):
            self._leaving.add(rank)
            self._start_again(f"{rank} is stopped")
        else:
            self._stop(f"{rank} is stopped")

    def _hear_end(self, rank: int) -> None:
        if rank in self._leaving:
            line = self._peers.pop(rank)
            line.send("over left")
            line.close()
            self._forget(rank)
        elif not self._again:  # else it may be for the end of another
            super()._hear_end(rank)

    def _lose(self, rank: int) -> None:
        can_leave, runs = self._can_leave(rank), rank in self._running()
        self._peers.pop(rank).close()
        self._forget(rank)
        if runs and can_leave:
            self._start_again(f"{rank} is lost")
        elif runs:
            self._stop(f"{rank} is lost")

    def _forget(self, rank: int) -> None:
        self._members.discard(rank)
        self._leaving.discard(rank)
        self._ends.pop(rank, None)

    def _can_leave(self, rank: int) -> bool:
        return len({0, *self._peers} - self._leaving - {rank}) >= self.least

    def _start_again(self, why: str) -> None:
        """Has everybody's command end for the next start; the first reason counts."""
        if self._again or self._first_failed:
            return
        if self._is_through():  # who has ended can't start again with the rest
            self._stop(why)
            return
        self._again = why
        for rank in self._members - self._leaving - {0}:
            self._peers[rank].send("again " + why)
        self._be_stopped(why)

    def _tell_over(self) -> str:
        return AGAIN if self._again and not self._first_failed else super()._tell_over()

    # -- while the command runs, as another -------------------------------------------------------------

    def _tell_first(self, first: "Line") -> str:
        if self._leaves and not self._has_said_so:
            first.send("leaving")
            self._has_said_so = True
        if self.rank in self._ends and not self._has_said_end:
            super()._tell_first(first)
            self._has_said_end = True
        return self._over_for_now()

    def _hear_first(self, text: str, unread: "list[str]") -> str:
        word, _, why = text.partition(" ")
        if word == "again":
            self._again = why
            self._be_stopped(why)
        over = super()._hear_first(text, unread) or self._over_for_now()
        if over == AGAIN:
            self._unread = unread
        return over

    def _over_for_now(self) -> str:
        return AGAIN if self._again and self._has_said_end and not self._leaves else ""
