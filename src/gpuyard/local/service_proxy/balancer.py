"""Which replica gets the next request: the one with the fewest in flight (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpuyard.local.service_proxy.endpoints import ServiceReplica


class Balancer:
    """Counts requests in flight by replica, those of replicas that have left included.

    Args:
        refused_s: for how long a replica that refused a connection is left out.
    """

    def __init__(self, refused_s: float) -> None:
        self._refused_s = refused_s
        self._ready: list[ServiceReplica] = []
        self._in_flight: dict[ServiceReplica, int] = {}
        self._out_until: dict[ServiceReplica, float] = {}

    @property
    def ready(self) -> list[ServiceReplica]:
        """Those that get new requests, the one that was chosen last at the end."""
        return self._ready

    @property
    def in_flight(self) -> Mapping[ServiceReplica, int]:
        """Requests by replica, of those that have or may get any."""
        return {**dict.fromkeys(self._ready, 0), **self._in_flight}

    def set_ready(self, replicas: Iterable[ServiceReplica]) -> None:
        """From now on these get new requests, and no others."""
        replicas = set(replicas)
        stay = [replica for replica in self._ready if replica in replicas]
        self._ready = sorted(replicas.difference(stay)) + stay
        self._out_until = {one: until for one, until in self._out_until.items() if one in replicas}

    def choose(self, now: float) -> ServiceReplica | None:
        """The ready one with the fewest requests; of several the one that wasn't chosen for longest.

        None where no replica is ready, or each of them refused a connection a moment ago.
        """
        chosen, fewest = None, 0
        for replica in self._ready:
            if self._out_until and now < self._out_until.get(replica, now):
                continue
            count = self._in_flight.get(replica, 0)
            if chosen is None or count < fewest:
                chosen, fewest = replica, count
                if not count:
                    break
        if chosen is not None:
            self._ready.remove(chosen)
            self._ready.append(chosen)
        return chosen

    def begin(self, replica: ServiceReplica) -> None:
        """It has one more."""
        self._in_flight[replica] = self._in_flight.get(replica, 0) + 1

    def end(self, replica: ServiceReplica) -> None:
        """It has one less."""
        left = self._in_flight[replica] - 1
        if left:
            self._in_flight[replica] = left
        else:
            del self._in_flight[replica]

    def note_refusal(self, replica: ServiceReplica, now: float) -> None:
        """It refused a connection: others are tried first, for a moment."""
        if replica in self._ready:
            self._out_until[replica] = now + self._refused_s

    def next_return(self, now: float) -> float | None:
        """When one that was left out may be tried again; None where none is ready at all."""
        if not self._ready:
            return None
        return min(self._out_until.get(replica, now) for replica in self._ready)
