from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from gpuyard.local.service_proxy.balancer import Balancer
from gpuyard.local.service_proxy.endpoints import ServiceReplica

_ALL = [ServiceReplica(name, "127.0.0.1", 41000 + number) for number, name in enumerate("abcde")]


def test_replicas_with_as_many_requests_take_turns() -> None:
    balancer = Balancer(1.0)
    balancer.set_ready(_ALL[:3])
    assert [balancer.choose(0.0) for _ in range(6)] == _ALL[:3] * 2


def test_a_replica_that_refused_is_left_out_for_a_moment() -> None:
    balancer = Balancer(1.0)
    balancer.set_ready(_ALL[:1])
    balancer.note_refusal(_ALL[0], 5.0)
    assert balancer.choose(5.5) is None
    assert balancer.next_return(5.5) == 6.0
    assert balancer.choose(6.0) == _ALL[0]


def test_a_replica_that_comes_back_starts_anew() -> None:
    balancer = Balancer(1.0)
    balancer.set_ready(_ALL[:1])
    balancer.note_refusal(_ALL[0], 5.0)
    balancer.set_ready([])
    assert balancer.next_return(5.5) is None
    balancer.set_ready(_ALL[:1])
    assert balancer.choose(5.5) == _ALL[0]


@given(st.lists(st.sampled_from(_ALL), min_size=1, unique=True), st.integers(0, 40))
def test_requests_are_spread_evenly(ready: list[ServiceReplica], requests: int) -> None:
    balancer = Balancer(1.0)
    balancer.set_ready(ready)
    for _ in range(requests):
        chosen = balancer.choose(0.0)
        assert chosen is not None
        balancer.begin(chosen)
    counts = balancer.in_flight.values()
    assert max(counts) - min(counts) <= 1


class Balancing(RuleBasedStateMachine):
    """Whatever becomes ready, leaves or refuses: counts are right, and only who is ready is chosen."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.balancer = Balancer(1.0)
        self.ready: set[ServiceReplica] = set()
        self.counts: Counter[ServiceReplica] = Counter()
        self.now = 0.0

    @rule(ready=st.sets(st.sampled_from(_ALL)))
    def set_ready(self, ready: set[ServiceReplica]) -> None:
        self.balancer.set_ready(ready)
        self.ready = ready

    @rule(target=requests)
    def begin(self) -> object:
        chosen = self.balancer.choose(self.now)
        if chosen is None:
            return multiple()
        assert chosen in self.ready
        self.balancer.begin(chosen)
        self.counts[chosen] += 1
        return chosen

    @rule(replica=consumes(requests))
    def end(self, replica: ServiceReplica) -> None:
        self.balancer.end(replica)
        self.counts[replica] -= 1

    @rule(replica=st.sampled_from(_ALL))
    def refuse(self, replica: ServiceReplica) -> None:
        self.balancer.note_refusal(replica, self.now)

    @rule()
    def wait(self) -> None:
        self.now += 1.0
        assert (self.balancer.choose(self.now) is None) is (not self.ready)

    @invariant()
    def counts_are_right(self) -> None:
        assert {one: count for one, count in self.balancer.in_flight.items() if count} == +self.counts


TestBalancing = Balancing.TestCase
