from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.agent.plugin.preferred import prefer, prefer_parts
from gpuyard.agent.served import ServedDevice
from gpuyard.devices.inventory import Backend, Device, Inventory, Link, MigInstance, PcieLevel
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.mig_profiles import MigEngines


def node(*islands: int, nvlinks: int = 4) -> Inventory:
    """GPUs "0", "1", … in islands of the given sizes, each joined completely by NVLink."""
    home = [island for island, size in enumerate(islands) for _ in range(size)]
    gpus = tuple(
        Device(index, str(index), "", "", 0, (0, 0), "", None, index, ()) for index in range(len(home))
    )
    links = {
        (str(one), str(other)): Link(PcieLevel.HOST_BRIDGE, nvlinks if home[one] == home[other] else 0)
        for one, other in combinations(range(len(home)), 2)
    }
    return Inventory(Backend.NVML, devices=gpus, links=links)


def ids(text: str) -> list[str]:
    return text.split()


def test_a_request_goes_to_what_is_left_of_a_broken_island() -> None:
    assert prefer(node(4, 4), ids("0 1 2 3 6 7"), [], 2) == ids("6 7")
    assert prefer(node(4, 4), ids("0 1 2 3 6 7"), [], 1) == ids("6")


def test_a_request_takes_the_smallest_island_that_fits() -> None:
    assert prefer(node(4, 2, 3), ids("0 1 2 3 4 5 6 7 8"), [], 2) == ids("4 5")
    assert prefer(node(4, 2, 3), ids("0 1 2 3 4 5 6 7 8"), [], 3) == ids("6 7 8")


def test_more_than_one_island_takes_whole_ones_first() -> None:
    assert prefer(node(4, 4, 2), ids("0 1 2 3 4 5 6 7 8 9"), [], 6) == ids("0 1 2 3 8 9")


def test_a_pair_is_worth_more_than_two_single_gpus() -> None:
    everything = [str(index) for index in range(11)]
    assert prefer(node(4, 1, 1, 3, 2), everything, [], 6) == ids("0 1 2 3 9 10")


def test_large_islands_are_kept_whole_too() -> None:
    everything = [str(index) for index in range(28)]
    assert prefer(node(12, 4, 12), everything, [], 3) == ids("12 13 14")
    assert prefer(node(12, 4, 12), everything, ids("20"), 12) == [str(index) for index in range(16, 28)]


def test_a_large_group_gives_its_bridged_pairs_first() -> None:
    # Fourteen GPUs behind one PCIe switch, bridged in pairs, and two elsewhere.
    pairs = node(*[2] * 8)
    links = {
        (one, other): Link(PcieLevel.ONE_SWITCH if int(other) < 14 else link.pcie, link.nvlinks)
        for (one, other), link in pairs.links.items()
    }
    inventory = Inventory(Backend.NVML, devices=pairs.devices, links=links)
    free = ids("0 3 4 5 6 7 8 9 10 11 12 13 14")
    assert prefer(inventory, free, [], 2) == ids("4 5")
    assert prefer(inventory, free, [], 4) == ids("4 5 6 7")
    assert prefer(inventory, free, [], 3) == ids("0 4 5")
    assert prefer(inventory, free, [], 1) == ids("14")


def test_links_count_before_the_order() -> None:
    assert prefer(node(1, 1, 2), ids("0 1 2 3"), [], 2) == ids("2 3")


def test_must_include_pulls_in_its_island() -> None:
    assert prefer(node(4, 4), ids("0 1 2 3 4 5 6 7"), ids("6"), 3) == ids("4 5 6")


def test_equal_nvlinks_leave_the_choice_to_pcie() -> None:
    inventory = simulate(parse_simulation("H100:8"), seed="node")
    free = [gpu.uuid for gpu in inventory.devices if gpu.index not in {0, 5}]
    chosen = prefer(inventory, free, [], 3)
    assert [gpu.index for gpu in inventory.devices if gpu.uuid in chosen] == [1, 2, 3]


def test_answers_in_the_order_of_the_driver() -> None:
    assert prefer(node(4), ids("3 1 0 2"), ids("3"), 4) == ids("0 1 2 3")


@pytest.mark.parametrize(
    ("available", "must", "size"),
    [("0 1", "", 3), ("0 1", "0 1", 1), ("0 1", "2", 2), ("0 9", "", 1), ("0 1", "9", 2), ("0 1", "", -1)],
)
def test_what_cannot_be_chosen_is_refused(available: str, must: str, size: int) -> None:
    with pytest.raises(ValueError, match=r"GPU|include|available"):
        prefer(node(4), ids(available), ids(must), size)


@st.composite
def requests(draw: st.DrawFn, *, most: int) -> tuple[list[int], list[str], list[str], int]:
    islands = draw(
        st.lists(st.integers(1, 12), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) <= most)
    )
    everything = [str(index) for index in range(sum(islands))]
    available = draw(st.lists(st.sampled_from(everything), unique=True, min_size=1))
    must = draw(st.lists(st.sampled_from(available), unique=True, max_size=3))
    size = draw(st.integers(len(must), len(available)))
    return islands, available, must, size


@given(requests(most=24))
def test_the_answer_is_a_set_that_was_asked_for(
    request_: tuple[list[int], list[str], list[str], int],
) -> None:
    islands, available, must, size = request_
    chosen = prefer(node(*islands), available, must, size)
    assert len(chosen) == len(set(chosen)) == size
    assert set(must) <= set(chosen) <= set(available)
    # The same request has the same answer, in whatever order it names the GPUs.
    assert chosen == prefer(node(*islands), reversed(available), reversed(must), size)


@given(requests(most=24))
def test_no_island_is_split_needlessly(request_: tuple[list[int], list[str], list[str], int]) -> None:
    islands, available, _, size = request_
    starts = [sum(islands[:number]) for number in range(len(islands))]
    members = [
        {str(index) for index in range(start, start + count)} & set(available)
        for start, count in zip(starts, islands, strict=True)
    ]
    chosen = set(prefer(node(*islands), available, [], size))
    touched = [free for free in members if free & chosen]
    if any(len(free) >= size for free in members) and size > 0:
        assert len(touched) == 1, "it would have fitted into one island"
    if size > 0 and any(len(free) == size for free in members):
        assert chosen in members, "some island has exactly as many free"
    # What is taken in part is never larger than needed: at most one island is left with a rest.
    assert sum(bool(free - chosen) for free in touched) <= 1


PAIRS = list(combinations(range(7), 2))


@given(
    st.lists(st.sampled_from([0, 0, 2, 4]), min_size=len(PAIRS), max_size=len(PAIRS)),
    st.lists(st.sampled_from(list(PcieLevel)), min_size=len(PAIRS), max_size=len(PAIRS)),
    st.integers(0, 7),
    st.sets(st.integers(0, 6), max_size=2),
)
def test_it_is_the_best_of_all(
    nvlinks: list[int], levels: list[PcieLevel], size: int, must: set[int]
) -> None:
    links = {
        (str(one), str(other)): Link(levels[number], nvlinks[number])
        for number, (one, other) in enumerate(PAIRS)
    }
    inventory = Inventory(Backend.NVML, devices=node(*[1] * 7).devices, links=links)
    everything = ids("0 1 2 3 4 5 6")
    size = max(size, len(must))

    def worth(chosen: Sequence[str]) -> tuple[int, ...]:
        left = [one for one in everything if one not in chosen]
        sets = [[inventory.link(*pair) for pair in combinations(part, 2)] for part in (chosen, left)]
        return (
            *(sum(link.nvlinks for link in part) for part in sets),
            *(sum(link.pcie for link in part) for part in sets),
        )

    possible = (one for one in combinations(everything, size) if {str(place) for place in must} <= set(one))
    best = max(worth(chosen) for chosen in possible)
    assert worth(prefer(inventory, everything, map(str, must), size)) == best


def parts(*of_each: int) -> Sequence[ServedDevice]:
    """Parts `0-0`, `0-1`, `1-0`, … of so many GPUs with so many each."""
    engines = MigEngines()
    return tuple(
        ServedDevice(
            f"{gpu.index}-{place}",
            "nvidia.com/mig-1g.10gb",
            gpu,
            MigInstance(place, f"{gpu.index}-{place}", "1g.10gb", place, 0, place, 1, 1, 1, 0, 0, engines),
        )
        for gpu, count in zip(node(len(of_each)).devices, of_each, strict=True)
        for place in range(count)
    )


def test_parts_come_from_the_gpu_with_the_fewest_in_use() -> None:
    assert prefer_parts(parts(3, 3), ids("0-1 0-2 1-0 1-1 1-2"), [], 1) == ids("1-0")
    assert prefer_parts(parts(3, 3), ids("0-1 0-2 1-0 1-1 1-2"), [], 3) == ids("0-1 1-0 1-1")
    assert prefer_parts(parts(3, 3), ids("0-0 0-1 0-2 1-0 1-1 1-2"), ids("1-2"), 2) == ids("0-0 1-2")
    assert prefer_parts(parts(1, 3), ids("0-0 1-0 1-1 1-2"), [], 4) == ids("0-0 1-0 1-1 1-2")


@pytest.mark.parametrize(("available", "must", "size"), [("0-0 7", "", 1), ("0-0", "0-1", 1), ("0-0", "", 2)])
def test_parts_that_can_not_be_had_are_refused(available: str, must: str, size: int) -> None:
    with pytest.raises(ValueError, match=r"GPU|available"):
        prefer_parts(parts(2), ids(available), ids(must), size)
