from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.building.python.wheels import Wheel, wheel_file


@pytest.mark.parametrize("file", ["demo.zip", "../demo-1.0-py3-none-any.whl", "demo-1.0.whl", ""])
def test_what_cannot_name_a_wheel(file: str) -> None:
    with pytest.raises(errors.BuildError, match="not the file name of a wheel"):
        Wheel(file, "a" * 64)


def test_name_and_version_are_read_from_the_file_name() -> None:
    wheel = Wheel("Foo_Bar-1.2+cu124-1-cp311-cp311-manylinux_2_17_x86_64.whl", "a" * 64)
    assert (wheel.name, wheel.version) == ("foo-bar", "1.2+cu124")


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("https://x.example/a/b-1.0%2Bcu12-py3-none-any.whl?key=1/2#sha256=0", "b-1.0+cu12-py3-none-any.whl"),
        ("../wheels/b-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"),
        ("b-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"),
        ("https://x.example/..%2F..%2Fb-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"),
        ("https://x.example/", ""),
    ],
)
def test_the_file_at_the_end_of_a_source(source: str, file: str) -> None:
    assert wheel_file(source) == file
