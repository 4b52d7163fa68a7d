from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise, product

import pytest

from gpuyard.building.system_packages.resolving.versions import meets, version_key

#: Each is older than the next.
ASCENDING = (
    "0~",
    "0",
    "1~~",
    "1~",
    "1~rc1",
    "1",
    "1-1",
    "1a",
    "1.2.3~bpo1",
    "1.2.3",
    "1.2.3-1",
    "1.2.3-1+b1",
    "1.2.3+deb12u1-1",
    "1.2.3+deb12u10",
    "1.9",
    "1.10",
    "2.36-9+deb12u9",
    "2.36-9+deb12u13",
    "1:0.1",
    "7:5.1.9-0+deb12u1",
)


def test_versions_are_ordered_as_by_dpkg() -> None:
    assert all(version_key(one) < version_key(next_) for one, next_ in pairwise(ASCENDING))


@pytest.mark.parametrize(("one", "other"), [("1", "1-0"), ("1.0", "0:1.0"), ("1a", "1a0"), ("1.00", "1.0")])
def test_some_are_written_in_two_ways(one: str, other: str) -> None:
    assert version_key(one) == version_key(other)


@pytest.mark.parametrize(
    ("operator", "holds"),
    [
        ("<<", {"1"}),
        ("<=", {"1", "2"}),
        ("=", {"2"}),
        (">=", {"2", "3"}),
        (">>", {"3"}),
        ("", {"1", "2", "3"}),
    ],
)
def test_operators_are_debians(operator: str, holds: set[str]) -> None:
    assert {version for version in ("1", "2", "3") if meets(version, operator, "2")} == holds


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg")
def test_dpkg_says_the_same() -> None:
    script = "\n".join(
        f"dpkg --compare-versions '{a}' lt '{b}' && echo '{a} {b}'" for a, b in product(ASCENDING, repeat=2)
    )
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout.split("\n")
    ours = [f"{a} {b}" for a, b in product(ASCENDING, repeat=2) if meets(a, "<<", b)]
    assert said[:-1] == ours
