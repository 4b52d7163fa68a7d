from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest

from gpuyard.building.libraries.missing import Available, Loader, Missing, missing_of, names_of
from gpuyard.building.libraries.module_imports import Import
from gpuyard.building.libraries.wheel_libraries import WheelLibraries
from gpuyard.building.python.wheels import Wheel
from gpuyard.elf import AARCH64, X86_64, Elf

MACHINE = (X86_64, 64)
WHEEL = Wheel("demo-1.0-cp311-cp311-linux_x86_64.whl", "0" * 64)


def lib(*needed: str, soname: str = "", glibc: str = "", machine: int = X86_64) -> Elf:
    versions = {"libc.so.6": (glibc, "GLIBC_2.2.5", "GLIBC_PRIVATE")} if glibc else {}
    return Elf(64, machine, soname, needed, versions=versions)


def missing(
    libraries: Mapping[str, Elf],
    sources: Mapping[str, str] | None = None,
    base: Sequence[str] = ("libz.so.1",),
    glibc: tuple[int, int] | None = (2, 36),
    others: Mapping[str, Elf] = MappingProxyType({}),
) -> list[Missing]:
    files = {**dict.fromkeys(libraries, ""), **(sources or {})}
    available = Available(MACHINE, {*base, *names_of({**others, **libraries}, (), MACHINE)}, glibc)
    return missing_of(
        WheelLibraries(WHEEL, libraries),
        Loader([libraries, others], available),
        lambda: files,
        lambda path: files[path].encode(),
    )


def test_what_a_package_needs_of_nobody() -> None:
    found = missing(
        {
            "cv2/cv2.abi3.so": lib(
                "libQt-1.so.5", "libc.so.6", "libz.so.1", "libcuda.so.1", "libnvidia-ml.so.1"
            ),
            "demo.libs/libQt-1.so.5": lib("libGL.so.1", "ld-linux-x86-64.so.2", soname="libQt-1.so.5"),
        },
        {"cv2/__init__.py": ""},
    )
    assert found == [Missing(WHEEL, Import.CERTAIN, ("libGL.so.1",), "cv2/cv2.abi3.so")]


def test_what_another_wheels_library_needs() -> None:
    """As PyQt6 gets Qt from a wheel of its own."""
    found = missing(
        {"PyQt6/QtGui.abi3.so": lib("libQt6Gui.so.6")},
        {"PyQt6/__init__.py": ""},
        others={"PyQt6/Qt6/lib/libQt6Gui.so.6": lib("libGL.so.1", soname="libQt6Gui.so.6")},
    )
    assert found == [Missing(WHEEL, Import.OFFERED, ("libGL.so.1",), "PyQt6/QtGui.abi3.so")]


def test_several_modules_of_one_kind_are_counted() -> None:
    found = missing(
        {"a/QtGui.abi3.so": lib("libGL.so.1"), "a/QtQml.abi3.so": lib("libX11.so.6")}, {"a/__init__.py": ""}
    )
    assert found == [Missing(WHEEL, Import.OFFERED, ("libGL.so.1", "libX11.so.6"), "a/QtGui.abi3.so", more=1)]


def test_a_wheels_own_library_comes_first() -> None:
    found = missing(
        {"a/a.abi3.so": lib("libavdevice.so.62"), "a.libs/libavdevice.so.62": lib()},
        {"a/__init__.py": ""},
        others={"b.libs/libavdevice.so.62": lib("libxcb.so.1")},
    )
    assert found == []


def test_nothing() -> None:
    libraries = {"a/_x.abi3.so": lib("libb.so.1", "libz.so.1"), "demo.libs/libb.so": lib(soname="libb.so.1")}
    assert missing(libraries, {"a/__init__.py": "from . import _x"}) == []


def test_plugins_that_nobody_imports() -> None:
    found = missing(
        {
            "numba/np/ufunc/tbbpool.cpython-311-x86_64-linux-gnu.so": lib("libtbb.so.12"),
            "numba/_x.abi3.so": lib(),
        },
        {"numba/__init__.py": "def f():\n  from numba.np.ufunc import tbbpool\nfrom . import _x"},
    )
    assert found == []


def test_the_surest_comes_first_and_nothing_twice() -> None:
    found = missing(
        {"a/_x.abi3.so": lib("libGL.so.1"), "a/_y.abi3.so": lib("libGL.so.1", "libX11.so.6")},
        {"a/__init__.py": "from . import _x\ntry:\n  from . import _y\nexcept ImportError: pass"},
    )
    assert found == [
        Missing(WHEEL, Import.CERTAIN, ("libGL.so.1",), "a/_x.abi3.so"),
        Missing(WHEEL, Import.TRIED, ("libX11.so.6",), "a/_y.abi3.so"),
    ]


def test_the_one_library_that_a_package_loads_itself() -> None:
    found = missing({"lightgbm/lib/lib_lightgbm.so": lib("libgomp.so.1")}, {"lightgbm/__init__.py": ""})
    assert [each.sonames for each in found] == [("libgomp.so.1",)]
    two = {"bnb/libbnb_cuda12.so": lib("libcudart.so.12"), "bnb/libbnb_cuda11.so": lib("libcudart.so.11.0")}
    assert missing(two, {"bnb/__init__.py": ""}) == []


def test_libraries_of_another_machine_neither_need_nor_bring() -> None:
    found = missing(
        {"a/a.abi3.so": lib("libb.so.1"), "a/arm/libb.so.1": lib("libGL.so.1", machine=AARCH64)},
        {"a/__init__.py": ""},
    )
    assert [each.sonames for each in found] == [("libb.so.1",)]


@pytest.mark.parametrize(
    ("base", "needed", "fails"),
    [((2, 36), "2.38", True), ((2, 39), "2.38", False), ((0, 0), "2.38", False), (None, "2.38", True)],
)
def test_a_glibc_that_is_too_old(base: tuple[int, int] | None, needed: str, fails: bool) -> None:
    found = missing({"a/a.abi3.so": lib(glibc=f"GLIBC_{needed}")}, {"a/__init__.py": ""}, glibc=base)
    assert found == (
        [Missing(WHEEL, Import.CERTAIN, ("libc.so.6",), "a/a.abi3.so", (2, 38))] if fails else []
    )
