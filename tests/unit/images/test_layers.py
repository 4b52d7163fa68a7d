from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import random
import tarfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import aclosing

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.images.layers import (
    EPOCH,
    FOLDER,
    LINK,
    PIECE,
    Entry,
    Packer,
    compression,
    in_thread,
    tar_pieces,
    with_parents,
)

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=120
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


def read(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getmembers()


@given(st.dictionaries(paths, st.binary(max_size=2000), max_size=8))
def test_a_tar_gives_back_what_went_in(files: dict[str, bytes]) -> None:
    files = {p: c for p, c in files.items() if not any(other.startswith(p + "/") for other in files)}
    entries = with_parents(Entry.of_bytes(path, content) for path, content in files.items())
    tar = b"".join(tar_pieces(entries, 5))
    assert len(tar) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        seen = {
            info.name: archive.extractfile(info).read()  # type: ignore[union-attr]
            for info in archive
            if info.isreg()
        }
        assert {info.mtime for info in archive.getmembers()} <= {5}
    assert seen == files


def test_folders_lead_to_every_file_and_come_before_it() -> None:
    entries = with_parents([Entry.of_bytes("b/c/d", b""), Entry.of_bytes("a", b"")])
    assert [(entry.path, entry.kind == FOLDER) for entry in entries] == [
        ("a", False), ("b", True), ("b/c", True), ("b/c/d", False),
    ]  # fmt: skip


def test_of_two_entries_for_a_path_the_later_wins() -> None:
    (entry,) = with_parents([Entry.of_bytes("a", b"1"), Entry.of_bytes("a", b"22")])
    assert entry.size == 2


@pytest.mark.parametrize("name", ["n" * 101, "ümläut", "d/" * 80 + "f"])
def test_what_ustar_cannot_say_is_said_in_pax(name: str) -> None:
    (info,) = read(b"".join(tar_pieces([Entry.of_bytes(name, b"x", mode=0o755)], 7)))
    assert (info.name, info.mode, info.mtime, info.size, info.uid) == (name, 0o755, 7, 1, 0)


def test_links_and_folders() -> None:
    link, folder = read(
        b"".join(tar_pieces([Entry.link("l", "t" * 150), Entry.folder("f", mode=0o1777, owner=1000)], 0))
    )
    assert (link.type, link.linkname) == (LINK, "t" * 150)
    assert (folder.type, folder.mode, folder.uid, folder.gid) == (FOLDER, 0o1777, 1000, 1000)


def test_a_file_that_changes_meanwhile_is_noticed() -> None:
    entry = Entry("a", 3, lambda: (b"1234",))
    with pytest.raises(errors.BuildError, match="4 bytes and was to have 3"):
        list(tar_pieces([entry], 0))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_packed_layer_knows_both_digests(kind: str) -> None:
    how = compression(kind)
    entries = [Entry.of_bytes("a", b"x" * 3_000_000)]
    tar = b"".join(tar_pieces(entries, 0))
    packer = Packer.of_entries(entries, 0, how)
    packed = b"".join(packer)
    if kind == "gzip":
        inflate = zlib.decompressobj(31)
        assert inflate.decompress(packed) == tar
        assert inflate.eof and not inflate.unused_data  # some tools read no second member
    else:
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        assert reader.read() == tar
    layer = packer.layer
    assert layer.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert layer.blob.digest == "sha256:" + hashlib.sha256(packed).hexdigest()
    assert (layer.blob.size, layer.tar_bytes) == (len(packed), len(tar))
    assert layer.blob.media_type.endswith(kind)
    assert type(layer).of(layer.to_json()) == layer


def test_no_time_or_name_gets_into_the_gzip_header() -> None:
    packed = b"".join(Packer([b"x"], compression()))
    assert packed[:4] == b"\x1f\x8b\x08\x00" and packed[4:8] == b"\0\0\0\0"


def test_a_path_is_a_file_or_a_folder() -> None:
    with pytest.raises(errors.BuildError, match="a/b as a file and as a folder with a/b/c/d in it"):
        with_parents([Entry.of_bytes("a/b", b""), Entry.of_bytes("a/b/c/d", b"")])
    with pytest.raises(errors.BuildError, match="a as a file and as a folder"):
        with_parents([Entry.link("a", "b"), Entry.of_bytes("a/c", b"")])
    entries = with_parents([Entry.folder("a"), Entry.of_bytes("a/b", b"")])
    assert [entry.path for entry in entries] == ["a", "a/b"]


@pytest.mark.parametrize(
    ("owner", "group"), [(33, 44), (8**7 - 1, 0), (8**7, 5), (4294967294, 4294967294), (1000, None)]
)
def test_owner_and_group_of_any_size(owner: int, group: int | None) -> None:
    tar = b"".join(tar_pieces([Entry.folder("data", mode=0o2770, owner=owner, group=group)], 0))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        (info,) = archive.getmembers()
    assert (info.uid, info.gid, info.mode) == (owner, owner if group is None else group, 0o2770)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_layer_is_the_same_wherever_its_pieces_end(kind: str) -> None:
    """A disk, a pipe or a zip's member may give less than was asked for."""
    chance = random.Random(1)
    words = [chance.randbytes(chance.randrange(2, 12)) for _ in range(3000)]
    tar = b" ".join(chance.choices(words, k=500_000))
    found = []
    for cuts in ([], [1], [PIECE - 1], [PIECE + 1, 2 * PIECE], sorted(chance.sample(range(len(tar)), 50))):
        pieces = [tar[start:end] for start, end in itertools.pairwise([0, *cuts, len(tar)])]
        packer = Packer(pieces, compression(kind))
        packed = b"".join(packer)
        assert packer.layer.blob.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
        found.append(packer.layer)
    assert found == [found[0]] * len(found)


@pytest.mark.parametrize("path", [".wh.weights.bin", "app/.wh..wh..opq", "app/.wh.folder/a.py"])
def test_a_name_that_would_take_files_away_is_refused(path: str) -> None:
    with pytest.raises(errors.BuildError, match=r"takes other files away"):
        list(tar_pieces([Entry.of_bytes(path, b"")], EPOCH))
    assert list(tar_pieces([Entry.removal("app/weights.bin")], EPOCH))
    assert Entry.removal("bin").path == ".wh.bin"


async def test_an_iterator_runs_ahead_of_its_reader_and_no_further_when_he_leaves() -> None:
    made: list[int] = []
    ahead = threading.Event()

    def pieces() -> Iterator[bytes]:
        for number in range(1000):
            made.append(number)
            if number == 4:
                ahead.set()
            yield bytes([number % 256])

    async with aclosing(in_thread(pieces())) as reader:
        assert [await anext(reader), await anext(reader)] == [b"\0", b"\1"]
        assert await asyncio.to_thread(ahead.wait, 10)
    assert len(made) < 100


async def test_what_an_iterator_raises_in_its_thread_comes_after_its_pieces() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"1"
        raise errors.BuildError("no more")

    seen = []
    with pytest.raises(errors.BuildError, match="no more"):
        async for piece in in_thread(pieces()):
            seen.append(piece)  # noqa: PERF401 (a comprehension would lose them)
    assert seen == [b"1"]
