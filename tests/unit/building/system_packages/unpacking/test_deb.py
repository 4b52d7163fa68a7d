from __future__ import annotations

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
