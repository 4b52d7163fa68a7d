from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.workdir.file_digests import FileDigests
from gpuyard.building.workdir.file_state import file_system_time_ns
from gpuyard.images.cache import Cache
from tests.waiting import until


class Folder:
    """A folder with one file, whose digest is asked for again and again; how often it was read."""

    def __init__(self, root: Path) -> None:
        self.root = root / "app"
        self.root.mkdir()
        self.cache = Cache(root / "cache")
        self.file = self.root / "model.bin"
        self.reads = 0
        self.now_ns = 10**18
        self.behind_ns: int | None = None
        self.file.write_bytes(b"first")
        self.let_time_pass()

    def let_time_pass(self) -> None:
        """Until the file system's clock has moved."""

        def moved() -> bool:
            found = self.file.stat()
            now = file_system_time_ns(self.root, found.st_dev)
            return now is not None and now > found.st_ctime_ns

        until(moved, "the file system's clock moves")

    def clock(self, folder: Path, device: int) -> int | None:
        if self.behind_ns is not None:
            return self.file.stat().st_ctime_ns - self.behind_ns
        return file_system_time_ns(folder, device)

    async def digest(self) -> str:
        before: list[int] = []
        digests = FileDigests(
            self.root,
            self.cache,
            lambda done, total: before.append(done),
            now_ns=lambda: self.now_ns,
            file_system_time_ns=self.clock,
        )
        found = await digests.digests({"model.bin": self.file.stat().st_size})
        self.reads += bool(before)
        return found["model.bin"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_what_did_not_change_is_read_once(folder: Folder) -> None:
    assert [await folder.digest() for _ in range(3)] == [sha256(b"first")] * 3
    assert folder.reads == 1


@pytest.mark.parametrize("way", ["written", "replaced", "grown"])
async def test_a_change_is_seen_though_its_time_is_set_back(folder: Folder, way: str) -> None:
    await folder.digest()
    before = folder.file.stat()
    content = b"other" if way != "grown" else b"first and more"
    if way == "replaced":
        other = folder.root / "other"
        other.write_bytes(content)
        other.replace(folder.file)
    else:
        folder.file.write_bytes(content)
    os.utime(folder.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await folder.digest() == sha256(content)
    assert folder.reads == 2


async def test_what_a_mapping_changes_is_seen(folder: Folder) -> None:
    """A page that waits for the disk is written to without a change of any time."""
    with folder.file.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:5] = b"dirty"
        folder.let_time_pass()
        assert await folder.digest() == sha256(b"dirty")
        memory[:5] = b"later"
        assert await folder.digest() == sha256(b"later")


@pytest.mark.parametrize("behind_ns", [0, 10**9])
async def test_a_file_that_could_change_within_the_clock_s_step_is_read_again(
    folder: Folder, behind_ns: int
) -> None:
    folder.behind_ns = behind_ns
    await folder.digest()
    await folder.digest()
    assert folder.reads == 2
    folder.behind_ns = -1
    await folder.digest()
    await folder.digest()
    assert folder.reads == 3


async def test_a_clock_that_was_set_back_makes_all_be_read_again(folder: Folder) -> None:
    await folder.digest()
    folder.now_ns -= 1
    await folder.digest()
    assert folder.reads == 2
    await folder.digest()
    assert folder.reads == 2


async def test_where_the_file_system_s_clock_is_not_known_nothing_is_remembered(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert file_system_time_ns(Path("/proc"), folder.file.stat().st_dev) is None
    assert file_system_time_ns(folder.root, folder.file.stat().st_dev + 1) is None
    monkeypatch.setattr(folder, "clock", lambda folder, device: None)
    await folder.digest()
    await folder.digest()
    assert folder.reads == 2


async def test_a_file_that_changes_while_it_is_read_ends_the_build(folder: Folder) -> None:
    folder.file.write_bytes(bytes(40 << 20))
    folder.let_time_pass()

    def write(done: int, total: int) -> None:
        if done < total:
            with folder.file.open("r+b") as file:
                file.write(b"x")

    digests = FileDigests(folder.root, folder.cache, write)
    with pytest.raises(errors.BuildError, match=r"model\.bin changed while"):
        await digests.digests({"model.bin": 40 << 20})
    assert await folder.digest() == sha256(b"x" + bytes((40 << 20) - 1))


@pytest.mark.parametrize("instead", ["nothing", "link", "fifo", "other size"])
async def test_a_file_that_is_another_by_now_ends_the_build(folder: Folder, instead: str) -> None:
    await folder.digest()
    folder.file.unlink()
    if instead == "link":
        folder.file.symlink_to("/etc/passwd")
    elif instead == "fifo":
        os.mkfifo(folder.file)
    elif instead == "other size":
        folder.file.write_bytes(b"longer than first")
    digests = FileDigests(folder.root, folder.cache, lambda done, total: None)
    with pytest.raises(errors.BuildError, match=r"model\.bin changed while"):
        await digests.digests({"model.bin": 5})


async def test_names_of_any_bytes_are_remembered(folder: Folder) -> None:
    name = os.fsdecode(b"m\xff\xfe.bin")
    folder.file.rename(folder.root / name)
    folder.file = folder.root / name
    folder.let_time_pass()
    reads: list[int] = []
    for _ in range(2):
        digests = FileDigests(folder.root, folder.cache, lambda done, total: reads.append(done))
        assert await digests.digests({name: 5}) == {name: sha256(b"first")}
    assert len(reads) == 1


async def test_a_damaged_memory_is_as_good_as_none(folder: Folder) -> None:
    await folder.digest()
    (entry,) = (folder.cache.folder / "file-digests").iterdir()
    for content in (
        b"[]",
        b"\xff",
        b'{"at_ns": 1, "files": {"model.bin": [1]}}',
        b'{"at_ns": "x", "files": {}}',
    ):
        entry.write_bytes(content)
        assert await folder.digest() == sha256(b"first")
    assert folder.reads == 5


async def test_no_change_is_missed_however_fast_it_follows(tmp_path: Path) -> None:
    """Changes of the same size right after each read, with mtime set back, as an unpacker does."""
    folder = Folder(tmp_path)
    stamp = folder.file.stat().st_mtime_ns
    for number in range(200):
        content = b"%05d" % number
        folder.file.write_bytes(content)
        os.utime(folder.file, ns=(stamp, stamp))
        assert await folder.digest() == sha256(content)


async def test_builds_at_once_may_share_the_memory(folder: Folder) -> None:
    found = await asyncio.gather(*(folder.digest() for _ in range(8)))
    assert set(found) == {sha256(b"first")}


async def test_a_folder_that_cannot_be_written_is_of_the_file_system_of_the_one_above(folder: Folder) -> None:
    (folder.root / "shared").mkdir()
    folder.file = folder.file.rename(folder.root / "shared" / "model.bin")
    folder.let_time_pass()
    asked: list[str] = []

    def clock(place: Path, device: int) -> int | None:
        asked.append(place.name)
        return None if place.name == "shared" else file_system_time_ns(place, device)

    for _ in range(2):
        digests = FileDigests(folder.root, folder.cache, lambda done, total: None, file_system_time_ns=clock)
        assert await digests.digests({"shared/model.bin": 5}) == {"shared/model.bin": sha256(b"first")}
    assert asked == ["shared", "app"]
