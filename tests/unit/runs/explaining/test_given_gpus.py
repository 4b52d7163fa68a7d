"""What is said of the GPUs that a pod got."""

from dataclasses import replace

import pytest

from gpuyard.runs.explaining.given_gpus import given_gpus
from gpuyard.runs.nodes.gpu_node import GpuLink, GpuNode, GpuPart, GpuUser, NodeGpu

POD = GpuUser("default", "train-0")
OTHER = GpuUser("default", "other-0")


def node(*users: GpuUser | None, island: int = 4, nvlinks: int = 18) -> GpuNode:
    """GPUs of which so many at a time are joined by NVLink and are at one NUMA node."""
    count = len(users)
    gpus = [
        NodeGpu(
            index,
            f"GPU-{index}",
            numa_node=index // island,
            links=tuple(
                GpuLink(
                    peer,
                    *(
                        (nvlinks, "host-bridge")
                        if peer // island == index // island
                        else (0, "different-cpu")
                    ),
                )
                for peer in range(count)
                if peer != index
            ),
            users=(user,) if user else (),
        )
        for index, user in enumerate(users)
    ]
    return GpuNode("a", gpus=tuple(gpus))


def test_a_pair_of_one_island() -> None:
    assert str(given_gpus(node(POD, POD, OTHER, None, None, None, None, None), POD)) == (
        "got GPUs 0, 1 of node a: each pair joined by 18 NVLinks; NUMA node 0; "
        "of the 2 others that NVLink joins to them 1 is in use; no free ones are joined better"
    )


@pytest.mark.parametrize("product", ["AMD Instinct MI300X", "Simulated AMD Instinct MI300X"])
def test_what_joins_amd_s_is_called_by_its_name(product: str) -> None:
    found = node(POD, POD, None, nvlinks=1)
    gpus = tuple(replace(gpu, product=product) for gpu in found.gpus)
    said = str(given_gpus(replace(found, gpus=gpus), POD))
    assert "each pair joined by 1 Infinity Fabric link;" in said and "that Infinity Fabric joins" in said


@pytest.mark.parametrize(
    ("neighbours", "said"),
    [
        ((OTHER,), "the one other that NVLink joins to them is in use"),
        ((None,), "the one other that NVLink joins to them is not in use"),
        ((None, None), "of the 2 others that NVLink joins to them none is in use"),
        ((OTHER, OTHER), "of the 2 others that NVLink joins to them 2 are in use"),
    ],
)
def test_neighbours_are_counted_in_words(neighbours: tuple[GpuUser | None, ...], said: str) -> None:
    assert said in given_gpus(node(POD, POD, *neighbours), POD).reasons


def test_what_was_left_of_two_islands() -> None:
    said = str(given_gpus(node(OTHER, OTHER, OTHER, POD, POD, OTHER, OTHER, OTHER), POD))
    assert said.startswith("got GPUs 3, 4 of node a: joined by PCIe (different-cpu), without NVLink; across")
    assert said.endswith("no free ones are joined better")
    now = str(given_gpus(node(None, None, OTHER, POD, POD, OTHER, OTHER, OTHER), POD))
    assert now.endswith("GPUs 0, 1 are joined better and free now")


@pytest.mark.parametrize("broken", [{"mig": "on"}, {"replicas": 4}, {"users": (OTHER,)}])
def test_what_cant_be_had_is_not_better(broken: dict[str, object]) -> None:
    found = node(None, OTHER, OTHER, POD, POD, OTHER, OTHER, OTHER)
    assert "GPUs 0, 3 are joined better" in str(given_gpus(found, POD))
    gpus = (replace(found.gpus[0], **broken), *found.gpus[1:])  # type: ignore[arg-type]
    assert "no free ones" in str(given_gpus(replace(found, gpus=gpus), POD))


def test_three_of_which_two_are_joined() -> None:
    said = given_gpus(node(POD, POD, OTHER, OTHER, POD, OTHER), POD)
    assert said.reasons[0] == "1 of 3 pairs joined by NVLink, the others by PCIe (different-cpu)"


def test_one_gpu_without_nvlink() -> None:
    assert str(given_gpus(node(POD, None, nvlinks=0), POD)) == "got GPU 0 of node a: NUMA node 0"


def test_a_part_and_a_share() -> None:
    part = GpuPart("7", "1g.10gb", index=2, users=(POD,))
    (gpu,) = node(None).gpus
    assert str(given_gpus(GpuNode("a", gpus=(replace(gpu, parts=(part,)),)), POD)) == (
        "got GPU 0:2 (1g.10gb) of node a"
    )
    shared = replace(gpu, users=(POD, OTHER), sharing="time-slicing", replicas=4)
    assert str(given_gpus(GpuNode("a", gpus=(shared,)), POD)) == "got GPU 0 (shared by 4) of node a"


def test_nobody_says() -> None:
    assert str(given_gpus(GpuNode("a", unread="you may not read it"), POD)) == (
        "which GPUs of node a it got isn't known: you may not read it"
    )
    assert "names none yet" in str(given_gpus(node(OTHER, None), POD))
