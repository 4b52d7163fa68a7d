from __future__ import annotations

import pytest

from gpuyard.building.libraries.debian_packages import is_debian, packages_of
from gpuyard.images.contents.os_release import os_release

WANTED = ("libGL.so.1", "libxcb.so.1", "libglib-2.0.so.0", "libgthread-2.0.so.0", "libodd.so.3")


def release(text: str) -> dict[str, str]:
    return os_release({"etc/os-release": text.encode()})


@pytest.mark.parametrize(
    ("system", "glib"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "libglib2.0-0"),
        ('ID=debian\nVERSION_ID="13"\n', "libglib2.0-0t64"),
        ("ID=debian\n", "libglib2.0-0t64"),
        ('ID=ubuntu\nVERSION_ID="22.04"\nID_LIKE=debian\n', "libglib2.0-0"),
        ('ID=ubuntu\nVERSION_ID="24.04"\nID_LIKE=debian\n', "libglib2.0-0t64"),
    ],
)
def test_by_the_names_of_the_release(system: str, glib: str) -> None:
    assert is_debian(release(system))
    assert packages_of(WANTED, release(system)) == (["libgl1", glib, "libxcb1"], ["libodd.so.3"])


def test_others() -> None:
    assert is_debian(release('ID=linuxmint\nID_LIKE="ubuntu debian"\n'))
    assert not is_debian(release('ID="rocky"\nID_LIKE="rhel centos fedora"\n'))
    assert not is_debian(os_release({}))
    assert os_release({"usr/lib/os-release": b"ID=debian\n"}) == {"ID": "debian"}
