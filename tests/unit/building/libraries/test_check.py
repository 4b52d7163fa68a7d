from __future__ import annotations

from collections.abc import Mapping

import pytest

from gpuyard import errors
from gpuyard.building.copied_images import CopiedPath
from gpuyard.elf import AARCH64, Elf, Readable, read_elf
from gpuyard.images.oci import Platform
from tests.unit.building.libraries.test_contents_index import publish
from tests.unit.building.system_packages.conftest import archive
from tests.unit.building.system_packages.debian_archive import DebianArchive
from tests.unit.images.conftest import LIBC, MakeWheel, Workshop, debian_files
from tests.unit.images.elf_files import make_elf

__all__ = ["archive"]

TAG = "cp311-cp311-linux_x86_64"
CV2 = {"cv2/__init__.py": "", "cv2/cv2.abi3.so": make_elf("", ["libGL.so.1", "libc.so.6", "libxcb.so.1"])}


#: Of a project with native code: it packs what a compiler would have made.
BACKEND = """\
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "own-1.0-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        archive.write("own.abi3.so")
        info = "own-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: own\\nVersion: 1.0\\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nTag: cp311-cp311-linux_x86_64\\n")
        archive.writestr(f"{info}/RECORD", "")
    return name
"""


async def make_base(
    workshop: Workshop, more: Mapping[str, bytes | str] | None = None, name: str = "12"
) -> None:
    """With one library, so that it is known what it has."""
    release = "ID=debian\nVERSION_ID=12\n"
    libraries = {"usr/lib/x86_64-linux-gnu/libz.so.1": make_elf("libz.so.1")}
    await workshop.make_base(
        {**debian_files(), "etc/os-release": release, **libraries, **(more or {})}, name=name
    )


async def test_a_wheel_that_cannot_be_imported(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await make_base(workshop)
    make_wheel("opencv_python", "4.10", CV2, tag=TAG)
    requirements = workshop.require("opencv-python")
    with pytest.raises(errors.BuildError) as caught:
        await workshop.build(requirements=requirements)
    assert str(caught.value).startswith(
        "opencv-python 4.10 can't be imported: it needs libGL.so.1 and libxcb.so.1, which the image lacks"
    )
    remedy = caught.value.remedy or ""
    assert "`system_packages: [libgl1, libxcb1]`" in remedy
    assert "opencv-python-headless" in remedy and "--allow-missing-library" in remedy
    # All its layers are known now, and the lock is: it is refused all the same.
    with pytest.raises(errors.BuildError, match="can't be imported"):
        await workshop.build(requirements=requirements)
    allowed = ("libGL.so.1", "libxcb.so.1")
    workshop.heard.said.clear()
    await workshop.build(requirements=requirements, allow_missing_libraries=(*allowed, "libGl.so.1"))
    assert [text for text in workshop.heard.said if "allow-missing" in text] == [
        "warning: --allow-missing-library libGl.so.1 allows nothing: no wheel lacks it"
    ]


async def test_a_base_or_another_wheel_brings_it(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await make_base(
        workshop,
        {
            "usr/lib/x86_64-linux-gnu/libGL.so.1.7.0": make_elf("libGL.so.1"),
            "usr/lib/x86_64-linux-gnu/libGL.so.1": "-> libGL.so.1.7.0",
        },
    )
    make_wheel("opencv_python", "4.10", CV2, tag=TAG, requires=("xcb",))
    make_wheel("xcb", files={"xcb/lib/libxcb.so.1": make_elf("libxcb.so.1")}, tag="py3-none-linux_x86_64")
    await workshop.build(requirements=workshop.require("opencv-python"))
    assert not [text for text in workshop.heard.said if "import" in text]


async def test_what_is_copied_or_shipped_counts(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await make_base(workshop)
    other = make_elf("libxcb.so.1")
    libraries: dict[str, bytes | str] = {
        "opt/gl/libGL.so.1.7.0": make_elf("libGL.so.1"),
        "opt/gl/libGL.so.1": "-> libGL.so.1.7.0",
        "opt/other/libxcb.so.1": other,
    }
    await make_base(workshop, libraries, name="gl")
    make_wheel("opencv_python", "4.10", CV2, tag=TAG)
    requirements = workshop.require("opencv-python")
    copies = (CopiedPath.parse(f"oci:{workshop.folder / 'base'}:gl:/opt/gl"),)
    with pytest.raises(errors.BuildError, match=r"it needs libxcb\.so\.1, which"):
        await workshop.build(requirements=requirements, copies=copies)
    (workshop.app / "lib").mkdir()
    (workshop.app / "lib" / "libxcb.so.1").write_bytes(other)
    await workshop.build(requirements=requirements, copies=copies)


async def test_what_is_no_longer_shipped_is_missed(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await make_base(workshop)
    make_wheel("opencv_python", "4.10", CV2, tag=TAG)
    requirements = workshop.require("opencv-python")
    (workshop.app / "lib").mkdir()
    shipped = [workshop.app / "lib" / name for name in ("libGL.so.1", "libxcb.so.1")]
    for path in shipped:
        path.write_bytes(make_elf(path.name))
    await workshop.build(requirements=requirements)
    shipped[0].unlink()
    with pytest.raises(errors.BuildError, match=r"it needs libGL\.so\.1, which"):
        await workshop.build(requirements=requirements)


@pytest.mark.parametrize(
    ("module", "libc", "words", "remedy"),
    [
        (
            make_elf("", ["libGL.so.1"]),
            LIBC,
            r"own 1\.0 can't be imported: it needs libGL\.so\.1, which the image",
            "system_packages: [libgl1]",
        ),
        (
            make_elf("", ["libc.so.6"], versions={"libc.so.6": ["GLIBC_2.4", "GLIBC_2.99"]}),
            LIBC,
            r"it needs glibc 2\.99, and the base has 2\.36",
            "build on a machine as old as the base",
        ),
        (
            make_elf("", ["libc.so.6"], versions={"libc.so.6": ["GLIBC_2.4"]}),
            b"",
            r"it needs glibc 2\.4, and the base has musl",
            "choose a base with glibc",
        ),
    ],
    ids=["library", "newer glibc", "musl"],
)
async def test_a_project_of_ones_own_is_held_to_the_same(
    workshop: Workshop, module: bytes, libc: bytes, words: str, remedy: str
) -> None:
    musl = {} if libc else {"lib/ld-musl-x86_64.so.1": b"\x7fELF"}
    await make_base(workshop, {"usr/lib/x86_64-linux-gnu/libc.so.6": libc, **musl})
    (workshop.app / "backend.py").write_text(BACKEND)
    (workshop.app / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (workshop.app / "own.abi3.so").write_bytes(module)
    with pytest.raises(errors.BuildError, match=words) as caught:
        await workshop.build(requirements=workshop.app / "pyproject.toml", build_project=True)
    assert remedy in (caught.value.remedy or "")


async def test_a_part_that_a_package_may_do_without(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await make_base(workshop)
    files = {
        "pygame/__init__.py": "try:\n  import pygame.mixer\nexcept ImportError:\n  pass\n",
        "pygame/mixer.cpython-311-x86_64-linux-gnu.so": make_elf("", ["libodd.so.2", "libX11.so.6"]),
    }
    make_wheel("pygame", files=files, tag=TAG)
    await workshop.build(requirements=workshop.require("pygame"))
    (said,) = [text for text in workshop.heard.said if "import" in text]
    assert said.startswith(
        "warning: a part of pygame 1.0 can't be imported: pygame/mixer.cpython-311-x86_64-linux-gnu.so needs "
        "libX11.so.6 and libodd.so.2, which the image lacks; `system_packages: [libx11-6]` brings some of it"
    )


async def test_a_wheel_newer_than_the_bases_glibc(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await make_base(workshop)
    module = make_elf("", ["libc.so.6"], versions={"libc.so.6": ["GLIBC_2.99"]})
    make_wheel("new", files={"new.abi3.so": module}, tag=TAG)
    with pytest.raises(errors.BuildError, match=r"it needs glibc 2\.99, and the base has 2\.36"):
        await workshop.build(requirements=workshop.require("new"))
    await workshop.build(requirements=workshop.require("new"), allow_missing_libraries=("libc.so.6",))
    assert not [text for text in workshop.heard.said if "allow-missing" in text]


async def test_the_bases_archives_tell_the_package_of_an_odd_library(
    workshop: Workshop, make_wheel: MakeWheel, archive: DebianArchive
) -> None:
    make_wheel("odd", files={"odd.abi3.so": make_elf("", ["libodd.so.1", "libGL.so.1"])}, tag=TAG)
    requirements = workshop.require("odd")
    await make_base(workshop, {path: content for path, content in archive.base_files().items() if content})
    with pytest.raises(errors.BuildError) as caught:
        await workshop.build(requirements=requirements)
    assert "`system_packages: [libgl1]` brings some of it" in (caught.value.remedy or "")
    assert "find the package of libodd.so.1 with `apt-file search`" in (caught.value.remedy or "")
    publish(archive, "main/Contents-amd64.gz")
    with pytest.raises(errors.BuildError) as caught:
        await workshop.build(requirements=requirements)
    assert "`system_packages: [libgl1, libodd1]` brings what is missing" in (caught.value.remedy or "")


async def test_a_base_of_another_distribution(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await make_base(workshop, {"etc/os-release": "ID=rocky\n"})
    make_wheel("opencv_python", "4.10", CV2, tag=TAG)
    with pytest.raises(errors.BuildError) as caught:
        await workshop.build(requirements=workshop.require("opencv-python"))
    assert "choose a base that has them (Debian's packages libgl1 and libxcb1)" in (caught.value.remedy or "")


async def test_a_wheel_is_read_once(
    workshop: Workshop, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_base(workshop)
    make_wheel("plain", files={"plain.abi3.so": make_elf("", ["libc.so.6", "libz.so.1"])}, tag=TAG)
    read: list[Readable] = []

    def reading(file: Readable) -> Elf | None:
        read.append(file)
        return read_elf(file)

    monkeypatch.setattr("gpuyard.building.libraries.wheel_libraries.read_elf", reading)
    requirements = workshop.require("plain")
    await workshop.build(requirements=requirements)
    (workshop.app / "train.py").write_text("print('changed')\n")
    await workshop.build(requirements=requirements)
    await make_base(workshop, {"etc/new": b"x"})
    await workshop.build(requirements=requirements, upgrade=True)
    assert len(read) == 1


async def test_an_edit_looks_at_no_library(
    workshop: Workshop, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_base(workshop)
    make_wheel("plain", files={"plain.abi3.so": make_elf("", ["libc.so.6"])}, tag=TAG)
    await workshop.build(requirements=workshop.require("plain"))
    looked: list[object] = []
    monkeypatch.setattr("gpuyard.building.libraries.check.check_libraries", looked.append)
    (workshop.app / "train.py").write_text("print('changed')\n")
    assert not (await workshop.build(requirements=workshop.require("plain"))).unchanged
    assert looked == []


async def test_an_arm_image_has_arms_libraries(workshop: Workshop, make_wheel: MakeWheel) -> None:
    libraries = {"usr/lib/aarch64-linux-gnu/libGL.so.1": make_elf("libGL.so.1", machine=AARCH64)}
    await workshop.make_base({**debian_files(), **libraries}, platform="linux/arm64")
    module = make_elf("", ["libGL.so.1", "libxcb.so.1"], machine=AARCH64)
    make_wheel("see", files={"see.abi3.so": module}, tag="cp311-cp311-linux_aarch64")
    with pytest.raises(errors.BuildError, match=r"it needs libxcb\.so\.1, which"):
        await workshop.build(requirements=workshop.require("see"), platforms=(Platform("linux", "arm64"),))
