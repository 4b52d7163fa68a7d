"""A service as the model of `autoscaling.latency` has it, event by event: a queue for each replica."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator

from gpuyard.autoscaling.load import LoadSample, ServiceLoad

LOOK_S, WINDOW_S = 5.0, 60.0


class ServiceTimes:
    """Lognormal ones, with this mean and coefficient of variation."""

    def __init__(self, mean_s: float, variation: float) -> None:
        self.deviation = math.sqrt(math.log(1 + variation**2))
        self.location = math.log(mean_s) - self.deviation**2 / 2

    @property
    def p99_s(self) -> float:
        return math.exp(self.location + 2.3263 * self.deviation)

    def draw(self, rng: random.Random) -> float:
        return rng.lognormvariate(self.location, self.deviation)


def simulate(
    rng: random.Random, rate: float, times: ServiceTimes, replicas: int, seconds: float
) -> Iterator[tuple[float, float]]:
    """When each request came, and when its answer was whole, in the order in which they came.

    They come at random; each goes to the replica with the fewest, which answers one after the other.
    """
    waiting: list[deque[float]] = [deque() for _ in range(replicas)]
    now_s = rng.expovariate(rate)
    while now_s < seconds:
        for queue in waiting:
            while queue and queue[0] <= now_s:
                queue.popleft()
        least = min(len(queue) for queue in waiting)
        queue = rng.choice([one for one in waiting if len(one) == least])
        end_s = (queue[-1] if queue else now_s) + times.draw(rng)
        queue.append(end_s)
        yield now_s, end_s
        now_s += rng.expovariate(rate)


def watched(requests: list[tuple[float, float]], replicas: int, seconds: float) -> list[LoadSample]:
    """What a proxy that is looked at every five seconds tells of them."""
    looks, ends = [], sorted((end_s, end_s - came_s) for came_s, end_s in requests)
    open_: list[float] = []
    coming, answered, at_s = iter(requests), 0, LOOK_S
    upcoming = next(coming, None)
    while at_s <= seconds:
        while upcoming is not None and upcoming[0] <= at_s:
            heapq.heappush(open_, upcoming[1])
            upcoming = next(coming, None)
        while open_ and open_[0] <= at_s:
            heapq.heappop(open_)
            answered += 1
        taken = sorted(took for end_s, took in ends if at_s - WINDOW_S < end_s <= at_s)
        load = ServiceLoad(
            in_flight=len(open_), answered=answered, p50_s=quantile(taken, 0.5), p99_s=quantile(taken, 0.99)
        )
        looks.append(LoadSample(at_s, load, replicas))
        at_s += LOOK_S
    return looks


def quantile(ordered: list[float], part: float) -> float | None:
    """That of values in their order; None of none."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None


def p99_s(rng: random.Random, rate: float, times: ServiceTimes, replicas: int, seconds: float) -> float:
    """Of all requests of such a simulation."""
    took = sorted(end - came for came, end in simulate(rng, rate, times, replicas, seconds))
    return quantile(took, 0.99) or 0.0
