from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuyard.gpus.resources import gpu_request
from gpuyard.workloads.spec.gpu_request import parse_gpus


@pytest.mark.parametrize(
    ("text", "count", "names"),
    [
        ("0", 0, []),
        ("2", 2, []),
        (" 8 ", 8, []),
        ("H200:2", 2, ["H200", "H200-NVL"]),
        ("H100-SXM", 1, ["H100"]),
        ("h100-pcie:4", 4, ["H100-PCIe"]),
        ("A100-80GB:8", 8, ["A100-80GB", "A100-80GB-PCIe"]),
        ("NVIDIA H100 80GB HBM3:1", 1, ["H100"]),
        ("4090", 4090, []),  # a bare number is a count, never a card
        ("L4:0", 0, []),
    ],
)
def test_reads(text: str, count: int, names: list[str]) -> None:
    request = parse_gpus(text)
    assert request.count == count
    assert [model.name for model in request.models] == names


@pytest.mark.parametrize(
    ("text", "count", "resource"),
    [
        ("2", 2, "nvidia.com/gpu"),
        ("1g.10gb", 1, "nvidia.com/mig-1g.10gb"),
        ("3g.40gb:2", 2, "nvidia.com/mig-3g.40gb"),
        ("MIG-1G.10GB+me:1", 1, "nvidia.com/mig-1g.10gb.me"),
        ("nvidia.com/mig-1g.10gb.me", 1, "nvidia.com/mig-1g.10gb.me"),
        ("1g.10gb:0", 0, "nvidia.com/gpu"),
        ("shared", 1, "nvidia.com/gpu.shared"),
        ("Shared:2", 2, "nvidia.com/gpu.shared"),
        ("nvidia.com/gpu.shared", 1, "nvidia.com/gpu.shared"),
        ("1g.10gb+me.shared:2", 2, "nvidia.com/mig-1g.10gb.me.shared"),
        ("shared:0", 0, "nvidia.com/gpu"),
    ],
)
def test_parts_and_shares_of_gpus_have_resources_of_their_own(text: str, count: int, resource: str) -> None:
    request = parse_gpus(text)
    assert (request.count, request.resource, request.models) == (count, resource, ())
    # What advice says to write is what was meant.
    assert not count or parse_gpus(gpu_request(request.resource, count)) == request


def test_a_share_may_be_of_a_model() -> None:
    nvidia, amd = parse_gpus("H200.shared:2"), parse_gpus("MI300X.shared")
    assert (nvidia.resource, nvidia.models[0].name) == ("nvidia.com/gpu.shared", "H200")
    assert amd.resource == "amd.com/gpu.shared"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "write a number, a model, or both: 2, H100, H100:2"),
        ("-1", "is not a GPU request"),
        ("2xH100", "write H100:2"),
        ("8 × A100-80GB", "write A100-80GB:8"),
        ("all", "write how many"),
        ("device=0", "write how many, such as 1"),
        ("0,1", "write how many, such as 1"),
        ("1.5", "is not a GPU request"),
        ("0x2", "write a number"),
        ("H100:", "is not a GPU request"),
        (":2", "is not a GPU request"),
        ("H100:-2", "is not a GPU request"),
        ("H100:two", "is not a GPU request"),
        ("2:H100", "write H100:2"),
        ("2:shared", "write shared:2"),
        ("NVIDIA-H100-80GB-HBM3-SHARED:2", "write NVIDIA-H100-80GB-HBM3.shared:2"),
        ("quantum.shared", "'quantum' is no GPU model"),
        (".shared", "'' is no GPU model"),
        ("H10O:2", "did you mean H100?"),
        ("quantum:2", "'quantum' is no GPU model"),
        ("٣", "write a number"),  # a digit, but not one of ours
        ("100001", "more than 100000"),
        ("99999999999", "is not a GPU request"),
        ("A100-MIG-1g.5gb:1", "write a profile such as 1g.10gb:2"),
        ("1c.3g.40gb", "write a profile such as 1g.10gb:2"),
        ("80GB+", "write a number"),
    ],
)
def test_refuses_and_says_the_form(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_gpus(text)
    assert part in str(caught.value)


@given(st.text(max_size=40))
@example("ALL")
@example("4xA100")
@example("0,1")
def test_any_text_is_a_request_or_a_value_error(text: str) -> None:
    try:
        assert parse_gpus(text).count >= 0
    except ValueError as error:
        assert "H100:2" in str(error) or "write" in str(error)
