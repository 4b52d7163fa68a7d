from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from typing import IO, cast

import pytest

from gpuyard.images.contents.folders import A_CIRCLE, A_FILE, FolderMode, Folders
from gpuyard.images.contents.reader import ContentsReader
from tests.unit.images.conftest import Files, tar_of


def folders(*layers: Files) -> Folders:
    reader = ContentsReader()
    for layer in layers:
        reader.read_layer(io.BytesIO(tar_of(layer)))
    found = reader.contents({}).folders
    assert Folders.of(found.to_json()) == found
    assert Folders.of(found.to_json()).links == found.links
    assert Folders.of(found.to_json()).special == found.special
    return found


def owned(path: str, mode: int, uid: int = 0, gid: int = 0) -> bytes:
    """A layer with one folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, uid, gid
        archive.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/bin/sh", "usr/bin/sh"),
        ("lib64/x/y", "usr/lib64/x/y"),
        ("/workspace/a", "mnt/disk/ws/a"),
        ("/workspace/../b", "mnt/disk/b"),
        ("/usr/..//etc", "etc"),
        ("/bin/../lib64/./z", "usr/lib64/z"),
        ("/srv/code", "srv/code"),
        ("/made/later/x", "not/there/x"),
        ("/", ""),
        ("/../..", ""),
    ],
)
def test_links_are_followed_as_the_kernel_does(path: str, leads_to: str) -> None:
    found = folders(
        {"usr/bin/": "", "bin": "-> usr/bin", "lib64": "-> usr/lib64", "usr/lib64/": "", "srv/": ""},
        {
            "workspace": "-> /data/ws",
            "data": "-> mnt/disk",
            "mnt/disk/ws/x": "",
            "made/later": "-> ../not/there",
        },
    )
    assert found.follow(path) == leads_to
    assert found.obstacles == {"mnt/disk/ws/x": A_FILE}


def test_what_no_folder_can_be_made_below_is_told() -> None:
    found = folders(
        {
            "workspace": "-> loop",
            "loop": "-> workspace",
            "data/ws": "-> /srv/model.bin",
            "srv/model.bin": "x",
            "home/user/work/app": "a file",
            "usr/bin/sh": "-> dash",
            "usr/bin/dash": "elf",
        }
    )
    assert found.obstacles == {
        "workspace": A_CIRCLE,
        "loop": A_CIRCLE,
        "data/ws": A_FILE,
        "srv/model.bin": A_FILE,
        "home/user/work/app": A_FILE,
    }
    assert found.links == {}


def test_a_higher_layer_changes_what_a_link_leads_to() -> None:
    below: Files = {"workspace": "-> data", "data": "a file"}
    assert folders(below, {".wh.data": ""}).links == {"workspace": "data"}
    assert folders(below, {"data/": ""}).links == {"workspace": "data"}
    assert folders(below, {"data/": ""}).obstacles == {}
    assert folders(below, {"workspace/": ""}).links == {}
    assert (
        folders({"workspace": "-> data", "data/x": ""}, {"data": "a file"}).obstacles["workspace"] == A_FILE
    )
    assert folders(below, {".wh.data": ""}, {"data": "again"}).obstacles["workspace"] == A_FILE


def test_a_hard_link_to_a_link_is_one() -> None:
    found = folders({"data/ws/x": "", "here": "-> data/ws", "workspace": "=> here"})
    assert found.links == {"here": "data/ws", "workspace": "data/ws"}


def test_a_file_in_the_place_of_a_folder_takes_away_what_was_in_it() -> None:
    found = folders({"data/inner": "-> /etc", "etc/x": ""}, {"data": "a file"})
    assert found.links == {}


def test_folders_that_are_others_than_roots() -> None:
    reader = ContentsReader()
    for layer in (owned("tmp", 0o1777), owned("data", 0o700, 33, 44), owned("srv", 0o755)):
        reader.read_layer(io.BytesIO(layer))
    reader.read_layer(io.BytesIO(tar_of({"data/inside": "", "tmp/inside": ""})))
    found = reader.contents({}).folders
    assert found.special == {"tmp": FolderMode(0o1777, 0, 0), "data": FolderMode(0o700, 33, 44)}
    assert [found.mode(path).lets_in(1000) for path in ("tmp", "data", "srv", "new")] == [
        True,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("mode", "lets_in"),
    [
        (FolderMode(0o700, 1000, 0), True),
        (FolderMode(0o077, 1000, 1000), False),
        (FolderMode(0o710, 0, 1000), True),
        (FolderMode(0o701, 0, 1000), False),
        (FolderMode(0o701, 0, 0), True),
        (FolderMode(0o750, 0, 0), False),
    ],
)
def test_who_reaches_what_is_in_a_folder(mode: FolderMode, lets_in: bool) -> None:
    assert mode.lets_in(1000) is lets_in


class ManyFiles:
    """A tar that is never in memory as a whole."""

    def __init__(self, count: int) -> None:
        self._pieces = self._headers(count)
        self._rest = b""

    def _headers(self, count: int) -> Iterator[bytes]:
        for number in range(count):
            yield tarfile.TarInfo(f"opt/conda/lib/python3.11/{number % 500}/{number}.py").tobuf()
        yield bytes(1024)

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def test_of_a_file_that_nobody_asks_for_eight_bytes_are_kept() -> None:
    reader = ContentsReader()
    tracemalloc.start()
    try:
        reader.read_layer(cast("IO[bytes]", ManyFiles(3_000)))
        few = tracemalloc.get_traced_memory()[0]
        reader.read_layer(cast("IO[bytes]", ManyFiles(9_000)))
        assert tracemalloc.get_traced_memory()[0] - few < 9_000 * 12
    finally:
        tracemalloc.stop()
