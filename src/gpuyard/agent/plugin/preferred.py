"""Which devices to give to a container, out of those that are free (pure).

Of parts of GPUs and shares of them, one of the GPU that has the fewest in use, each time, or the most. Of
whole GPUs, best are those with many NVLinks among them; among equals, those whose loss costs the remaining
free GPUs the fewest NVLinks, so that a small request goes to what is left of a broken island or to the
smallest island that fits, and whole islands stay whole; then the same two on PCIe; then the lowest indices.

Free GPUs fall into groups that nothing but the weakest kind of link joins: what a choice is worth is the sum
over the groups. So each group is searched on its own, and the best ways to take 0, 1, 2… GPUs out of each
are put together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

from gpuyard.agent.served import ServedDevice
from gpuyard.devices.inventory import Inventory

#: Every subset of a group is tried up to so many GPUs; subsets of a larger one are grown step by step.
_MOST_TRIED = 9

#: NVLinks inside the set, NVLinks among what is left, the same on PCIe: compared in this order.
_Worth: TypeAlias = tuple[int, int, int, int]
_Table: TypeAlias = Sequence[Sequence[int]]


class _Choice(NamedTuple):
    """GPUs by their position in the inventory, and what choosing them is worth."""

    worth: _Worth
    places: tuple[int, ...]


def prefer(inventory: Inventory, available: Iterable[str], must: Iterable[str], size: int) -> list[str]:
    """The best `size` GPUs of `available` that contain all of `must`, in the order of their index.

    It is the best of all as long as no group has more than 9 free GPUs, and near it otherwise.

    Raises:
        ValueError: a GPU is unknown, or no such set exists.
    """
    position = {gpu.uuid: place for place, gpu in enumerate(inventory.devices)}
    wanted, fixed = _checked(position, available, must, size)
    links = _Links(inventory, sorted(position[uuid] for uuid in wanted))
    chosen = links.best({position[uuid] for uuid in fixed}, size)
    return [inventory.devices[place].uuid for place in chosen]


def prefer_parts(
    devices: Sequence[ServedDevice],
    available: Iterable[str],
    must: Iterable[str],
    size: int,
    *,
    packed: bool = False,
) -> list[str]:
    """`size` of the available devices that contain all of `must`: of the GPU that has the fewest in use, each
    time one; of the one that has the most, when they are to be packed.

    Args:
        devices: of one resource, in the driver's order, which is that of the result.
        available: ids of those that are free.
        must: ids.
        size: how many.

    Raises:
        ValueError: as of `prefer`.
    """
    wanted, chosen = _checked({device.id for device in devices}, available, must, size)
    free: dict[int, list[str]] = {}
    used = Counter[int]()
    for device in devices:
        if device.id in wanted and device.id not in chosen:
            free.setdefault(device.gpu.index, []).append(device.id)
        else:
            used[device.gpu.index] += 1
    while len(chosen) < size:
        gpu = min(free, key=lambda index: (-used[index] if packed else used[index], index))
        chosen.add(free[gpu].pop(0))
        used[gpu] += 1
        if not free[gpu]:
            del free[gpu]
    return [device.id for device in devices if device.id in chosen]


def _checked(
    known: Collection[str], available: Iterable[str], must: Iterable[str], size: int
) -> tuple[set[str], set[str]]:
    wanted, fixed = set(available), set(must)
    if unknown := sorted(one for one in wanted | fixed if one not in known):
        raise ValueError(f"this node has no GPU {', '.join(unknown)}")
    if not fixed <= wanted:
        raise ValueError(f"must be included and isn't available: {', '.join(sorted(fixed - wanted))}")
    if not len(fixed) <= size <= len(wanted):
        raise ValueError(f"no {size} of {len(wanted)} available GPUs include the {len(fixed)} that must be")
    return wanted, fixed


class _Links:
    """The links among the free GPUs, beyond the weakest that joins any two of them."""

    def __init__(self, inventory: Inventory, free: Sequence[int]) -> None:
        self._free = free
        uuids = [gpu.uuid for gpu in inventory.devices]
        nvlinks = [[0] * len(uuids) for _ in uuids]
        pcie = [[0] * len(uuids) for _ in uuids]
        between = {pair: inventory.link(uuids[pair[0]], uuids[pair[1]]) for pair in combinations(free, 2)}
        weakest = min((int(link.pcie) for link in between.values()), default=0)
        for (one, other), link in between.items():
            nvlinks[one][other] = nvlinks[other][one] = link.nvlinks
            pcie[one][other] = pcie[other][one] = int(link.pcie) - weakest
        self._nvlinks: _Table = nvlinks
        self._pcie: _Table = pcie

    def best(self, fixed: set[int], size: int) -> Sequence[int]:
        """The best `size` places that contain `fixed`, sorted."""
        best = {0: _Choice((0, 0, 0, 0), ())}
        for members in self._groups():
            # What the other groups can't give this one must.
            least = size - (len(self._free) - len(members))
            options = self._options(members, fixed, least, size)
            merged: dict[int, _Choice] = {}
            for one in best.values():
                for other in options.values():
                    both = _Choice(_plus(one.worth, other.worth), one.places + other.places)
                    _keep_better(merged, both)
            best = {count: choice for count, choice in merged.items() if count <= size}
        return sorted(best[size].places)

    def _groups(self) -> Iterator[Sequence[int]]:
        """The free places, those together that links join directly or through others."""
        rest = list(self._free)
        while rest:
            group = [rest.pop(0)]
            for member in group:  # It grows while it is read.
                near = [place for place in rest if self._nvlinks[member][place] or self._pcie[member][place]]
                group += near
                rest = [place for place in rest if place not in near]
            yield sorted(group)

    def _options(
        self, members: Sequence[int], fixed: set[int], least: int, most: int
    ) -> Mapping[int, _Choice]:
        """The best choice of each size out of one group; more GPUs of an earlier group come first."""
        core = [place for place in members if place in fixed]
        loose = [place for place in members if place not in fixed]
        found: dict[int, _Choice] = {}
        if len(members) <= _MOST_TRIED:
            totals = self._totals(members)
            bits = {place: 1 << number for number, place in enumerate(members)}
            rest = sum(bits.values()) - sum(bits[place] for place in core)
            for count in range(min(len(members), most), max(len(core), least) - 1, -1):
                best: tuple[_Worth, Sequence[int]] | None = None
                for more in combinations(loose, count - len(core)):
                    left = rest - sum(map(bits.__getitem__, more))
                    nvlinks, pcie = totals[len(totals) - 1 - left]
                    nvlinks_left, pcie_left = totals[left]
                    worth = (nvlinks, nvlinks_left, pcie, pcie_left)
                    if best is None or worth > best[0]:
                        best = worth, more
                if best is not None:
                    found[count] = _Choice(best[0], (*core, *best[1]))
            return found
        for seed in [()] if core else [(), *((place,) for place in loose)]:
            for grown in self._growing(members, [*core, *seed]):
                self._consider(found, members, grown)
        return dict(sorted(found.items(), reverse=True))

    def _totals(self, members: Sequence[int]) -> Sequence[tuple[int, int]]:
        """NVLinks and PCIe inside each subset; bit n of its place in the list stands for member n."""
        totals = [(0, 0)]
        for number, last in enumerate(members):
            nvlinks, pcie = self._nvlinks[last], self._pcie[last]
            more = [(0, 0)]
            for place in members[:number]:
                more += [(one + nvlinks[place], other + pcie[place]) for one, other in more]
            totals += [(a + c, b + d) for (a, b), (c, d) in zip(totals, more, strict=True)]
        return totals

    def _consider(self, found: dict[int, _Choice], members: Sequence[int], places: tuple[int, ...]) -> None:
        left = [place for place in members if place not in places]
        worth = (
            _total(self._nvlinks, places),
            _total(self._nvlinks, left),
            _total(self._pcie, places),
            _total(self._pcie, left),
        )
        _keep_better(found, _Choice(worth, places))

    def _growing(self, members: Sequence[int], start: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The start, and then each time with the GPU that gains most; among equals has most to bring in."""
        chosen = list(start)
        rest = [place for place in members if place not in chosen]
        yield tuple(chosen)
        while rest:
            place = max(rest, key=lambda one: self._step(one, chosen, rest))
            chosen.append(place)
            rest.remove(place)
            yield tuple(chosen)

    def _step(self, place: int, chosen: Sequence[int], rest: Sequence[int]) -> _Worth:
        nvlinks, pcie = self._nvlinks[place], self._pcie[place]
        return (
            sum(nvlinks[other] for other in chosen),
            sum(nvlinks[other] for other in rest),
            sum(pcie[other] for other in chosen),
            sum(pcie[other] for other in rest),
        )


def _keep_better(found: dict[int, _Choice], choice: _Choice) -> None:
    """By number of GPUs; the first of equals stays."""
    known = found.get(len(choice.places))
    if known is None or choice.worth > known.worth:
        found[len(choice.places)] = choice


def _plus(one: _Worth, other: _Worth) -> _Worth:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def _total(table: _Table, places: Sequence[int]) -> int:
    return sum(table[one][other] for one, other in combinations(places, 2))
