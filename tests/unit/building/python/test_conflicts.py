from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard.building.python.conflicts import replaced, unmet
from gpuyard.building.python.platform_tags import environment
from gpuyard.building.python.wheels import Wheel
from gpuyard.images.oci import Platform
from tests.unit.images.conftest import MakeWheel, Workshop, debian_files

VARIABLES = environment(Platform("linux", "amd64"), 11)


def wheel(name: str, version: str) -> Wheel:
    return Wheel(f"{name}-{version}-py3-none-any.whl", "a" * 64)


def test_what_comes_in_the_place_of_the_base_s() -> None:
    base = {"numpy": "1.24.2", "pyyaml": "6.0", "six": "1.16.0"}
    wheels = [wheel("numpy", "2.0.0"), wheel("PyYAML", "6.0.0"), wheel("demo", "1")]
    assert replaced(wheels, base) == ["numpy 2.0.0 (the base has 1.24.2)"]


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ("numpy>=2", "demo 1.0 requires numpy>=2, and the base brings 1.24.2"),
        ("NumPy (>=2)", "demo 1.0 requires NumPy>=2, and the base brings 1.24.2"),
        ("numpy>=1.20", ""),
        ("numpy", ""),
        ("numpy>=2 ; sys_platform == 'win32'", ""),
        ("numpy>=2 ; extra == 'gpu'", ""),
        ("numpy>=2 ; python_version < '3.12'", "demo 1.0 requires numpy>=2, and the base brings 1.24.2"),
        ("scipy>=2", ""),
        ("not a requirement!", ""),
    ],
)
def test_what_a_wheel_wants_otherwise(make_wheel: MakeWheel, requires: str, said: str) -> None:
    path = make_wheel("demo", requires=(requires,))
    assert list(unmet(wheel("demo", "1.0"), path, {"numpy": "1.24.2"}, VARIABLES)) == ([said] if said else [])


def test_a_file_that_is_no_wheel(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    assert list(unmet(wheel("demo", "1.0"), tmp_path / "x", {"numpy": "1"}, VARIABLES)) == []


async def test_a_build_says_so_where_it_is_so(workshop: Workshop, make_wheel: MakeWheel) -> None:
    egg = "usr/lib/python3/dist-packages/numpy-1.24.2.egg-info/PKG-INFO"
    await workshop.make_base(debian_files() | {egg: "Name: numpy\nVersion: 1.24.2\n"})
    make_wheel("demo", requires=("numpy>=2", "PyYAML>=5"))
    make_wheel("numpy", "2.0.0")
    await workshop.build(requirements=workshop.require("demo"))
    (warning,) = (text for text in workshop.heard.said if text.startswith("warning"))
    assert warning.startswith("warning: demo 1.0 requires numpy>=2, and the base brings 1.24.2")

    workshop.heard.said.clear()
    await workshop.build(requirements=workshop.require("demo", "numpy>=2"))
    assert not [text for text in workshop.heard.said if text.startswith("warning")]
    (said,) = (text for text in workshop.heard.said if "in the place of the base's" in text)
    assert said.endswith(": numpy 2.0.0 (the base has 1.24.2)")
