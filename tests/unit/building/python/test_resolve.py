from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.building.python.resolve import allows, python_platform
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.oci import Platform


@pytest.mark.parametrize(
    ("requirement", "version", "allowed"),
    [
        ("torch", "1.13.0a0", True),
        ("torch>=1.13", "1.13.0a0+git1", False),
        ("torch>=1.12", "1.13.0a0", True),
        ("torch==2.1.0", "2.1.0+cu121", True),
        ("torch==2.1.0+cu118", "2.1.0+cu121", False),
        ("torch~=2.1", "3.0", False),
        ("torch @ file:///x.whl", "2.1", False),
        ("not a requirement!", "1", False),
        ("torch", "not.a.version!", False),
    ],
)
def test_whether_the_bases_version_will_do(requirement: str, version: str, allowed: bool) -> None:
    assert allows(requirement, version) is allowed


@pytest.mark.parametrize(
    ("platform", "libc", "version", "name"),
    [
        ("linux/amd64", "glibc", (2, 36), "x86_64-manylinux_2_36"),
        ("linux/amd64", "glibc", (2, 27), "x86_64-manylinux_2_17"),
        ("linux/amd64", "glibc", (2, 30), "x86_64-manylinux_2_28"),
        ("linux/amd64", "glibc", (2, 99), "x86_64-manylinux_2_40"),
        ("linux/arm64", "glibc", (2, 35), "aarch64-manylinux_2_35"),
        ("linux/amd64", "musl", (1, 1), "x86_64-unknown-linux-musl"),
        ("linux/amd64", "", (0, 0), "x86_64-manylinux_2_28"),
    ],
)
def test_the_platform_as_uv_names_it(platform: str, libc: str, version: tuple[int, int], name: str) -> None:
    contents = ImageContents(libc=libc, libc_version=version)
    assert python_platform(Platform.parse(platform), contents) == name


def test_a_platform_without_wheels() -> None:
    with pytest.raises(errors.BuildError, match="no wheels for linux/s390x"):
        python_platform(Platform.parse("linux/s390x"), ImageContents())
