"""Which GPUs to give to a container, out of those that are free (pure).

Best are GPUs with many NVLinks among them; among equals, those whose loss costs the remaining free GPUs the
fewest NVLinks, so that a small request goes to what is left of a broken island or to the smallest
island that fits, and whole islands stay whole; then the same two on PCIe; then the lowest indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import comb
from typing import TypeAlias

from gpuyard.devices.inventory import Inventory

#: Every set is tried up to so many (all choices out of 9 free GPUs); above, sets are grown and improved.
_MOST_SETS = 126

#: NVLinks inside the set, NVLinks among what is left, the same on PCIe: compared in this order.
_Worth: TypeAlias = tuple[int, int, int, int]
_Table: TypeAlias = Sequence[Sequence[int]]


def prefer(inventory: Inventory, available: Iterable[str], must: Iterable[str], size: int) -> list[str]:
    """The best `size` GPUs of `available` that contain all of `must`, in the order of their index.

    It is the best of all up to 9 free GPUs, and near it with more.

    Raises:
        ValueError: a GPU is unknown, or no such set exists.
    """
    position = {gpu.uuid: place for place, gpu in enumerate(inventory.gpus)}
    wanted, fixed_ids = set(available), set(must)
    if unknown := sorted((wanted | fixed_ids) - position.keys()):
        raise ValueError(f"this node has no GPU {', '.join(unknown)}")
    if not fixed_ids <= wanted:
        raise ValueError(f"must be included and isn't available: {', '.join(sorted(fixed_ids - wanted))}")
    if not len(fixed_ids) <= size <= len(wanted):
        raise ValueError(
            f"no {size} of {len(wanted)} available GPUs include the {len(fixed_ids)} that must be"
        )
    free = sorted(position[uuid] for uuid in wanted)
    links = _Links(inventory, free)
    return [inventory.gpus[place].uuid for place in links.best({position[uuid] for uuid in fixed_ids}, size)]


class _Links:
    """The links among the free GPUs, which are named by their position in the inventory."""

    def __init__(self, inventory: Inventory, free: Sequence[int]) -> None:
        self._free = free
        uuids = [gpu.uuid for gpu in inventory.gpus]
        nvlinks = [[0] * len(uuids) for _ in uuids]
        pcie = [[0] * len(uuids) for _ in uuids]
        for one, other in combinations(free, 2):
            link = inventory.link(uuids[one], uuids[other])
            nvlinks[one][other] = nvlinks[other][one] = link.nvlinks
            pcie[one][other] = pcie[other][one] = int(link.pcie)
        self._nvlinks: _Table = nvlinks
        self._pcie: _Table = pcie

    def best(self, fixed: set[int], size: int) -> Sequence[int]:
        loose = [place for place in self._free if place not in fixed]
        missing = size - len(fixed)
        # max keeps the first of equals, and the sets come in the order of their lowest indices.
        if comb(len(loose), missing) <= _MOST_SETS:
            every = (sorted((*fixed, *more)) for more in combinations(loose, missing))
            return max(every, key=self._worth)
        starts = [fixed] if fixed else [{place} for place in self._free]
        return self._improved(max((self._grown(start, size) for start in starts), key=self._worth), fixed)

    def _worth(self, chosen: Sequence[int]) -> _Worth:
        left = [place for place in self._free if place not in chosen]
        return (
            _total(self._nvlinks, chosen),
            _total(self._nvlinks, left),
            _total(self._pcie, chosen),
            _total(self._pcie, left),
        )

    def _grown(self, start: set[int], size: int) -> Sequence[int]:
        """Adds the GPU that gains most and costs the rest least, until there are enough."""
        chosen = sorted(start)
        rest = [place for place in self._free if place not in start]
        inside = self._sums(chosen)
        outside = self._sums(rest)
        while len(chosen) < size:
            place = max(
                rest,
                key=lambda one: (inside[one][0], -outside[one][0], inside[one][1], -outside[one][1]),
            )
            chosen.append(place)
            rest.remove(place)
            for one in self._free:
                nvlinks, pcie = self._nvlinks[one][place], self._pcie[one][place]
                inside[one] = (inside[one][0] + nvlinks, inside[one][1] + pcie)
                outside[one] = (outside[one][0] - nvlinks, outside[one][1] - pcie)
        return sorted(chosen)

    def _improved(self, chosen: Sequence[int], fixed: set[int]) -> Sequence[int]:
        """Swaps the pair that helps most, until none does; each swap raises the worth, so it ends."""
        while True:
            rest = [place for place in self._free if place not in chosen]
            inside, outside = self._sums(chosen), self._sums(rest)
            gain, give, take = max(
                (
                    (self._swap_gain(inside, outside, give, take), -give, -take)
                    for give in chosen
                    if give not in fixed
                    for take in rest
                ),
                default=((0, 0, 0, 0), 0, 0),
            )
            if gain <= (0, 0, 0, 0):
                return chosen
            chosen = sorted({*chosen, -take} - {-give})

    def _swap_gain(
        self,
        inside: Sequence[tuple[int, int]],
        outside: Sequence[tuple[int, int]],
        give: int,
        take: int,
    ) -> _Worth:
        nvlinks, pcie = self._nvlinks[give][take], self._pcie[give][take]
        return (
            inside[take][0] - nvlinks - inside[give][0],
            outside[give][0] - nvlinks - outside[take][0],
            inside[take][1] - pcie - inside[give][1],
            outside[give][1] - pcie - outside[take][1],
        )

    def _sums(self, others: Sequence[int]) -> list[tuple[int, int]]:
        """For each GPU: its NVLinks and its PCIe nearness to all of `others`."""
        return [
            (sum(nvlinks[other] for other in others), sum(pcie[other] for other in others))
            for nvlinks, pcie in zip(self._nvlinks, self._pcie, strict=True)
        ]


def _total(table: _Table, places: Sequence[int]) -> int:
    return sum(table[one][other] for one, other in combinations(places, 2))
