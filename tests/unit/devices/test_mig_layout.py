import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.devices.inventory import Device, Inventory, Mig
from gpuyard.devices.mig_layout import GpuPlan, parse_layout, plan_layout
from gpuyard.devices.simulated.mig import split
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.mig_models import mig_geometry, mig_models
from gpuyard.gpus.mig_profiles import MigGeometry, Placement


def node(model: str = "H100", *splits: str) -> Inventory:
    """As many GPUs as splits; an empty one is whole."""
    inventory = simulate(parse_simulation(f"{model}:{max(1, len(splits))}"), seed="node")
    return inventory.with_mig({
        gpu.uuid: mig_of(gpu, parts.split())
        for gpu, parts in zip(inventory.devices, splits, strict=False)
        if parts
    })  # fmt: skip


def mig_of(gpu: Device, parts: list[str]) -> Mig:
    mig, mistakes = split(gpu, [part for part in parts if part != "split"])
    assert mistakes == ()
    return mig


def geometries(inventory: Inventory) -> dict[str, MigGeometry]:
    return {gpu.uuid: found for gpu in inventory.devices if (found := mig_geometry(gpu.model))}


def plan(layout: str, inventory: Inventory, in_use: Mapping[str, str] | None = None) -> tuple[GpuPlan, ...]:
    return plan_layout(parse_layout(layout), inventory, in_use or {}, geometries(inventory))


def held(inventory: Inventory, *parts: str) -> dict[str, str]:
    """These parts of GPU 0 are in use, each by a run that is called as its place."""
    mig = inventory.devices[0].mig
    assert mig is not None
    return {
        each.uuid: f"run-{each.start}" for each in mig.instances if f"{each.profile}@{each.start}" in parts
    }


def described(one: GpuPlan) -> dict[str, list[str]]:
    parts = {
        "keep": [f"{each.profile}@{each.start}" for each in one.keep],
        "destroy": [f"{each.profile}@{each.start}" for each in one.destroy],
        "create": list(map(str, one.create)),
        "refusals": list(one.refusals),
    }
    return {name: found for name, found in parts.items() if found}


@pytest.mark.parametrize(
    ("layout", "message", "remedy"),
    [
        ("", "wrong at its end: it says nothing", "write it as in"),
        (" ; ", "it says nothing", "write it as in"),
        ("3g.40gb", "at character 1, '3g.40gb': there is no ':' after the GPUs", "write it as in"),
        ("0: 3g.40gb; 1 1g.10gb", "at character 13, '1 1g.10gb': there is no ':'", "write it as in"),
        ("0:", "at its end: no profile is named", "write it as in"),
        ("0: ; 1: whole", "no profile is named", "write it as in"),
        ("x: whole", "at character 1, 'x: whole': it names no GPUs", "write an index"),
        ("0,,1: whole", "it names no GPUs", "write an index"),
        ("3-1: whole", "it names no GPUs", "write an index"),
        ("²: whole", "it names no GPUs", "write an index"),
        ("0: whole 1g.10gb", "'whole' stands alone", "write it as in"),
        ("0: all", "'all' stands before the last profile", "write it as in"),
        ("0: all 1g.10gb 3g.40gb", "'all' stands before the last profile", "write it as in"),
        ("0: whole; 2: whole", "there is no GPU 2", "there are 0, 1"),
        ("all: whole; 1: whole", "GPU 1 is named before, too", "name each GPU once"),
        ("0-1: whole; 1: whole", "GPU 1 is named before, too", "name each GPU once"),
        ("0: 3g.40gb 3g.20gb", "at character 12, '3g.20gb': GPU 0 (Simulated NVIDIA H100 80GB HBM3) has no"
         " profile 3g.20gb", "it can be split into 1g.10gb, 1g.10gb+me, 1g.20gb"),
        ("0: 1c.3g.40gb", "1c.3g.40gb has a part of 3g.40gb's compute slices", "write 3g.40gb"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_layout_is_told_with_its_place(layout: str, message: str, remedy: str) -> None:
    with pytest.raises(errors.UsageError, match=re.escape(message)) as raised:
        plan(layout, node("H100", "", ""))
    assert remedy in raised.value.remedy


def test_large_parts_go_first_and_the_largest_hole_stays_whole() -> None:
    (one,) = plan("0: 1g.10gb 2g.20gb 3g.40gb", node())
    assert described(one) == {"create": ["3g.40gb@4", "2g.20gb@0", "1g.10gb@2"]}
    assert one.mode is True
    (one,) = plan("0: 1g.10gb", node())
    assert described(one) == {"create": ["1g.10gb@6"]}


def test_all_of_a_profile_and_what_else_there_is_room_for() -> None:
    layout = "0: all 1g.10gb; 1: 3g.40gb all 1g.10gb; 2: all 3g.40gb"
    first, second, third = plan(layout, node("H100", "", "", ""))
    assert len(first.create) == 7
    assert Counter(each.profile.name for each in second.create) == {"3g.40gb": 1, "1g.10gb": 4}
    assert described(third) == {"create": ["3g.40gb@0", "3g.40gb@4"]}


def test_what_is_in_use_stays_where_it_is() -> None:
    inventory = node("H100", "1g.10gb@2 2g.20gb@4")
    (one,) = plan("0: 3g.40gb 1g.10gb", inventory, held(inventory, "1g.10gb@2"))
    assert described(one) == {
        "keep": ["1g.10gb@2"],
        "destroy": ["2g.20gb@4"],
        "create": ["3g.40gb@4"],
    }
    assert one.mode is None


def test_idle_parts_that_are_wanted_stay_too_as_long_as_everything_fits() -> None:
    inventory = node("H100", "1g.10gb@0 1g.10gb@5")
    (one,) = plan("0: 1g.10gb 1g.10gb", inventory)
    assert not one.changes
    (one,) = plan("0: 1g.10gb 1g.10gb 4g.40gb", inventory)
    assert described(one) == {
        "keep": ["1g.10gb@5"], "destroy": ["1g.10gb@0"], "create": ["4g.40gb@0", "1g.10gb@4"],
    }  # fmt: skip


def test_what_cannot_be_had_and_why() -> None:
    inventory = node("H100", "1g.10gb@2 2g.20gb@4", "", "")
    in_use = {**held(inventory, "1g.10gb@2", "2g.20gb@4"), inventory.devices[2].uuid: "run-b"}
    first, second, third = plan(
        "0: 3g.40gb 1g.10gb; 1: 3g.40gb 3g.40gb 3g.40gb 1g.10gb; 2: all 1g.10gb", inventory, in_use
    )
    assert described(first) == {
        "keep": ["2g.20gb@4", "1g.10gb@2"],
        "refusals": [
            "2g.20gb@4 stays: run-4 has it, and the layout has no place for it",
            "no room for 3g.40gb: 1g.10gb@2 is in the way; 2g.20gb@4 is in the way; "
            "2g.20gb@4 belongs to run-4; 1g.10gb@2 belongs to run-2",
        ],
    }
    assert described(second) == {
        "create": ["3g.40gb@0", "3g.40gb@4"],
        "refusals": [
            "no room for another 3g.40gb: 3g.40gb@0 is in the way; 3g.40gb@4 is in the way",
            "no room for 1g.10gb: 3g.40gb@0 is in the way; 3g.40gb@4 is in the way",
        ],
    }
    assert described(third) == {"refusals": ["it stays as it is: run-b has the whole GPU"]}


def test_a_whole_gpu_again() -> None:
    inventory = node("H100", "3g.40gb@0", "", "split")
    first, second, third = plan("all: whole", inventory)
    assert described(first) == {"destroy": ["3g.40gb@0"]}
    assert (first.mode, second.mode, third.mode) == (False, None, False)
    assert not second.changes
    (one,) = plan("0: whole", inventory, held(inventory, "3g.40gb@0"))
    assert described(one) == {
        "keep": ["3g.40gb@0"],
        "refusals": ["3g.40gb@0 stays: run-0 has it, and the layout has no place for it"],
    }
    assert one.mode is None


@pytest.mark.parametrize("layout", ["0: whole", "0: 2g.20gb", "0: all 1g.10gb"])
def test_who_has_a_split_gpu_whole_keeps_all_of_its_parts(layout: str) -> None:
    inventory = node("H100", "3g.40gb@0 3g.40gb@4")
    (gpu,) = inventory.devices
    (one,) = plan(layout, inventory, {gpu.uuid: "pod a/b"})
    assert described(one) == {
        "keep": ["3g.40gb@0", "3g.40gb@4"],
        "refusals": ["it stays as it is: pod a/b has the whole GPU"],
    }
    (one,) = plan("0: 3g.40gb 3g.40gb", inventory, {gpu.uuid: "pod a/b"})
    assert (one.changes, one.refusals) == (False, ())


@pytest.mark.parametrize("layout", ["0: whole", "0: 2g.20gb", "0: 3g.40gb all 1g.10gb", "0: 3g.40gb 3g.40gb"])
def test_parts_of_which_only_root_is_told_where_they_lie(layout: str) -> None:
    inventory = node("H100", "3g.40gb@0 3g.40gb@4", "")
    first, second = inventory.devices
    assert first.mig is not None
    hidden = tuple(replace(part, start=-1, size=0) for part in first.mig.instances)
    inventory = inventory.with_mig({first.uuid: replace(first.mig, instances=hidden), second.uuid: Mig()})
    one, other = plan(f"{layout}; 1: 1g.10gb", inventory)
    assert one.refusals == ("where its parts lie is told to root only",)
    assert not one.changes
    assert other.create


def test_a_gpu_that_cannot_be_split() -> None:
    (one,) = plan("0: 1g.10gb", node("L4"))
    assert described(one) == {"refusals": ["Simulated NVIDIA L4 can't be split"]}
    inventory = node()
    (one,) = plan_layout(parse_layout("0: 1g.10gb"), inventory, {}, {})
    assert one.refusals == ("Simulated NVIDIA H100 80GB HBM3 can be split, and into what isn't known",)


def test_a_gpu_instance_in_parts_is_made_anew_unless_in_use() -> None:
    inventory = node("H100", "1c.3g.40gb@4 2c.3g.40gb@4")
    (one,) = plan("0: 3g.40gb", inventory)
    assert described(one) == {
        "destroy": ["1c.3g.40gb@4", "2c.3g.40gb@4"],
        "create": ["3g.40gb@4"],
    }
    (one,) = plan("0: 3g.40gb", inventory, held(inventory, "2c.3g.40gb@4"))
    assert described(one)["keep"] == ["1c.3g.40gb@4", "2c.3g.40gb@4"]
    assert described(one)["create"] == ["3g.40gb@0"]
    assert "2c.3g.40gb@4 stays: run-4 has it" in described(one)["refusals"][0]


def applied(inventory: Inventory, plans: tuple[GpuPlan, ...]) -> Inventory:
    splits = {}
    for one in plans:
        parts = [f"{each.profile}@{each.start}" for each in one.keep] + list(map(str, one.create))
        if parts or (one.mode if one.mode is not None else one.gpu.mig and one.gpu.mig.enabled):
            splits[one.gpu.uuid] = mig_of(one.gpu, parts)
    whole = inventory.with_mig({gpu.uuid: Mig() for gpu in inventory.devices if gpu.mig})
    return whole.with_mig(splits)


@st.composite
def layouts(draw: st.DrawFn, model: str) -> tuple[str, Counter[str]]:
    geometry = mig_geometry(model)
    assert geometry is not None
    names = [profile.name for profile in geometry.profiles]
    wanted = draw(st.lists(st.sampled_from(names), max_size=5))
    fill = draw(st.sampled_from(["", *names]))
    text = " ".join([*wanted, *(["all", fill] if fill else [])]) or "whole"
    return f"0: {text}", Counter(wanted)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_plan_obeys_the_rules_and_takes_nothing_from_anyone(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(mig_models()))
    geometry = mig_geometry(model)
    assert geometry is not None
    inventory = node(model)
    for _ in range(3):
        (gpu,) = inventory.devices
        assert gpu.mig is not None
        instances = gpu.mig.instances
        in_use = {each.uuid: f"run-{each.index}" for each in instances if data.draw(st.booleans())}
        text, wanted = data.draw(layouts(model))
        (one,) = plan(text, inventory, in_use)
        assert not in_use.keys() & {each.uuid for each in one.destroy}
        assert {*one.keep, *one.destroy} == set(instances)
        assert not set(one.keep) & set(one.destroy)
        placed: list[Placement] = []
        for profile, start in [
            *((each.profile, each.start) for each in one.keep),
            *((each.profile.name, each.start) for each in one.create),
        ]:
            found = geometry.find(profile)
            assert found is not None
            new = Placement(found, start)
            assert geometry.obstacle(placed, new) == ""
            placed.append(new)
        if not one.refusals:
            assert wanted <= Counter(each.profile.name for each in placed)
        inventory = applied(inventory, (one,))
        assert one.refusals or not plan(text, inventory, in_use)[0].changes
