from __future__ import annotations

import io

from gpuyard.elf import X86_64, Elf
from gpuyard.images.contents.reader import ContentsReader
from gpuyard.images.contents.system import BaseSystem
from tests.unit.images.conftest import LIBC, Files, debian_files, tar_of
from tests.unit.images.elf_files import make_elf

LIBRARIES = "usr/lib/x86_64-linux-gnu"


def system(*layers: Files) -> BaseSystem:
    reader = ContentsReader()
    for layer in layers:
        reader.read_layer(io.BytesIO(tar_of(layer)))
    found = reader.system({})
    kept = BaseSystem.of(found.to_json())
    assert (kept.files, kept.libraries) == (found.files, found.libraries)
    assert (kept.library_links, kept.requires) == (found.library_links, found.requires)
    return found


def test_files_of_the_package_manager_and_the_loader() -> None:
    kept: dict[str, bytes | str] = {
        "usr/lib/os-release": "ID=debian\n",
        "var/lib/dpkg/status": b"Package: a\nMaintainer: \xc3\xa9\xff\n",
        "var/lib/dpkg/status.d/base": "Package: base\n",
        "var/lib/dpkg/arch": "amd64\n",
        "etc/apt/sources.list": "deb http://x y main\n",
        "etc/apt/sources.list.d/debian.sources": "Types: deb\n",
        "etc/apt/trusted.gpg.d/a.gpg": b"\x99\x00",
        "usr/share/keyrings/debian.gpg": b"\x99\x01",
        "etc/ld.so.conf": "include x\n",
        "etc/ld.so.conf.d/libc.conf": "/usr/local/lib\n",
        "etc/ld.so.cache": b"glibc-ld.so.cache1.1\0",
    }
    other: Files = {
        "etc/os-release": "-> ../usr/lib/os-release",
        "etc/hostname": "x",
        "var/lib/dpkg/lock": "",
    }
    found = system({**kept, **other})
    assert found.files == {
        path: text.encode() if isinstance(text, str) else text for path, text in kept.items()
    } | {"etc/os-release": b"ID=debian\n"}


def test_libraries_and_the_links_to_them() -> None:
    files: Files = {
        f"{LIBRARIES}/libxcb.so": "-> libxcb.so.1",
        f"{LIBRARIES}/libxcb.so.1": "-> libxcb.so.1.1.0",
        f"{LIBRARIES}/libxcb.so.1.1.0": make_elf("libxcb.so.1", ["libXau.so.6", "libc.so.6"]),
        f"{LIBRARIES}/libtext.so": "INPUT(-lm)",
        f"{LIBRARIES}/libXau.so.6": make_elf("libXau.so.6"),
        f"{LIBRARIES}/libc.so.6": make_elf("libc.so.6") + LIBC,
    }
    found = system(files, {f"{LIBRARIES}/.wh.libXau.so.6": ""})
    assert found.libraries == {
        f"{LIBRARIES}/libxcb.so.1.1.0": Elf(64, X86_64, "libxcb.so.1", ("libXau.so.6", "libc.so.6")),
        f"{LIBRARIES}/libc.so.6": Elf(64, X86_64, "libc.so.6"),
    }
    assert found.library_links == {
        f"{LIBRARIES}/libxcb.so": f"{LIBRARIES}/libxcb.so.1.1.0",
        f"{LIBRARIES}/libxcb.so.1": f"{LIBRARIES}/libxcb.so.1.1.0",
    }


def test_what_the_packages_of_its_python_require() -> None:
    folder = "usr/lib/python3/dist-packages"
    found = system(
        debian_files(),
        {
            f"{folder}/a-1.dist-info/METADATA": "Name: a\nVersion: 1\nRequires-Dist: b>=2\n\nand: c",
            f"{folder}/old-1.egg-info/PKG-INFO": "Name: old\nVersion: 1\n",
            f"{folder}/old-1.egg-info/requires.txt": "six\n",
        },
    )
    assert found.requires == {"a": ("b>=2",), "old": ("six",), "pyyaml": ()}
