import pytest

from gpuyard.gpus.mig_models import mig_geometry
from gpuyard.gpus.mig_profiles import (
    MigGeometry,
    Placement,
    compute_name,
    compute_widths,
    split_name,
)


def geometry_of(model: str) -> MigGeometry:
    geometry = mig_geometry(model)
    assert geometry is not None
    return geometry


def place(geometry: MigGeometry, text: str) -> Placement:
    name, _, start = text.partition("@")
    profile = geometry.find(name)
    assert profile is not None, text
    return Placement(profile, int(start))


def together(model: str, texts: str) -> str:
    """Why these can't lie on one GPU; empty when they can."""
    geometry = geometry_of(model)
    placed: list[Placement] = []
    for text in texts.split():
        new = place(geometry, text)
        if why := geometry.obstacle(placed, new):
            return why
        placed.append(new)
    return ""


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("H100", "3g.40gb@0 3g.40gb@4"),
        ("H100", "4g.40gb@0 3g.40gb@4"),
        ("H100", "4g.40gb@0 2g.20gb@4 1g.20gb@6"),
        ("H100", "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3 1g.10gb@4 1g.10gb@5 1g.10gb+me@6"),
        ("A100-40GB", "2g.10gb@0 2g.10gb@2 2g.10gb@4 1g.5gb+me@6"),
        ("A30", "1g.6gb+me@0 1g.6gb@1 2g.12gb@2"),
        ("RTX-PRO-6000", "1g.24gb+me.all@0 1g.24gb-me@1 2g.48gb-me@2"),
        ("B200", "4g.90gb@0 3g.90gb@4"),
    ],
)
def test_what_can_lie_side_by_side(model: str, parts: str) -> None:
    assert together(model, parts) == ""


@pytest.mark.parametrize(
    ("model", "parts", "why"),
    [
        ("H100", "3g.40gb@4 4g.40gb@4", "4g.40gb can only begin at slice 0"),
        ("H100", "3g.40gb@1", "3g.40gb can only begin at slice 0 or 4"),
        ("H100", "1g.10gb@7", "1g.10gb can only begin at slice 0 or 1 or 2 or 3 or 4 or 5 or 6"),
        ("H100", "2g.20gb@0 1g.10gb@2 3g.40gb@0", "2g.20gb@0 and 1g.10gb@2 are in the way"),
        ("H100", "7g.80gb@0 1g.10gb@6", "7g.80gb@0 is in the way"),
        ("H100", "1g.10gb+me@0 1g.10gb+me@1", "a GPU has no more than 1 of 1g.10gb+me"),
        ("A30", "2g.12gb+me@0 1g.6gb+me@2", "what 1g.6gb+me needs of the GPU's engines is with the others"),
        ("RTX-PRO-6000", "1g.24gb+me.all@0 1g.24gb@1",
         "what 1g.24gb needs of the GPU's engines is with the others"),
    ],
)  # fmt: skip
def test_what_can_t_and_why(model: str, parts: str, why: str) -> None:
    assert together(model, parts) == why


def test_compute_instances() -> None:
    four = geometry_of("A100-80GB").find("4g.40gb")
    assert four is not None
    assert compute_widths(four) == (1, 2, 3, 4)
    assert [compute_name(four, width) for width in (1, 4)] == ["1c.4g.40gb", "4g.40gb"]
    assert split_name("1c.4g.40gb") == (1, "4g.40gb")
    assert split_name("4g.40gb") == (None, "4g.40gb")
