from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sysconfig
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard import elf
from gpuyard.elf import AARCH64, X86_64, Elf, read_elf, read_elf_file
from tests.unit.images.elf_files import make_elf

_FOLDERS = tuple(dict.fromkeys(Path(p) for p in ("/usr/lib", sysconfig.get_path("platlib"))))
_TAG = re.compile(r"\((NEEDED|SONAME|RPATH|RUNPATH)\)[^\[]*\[(.*)\]")
_FILE = re.compile(r"Version: \d+\s+File: (\S+)")
_VERSION = re.compile(r"^\s+0x[0-9a-f]+:\s+Name: (\S+)")


def real_libraries(most: int) -> list[Path]:
    """Libraries of this machine and of wheels."""
    found: list[Path] = []
    for folder in _FOLDERS:
        libraries = (path for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink())
        found += islice(filter(_is_elf, libraries), most)
    return found


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


class Pipe:
    """A stream that can't seek, and gives less than was asked for."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 1000))


def of(content: bytes) -> Elf | None:
    return read_elf(io.BytesIO(content))


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")
def test_reads_what_readelf_does() -> None:
    for path in real_libraries(20):
        told = subprocess.run(["readelf", "-dVW", path], capture_output=True, text=True, check=True).stdout
        expected: dict[str, list[str]] = {}
        versions: dict[str, list[str]] = {}
        for line in told.splitlines():
            if tag := _TAG.search(line):
                expected.setdefault(tag[1], []).append(tag[2])
            elif file := _FILE.search(line):
                versions[file[1]] = []
            elif versions and (version := _VERSION.search(line)) and "Flags:" in line and "Rev:" not in line:
                list(versions.values())[-1].append(version[1])
        with path.open("rb") as file_:
            found = read_elf(file_)
        assert found is not None, path
        assert list(found.needed) == expected.get("NEEDED", []), path
        assert found.soname == "".join(expected.get("SONAME", [])), path
        assert ":".join(found.rpath) == "".join(expected.get("RPATH", [])).strip(":"), path
        assert ":".join(found.runpath) == "".join(expected.get("RUNPATH", [])).strip(":"), path
        assert {file: list(names) for file, names in found.versions.items()} == versions, path


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("big_endian", [False, True])
def test_any_machine(bits: int, big_endian: bool) -> None:
    content = make_elf(
        "libme.so.1",
        ["libGL.so.1", "libc.so.6"],
        rpath="/old",
        runpath="$ORIGIN/../x.libs:/opt/lib",
        versions={"libc.so.6": ["GLIBC_2.34", "GLIBC_2.2.5"], "libm.so.6": ["GLIBC_2.29"]},
        bits=bits,
        machine=AARCH64,
        big_endian=big_endian,
    )
    expected = Elf(
        bits,
        AARCH64,
        "libme.so.1",
        ("libGL.so.1", "libc.so.6"),
        ("/old",),
        ("$ORIGIN/../x.libs", "/opt/lib"),
        {"libc.so.6": ("GLIBC_2.34", "GLIBC_2.2.5"), "libm.so.6": ("GLIBC_2.29",)},
    )
    assert of(content) == expected
    assert read_elf(Pipe(content)) == expected


def test_a_file_is_read_in_the_few_pieces_that_count(tmp_path: Path) -> None:
    path, content = tmp_path / "libx.so", make_elf("libx.so.1", ["libc.so.6"], padding=1 << 20)
    path.write_bytes(content)
    assert read_elf_file(path) == of(content) == Elf(64, X86_64, "libx.so.1", ("libc.so.6",))
    for size in range(0, 400, 7):
        path.write_bytes(content[:size])
        assert read_elf_file(path) is None
    assert read_elf_file(tmp_path) is None
    assert read_elf_file(tmp_path / "gone") is None
    os.mkfifo(tmp_path / "pipe")
    assert read_elf_file(tmp_path / "pipe") is None


def test_what_the_loader_has_nothing_to_do_with() -> None:
    assert of(b"") is None
    assert of(b"/* GNU ld script */ GROUP ( libc.so.6 )") is None
    assert of(b"\x7fELF") is None
    assert of(make_elf("libx.so.1")[:100]) is None


def test_a_huge_library_is_read_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf, "_KEPT", 4 << 20)
    content = make_elf("libbig.so.1", ["libc.so.6"], padding=60 << 20)
    tracemalloc.start()
    try:
        found = read_elf(io.BytesIO(content))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert found == Elf(64, X86_64, "libbig.so.1", ("libc.so.6",))


def test_names_that_lie_beyond_what_is_kept_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf, "_KEPT", 1 << 20)
    content = bytearray(make_elf("libx.so.1", padding=8 << 20))
    # The names are said to lie in the padding's middle, which was read over.
    table = content.rfind((5).to_bytes(8, "little"))
    content[table + 8 : table + 16] = (0x1000 + (4 << 20)).to_bytes(8, "little")
    assert of(bytes(content)) is None


def _seeds() -> list[bytes]:
    small = [path.read_bytes() for path in real_libraries(400) if path.stat().st_size < 40_000]
    made = [
        make_elf(
            "liba.so.1", ["libc.so.6"], versions={"libc.so.6": ["GLIBC_2.34"]}, bits=bits, big_endian=big
        )
        for bits in (32, 64)
        for big in (False, True)
    ]
    return [*small[:6], *made]


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_libraries_are_read_or_not_known(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        # Most of what counts lies in the front and in the table of the last kilobytes.
        place = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(content) - 1)))
        value = data.draw(st.binary(min_size=1, max_size=8))
        content[min(place, len(content)) : place + len(value)] = value
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    found = of(bytes(content))
    assert found is None or isinstance(found, Elf)
    assert read_elf(Pipe(bytes(content))) == found


SEEDS = _seeds()
