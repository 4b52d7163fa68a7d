from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.python.wheels import Wheel, check_size, missing_wheels, wheel_file, wheel_path
from gpuyard.images.cache import Cache


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


def test_a_wheel_that_changed_in_the_cache_is_missing_and_goes(tmp_path: Path) -> None:
    cache, content = Cache(tmp_path), b"a wheel's bytes"
    wheel = Wheel("demo-1.0-py3-none-any.whl", hashlib.sha256(content).hexdigest(), len(content))
    assert missing_wheels(cache, [wheel]) == [wheel]
    path = wheel_path(cache, wheel)
    path.parent.mkdir()
    path.write_bytes(content)
    assert missing_wheels(cache, [wheel]) == []
    path.write_bytes(content[:-1] + b"S")
    assert missing_wheels(cache, [wheel]) == [wheel]
    assert not path.exists()


def test_a_size_that_is_not_the_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.whl"
    path.write_bytes(b"abc")
    check_size(Wheel("demo-1.0-py3-none-any.whl", "a" * 64, 3), path)
    check_size(Wheel("demo-1.0-py3-none-any.whl", "a" * 64), path)
    for size in (-11053, 2, 99999999999999):
        with pytest.raises(errors.BuildError, match=f"has 3 bytes, and the lock says {size}"):
            check_size(Wheel("demo-1.0-py3-none-any.whl", "a" * 64, size), path)
