import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gpuyard.gpus.occupants import (
    Occupant,
    age_text,
    format_occupants,
    memory_text,
    node_occupants,
    withheld,
)
from gpuyard.kube.wellknown import ANNOTATION_GPU_OCCUPANTS

NOW = datetime(2026, 11, 29, 17, 2, tzinfo=UTC)
PROCESS = Occupant(3, "GPU-3", "alice", "2026-11-29T14:02:00Z", 4711, "python", 21_504)
YARD = Occupant(
    0, "GPU-0", "alice", "2026-11-29T14:02:00Z", home="/home/alice/.gpuyard", run="train", withheld=True
)


def node(text: str) -> dict[str, object]:
    return {"metadata": {"name": "n", "annotations": {ANNOTATION_GPU_OCCUPANTS: text}}}


def test_a_node_says_who_it_is() -> None:
    process, yard = node_occupants(node(format_occupants([PROCESS, YARD])), lambda: NOW)
    assert str(process) == "GPU 3: held by alice, pid 4711 (python), 3 h, 21 GiB, not a run"
    assert yard.on_node("n") == (
        "GPU 0 of node n is held by the yard of alice (/home/alice/.gpuyard), run train, "
        "since 2026-11-29 14:02 UTC"
    )
    assert process.age_s == timedelta(hours=3).total_seconds()
    assert "gpuyard up --share-with-others" in process.remedy(on_yard=True)
    assert "share" not in process.remedy(on_yard=False) + yard.remedy(on_yard=True)


def test_what_cannot_be_seen_is_left_out() -> None:
    assert str(Occupant(1, "GPU-1", "", pid=7)) == "GPU 1: held by somebody, pid 7, not a run"
    shared = Occupant(1, "GPU-1", "bob", pid=7, command="Xorg", withheld=False)
    assert str(shared) == "GPU 1: used by bob, pid 7 (Xorg), not a run"


def test_nobody_is_no_annotation() -> None:
    assert format_occupants([]) == ""
    assert node_occupants({"metadata": {"name": "n"}}) == ()


@pytest.mark.parametrize(
    "text", ["{", "3", "[3]", '[{"uuid": "GPU-3"}]', "[" * 100_000, '[{"index": "3"}]', "[null]"]
)
def test_what_is_no_occupant_is_left_out(text: str) -> None:
    assert node_occupants(node(text), lambda: NOW) == ()


@pytest.mark.parametrize("number", [10**400, 2**63, -5, True, 1.5], ids=range(5))
def test_numbers_that_none_can_have_are_left_out(number: object) -> None:
    told = json.dumps([{"index": 3, "pid": number, "memory_mib": number}, {"index": number}])
    assert node_occupants(node(told), lambda: NOW) == (Occupant(3, "", ""),)


def test_the_annotation_leaves_room_for_others() -> None:
    many = [replace(YARD, index=n, home="\U0001f600" * 200, run="\U0001f600" * 200) for n in range(300)]
    assert len(format_occupants(many)) < 96 * 1024
    assert len(node_occupants(node(format_occupants(many)), lambda: NOW)) > 10


def test_anybody_may_have_written_it() -> None:
    told = '[{"index": 3, "pid": "x", "memory_mib": [], "since": "soon", "user": "\\u001b[2Jeve"}]'
    (occupant,) = node_occupants(node(told), lambda: NOW)
    assert occupant == Occupant(3, "", "[2Jeve", "soon")
    (early,) = node_occupants(node(format_occupants([PROCESS])), lambda: NOW - timedelta(days=9))
    assert early.age_s == 0


def test_one_of_each_gpu_that_is_withheld() -> None:
    shared = Occupant(1, "GPU-1", "bob", pid=7, withheld=False)
    assert len(withheld([PROCESS, PROCESS, YARD, shared])) == 2


def test_figures_are_short() -> None:
    seconds = (0, 1, 119, 120, 7199, 7200, 172_799, 172_800)
    assert [age_text(each) for each in seconds] == [
        "0 s", "1 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d",
    ]  # fmt: skip
    assert [memory_text(mib) for mib in (0, 64, 1023, 1024, 21_504)] == [
        "0 MiB", "64 MiB", "1023 MiB", "1 GiB", "21 GiB",
    ]  # fmt: skip
