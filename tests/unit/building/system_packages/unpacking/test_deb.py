from __future__ import annotations

import errno
import io
import lzma
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.system_packages.unpacking.deb import Deb, ForwardTar, unpack_deb
from gpuyard.images.layers import FILE, FOLDER, HARD_LINK, LINK
from tests.unit.building.system_packages.debian_archive import DebFile

TREE = DebFile(
    "tree",
    fields={"Depends": "libc6"},
    files={
        "etc/tree.conf": b"conf\n",
        "usr/bin/tree": b"#!/bin/sh\n" * 100_000,
        "usr/lib/libtree.so.1": "libtree.so.1.0",
        "usr/share/last": b"end",
    },
    modes={"usr/bin/tree": 0o4755},
    hard_links={"usr/bin/tree2": "usr/bin/tree"},
    control={"conffiles": "/etc/tree.conf\n", "md5sums": "x  usr/bin/tree\n", "postinst": "#!/bin/sh\n"},
)


def unpacked(tmp_path: Path, deb: bytes, name: str = "tree") -> Deb:
    (tmp_path / "x.deb").write_bytes(deb)
    with (tmp_path / "x.tar.zst").open("wb") as kept:
        return unpack_deb(tmp_path / "x.deb", name, kept)


@pytest.mark.parametrize("packing", ["xz", "gz", "zst", ""])
def test_all_of_a_package_is_read_however_it_is_packed(tmp_path: Path, packing: str) -> None:
    deb = unpacked(tmp_path, TREE.to_bytes(packing))
    assert deb.fields["depends"] == "libc6"
    assert deb.extra == TREE.control
    assert [(m.path, m.kind, m.mode) for m in deb.members if m.kind != FOLDER] == [
        ("etc/tree.conf", FILE, 0o644),
        ("usr/bin/tree", FILE, 0o4755),
        ("usr/lib/libtree.so.1", LINK, 0o777),
        ("usr/share/last", FILE, 0o644),
        ("usr/bin/tree2", HARD_LINK, 0o644),
    ]
    assert deb.conffiles == {"etc/tree.conf": "b9a771b420047cfaa3543e66c78f44f6"}
    assert Deb.of(deb.to_json()) == deb


def test_files_are_read_forwards_in_pieces_of_one_size(tmp_path: Path) -> None:
    deb = unpacked(tmp_path, TREE.to_bytes())
    wanted = {m.path: m for m in deb.members}
    with ForwardTar(tmp_path / "x.tar.zst", "tree") as tar:
        program = wanted["usr/bin/tree"]
        pieces = list(tar.pieces(program.offset, program.size))
        assert b"".join(pieces) == TREE.files["usr/bin/tree"]
        assert {len(piece) for piece in pieces[:-1]} == {1 << 18}
        last = wanted["usr/share/last"]
        assert b"".join(tar.pieces(last.offset, last.size)) == b"end"


def test_xz_in_several_streams_is_read_to_its_end(tmp_path: Path) -> None:
    halves = member("./a", b"a" * 1000), member("./b", b"b") + bytes(1024)
    streams = b"".join(map(lzma.compress, halves)) + bytes(8)
    whole = hostile(*halves)
    before = whole[: whole.index(b"data.tar.xz")]
    deb = before + f"{'data.tar.xz':<48}{len(streams):<10}`\n".encode() + streams
    assert [m.path for m in unpacked(tmp_path, deb).members] == ["a", "b"]


@pytest.mark.parametrize("packing", ["xz", "gz", "zst"])
def test_what_is_damaged_in_the_middle_is_refused(tmp_path: Path, packing: str) -> None:
    content = bytearray(TREE.to_bytes(packing))
    start = content.index(b"data.tar") + 60 + 40
    content[start : start + 60] = bytes(60)
    with pytest.raises(errors.BuildError, match="the package tree can't be unpacked"):
        unpacked(tmp_path, bytes(content))


def test_a_full_disk_is_no_fault_of_the_package(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, content: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x.deb").write_bytes(TREE.to_bytes())
    with pytest.raises(OSError, match="No space left"):
        unpack_deb(tmp_path / "x.deb", "tree", Full())


def test_a_damaged_copy_in_the_cache_is_told(tmp_path: Path) -> None:
    deb = unpacked(tmp_path, TREE.to_bytes())
    kept = tmp_path / "x.tar.zst"
    kept.write_bytes(kept.read_bytes()[:-40])
    last = next(m for m in deb.members if m.path == "usr/share/last")
    with (
        ForwardTar(kept, "tree") as tar,
        pytest.raises(errors.BuildError, match="what the cache keeps of the package tree"),
    ):
        b"".join(tar.pieces(last.offset, last.size))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        TREE.to_bytes()[:-400],
        TREE.to_bytes()[:100],
        DebFile("x", files={"../../etc/x": b""}).to_bytes(),
    ],
)
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(errors.BuildError, match="the package tree can't be unpacked"):
        unpacked(tmp_path, content)


CONTROL = b"Package: tree\nVersion: 1.0\nArchitecture: amd64\n"


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object) -> bytes:
    """One entry of a tar, whose header says what no packing tool would."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in more.items():
        setattr(info, key, value)
    header = info.tobuf(tarfile.PAX_FORMAT if info.pax_headers else tarfile.GNU_FORMAT)
    return header + content + bytes(-len(content) % 512)


def hostile(*members: bytes, control: bytes = CONTROL, more: bytes = b"") -> bytes:
    """A package of these entries."""
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar": member("./control", control) + more + bytes(1024),
        "data.tar.xz": lzma.compress(b"".join(members) + bytes(1024), preset=0),
    }
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        + content
        + b"\n" * (len(content) % 2)
        for name, content in parts.items()
    )


_SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000000"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (hostile(member("./usr/.wh.lib")), "would remove a file of the base"),
        (hostile(member("./usr/.wh..wh..opq")), "would remove a file of the base"),
        (hostile(member("./usr/.wh.lib/x", b"x")), "would remove a file of the base"),
        (hostile(member("./dev/sda", kind=tarfile.BLKTYPE)), "is a device"),
        (
            hostile(member("./a", kind=tarfile.LNKTYPE, linkname="./etc/shadow")),
            "is a hard link to /etc/shadow",
        ),
        (hostile(member("./a", b"x", uid=1 << 40)), "belongs to 1099511627776:0"),
        (hostile(member("./a", b"1\n0\n512\n".ljust(512, b"\0"), pax_headers=_SPARSE)), "sparse"),
        (hostile(member("./a", b"x")[:200]), "one of its parts is not a tar archive"),
        (
            hostile(control=CONTROL + b"\nPackage: evil\nStatus: install ok installed\n"),
            "of a package of this name",
        ),
        (hostile(control=CONTROL.replace(b"tree", b"other")), "of a package of this name"),
        (hostile().replace(f"{4:<10}`".encode(), f"{-60:<10}`".encode()), "its ar archive is damaged"),
    ],
)
def test_what_would_harm_an_image_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(errors.BuildError, match=f"the package tree can't be unpacked: .*{why}"):
        unpacked(tmp_path, content)


def test_a_header_that_claims_to_be_huge_is_not_believed(tmp_path: Path) -> None:
    header = bytearray(member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME))
    header[124:136], header[148:156] = b"%011o\0" % (1 << 32), b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(errors.BuildError, match="says that it has 4294967296 bytes"):
        unpacked(tmp_path, hostile(bytes(header)))


def test_control_files_have_names_that_stay_in_dpkgs_folder(tmp_path: Path) -> None:
    names = ("../../../etc/cron.d/x", "list", "a/b", "postinst")
    deb = unpacked(tmp_path, hostile(more=b"".join(member(f"./{name}", b"x") for name in names)))
    assert deb.extra == {"postinst": "x"}


def test_a_conffile_of_zeros_does_not_fill_the_memory(tmp_path: Path) -> None:
    size = 100 << 20
    content = hostile(member("./etc/z", bytes(size)), more=member("./conffiles", b"/etc/z\n"))
    tracemalloc.start()
    try:
        deb = unpacked(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert deb.conffiles == {"etc/z": "2f282b84e7e608d5852449ed940bfc51"}
