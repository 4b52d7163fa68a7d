from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.disk import shortage
from gpuyard.local.store import Change, Store, Stored
from tests.small_disk import mounted


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own with one megabyte."""
    with mounted(request.param, 1) as folder:
        yield folder


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own with room for the store's reserve."""
    with mounted(request.param, 24) as folder:
        yield folder


def _fill(folder: Path) -> Path:
    """Takes every last byte."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for chunk in (b"x" * 4096, b"x"):
            try:
                while True:
                    file.write(chunk)
            except OSError:
                continue
    assert shutil.disk_usage(folder).free == 0
    return ballast


def _create(name: str) -> Change:
    return Change.create("pods", ObjectKey("default", name), lambda r: b"x" * 5000)


async def test_a_full_disk_fails_writes_and_loses_nothing(small_disk: Path) -> None:
    store = await Store.open(small_disk / "store.db")
    written: list[str] = []
    with pytest.raises(errors.StoreFull, match="no space left") as caught:
        for number in range(1000):
            await store.write(_create(f"pod-{number}"))
            written.append(f"pod-{number}")
    assert caught.value.remedy
    assert len(written) > 10
    revision = store.revision

    outcomes = await asyncio.gather(
        *(store.write(_create(f"more-{n}")) for n in range(5)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {errors.StoreFull}
    assert store.revision == revision == len(written)
    await store.close()

    store = await Store.open(small_disk / "store.db")
    assert sorted(s.key.name for s in store.list("pods", None)[0]) == sorted(written)
    await store.close()


async def test_the_store_goes_on_when_there_is_space_again(small_disk: Path) -> None:
    store = await Store.open(small_disk / "store.db")
    await store.write(_create("before"))
    ballast = _fill(small_disk)
    with pytest.raises(errors.StoreFull):
        for number in range(1000):
            await store.write(_create(f"pod-{number}"))
    count = store.revision
    ballast.unlink()
    made = await store.write(_create("after"))
    assert made.revision == count + 1
    await store.close()
    store = await Store.open(small_disk / "store.db")
    assert store.revision == count + 1
    await store.close()


async def test_a_first_start_on_a_full_disk_is_refused_and_a_later_one_works(small_disk: Path) -> None:
    ballast = _fill(small_disk)
    with pytest.raises(errors.StoreFull):
        await Store.open(small_disk / "store.db")
    ballast.unlink()
    store = await Store.open(small_disk / "store.db")
    await store.write(_create("a"))
    await store.close()


async def test_a_restart_on_a_full_disk_can_still_read(small_disk: Path) -> None:
    store = await Store.open(small_disk / "store.db")
    await store.write(_create("a"))
    await store.close()
    _fill(small_disk)
    store = await Store.open(small_disk / "store.db")
    assert [s.key.name for s in store.list("pods", None)[0]] == ["a"]
    with pytest.raises(errors.StoreFull):
        await store.write(_create("b"))
    await store.close()


async def _fill_up(store: Store) -> list[Stored]:
    """Writes objects until the store refuses any more."""
    made: list[Stored] = []
    with pytest.raises(errors.StoreFull):
        while True:
            made.append(await store.write(_create(f"pod-{len(made)}")))
    return made


def _replace(stored: Stored) -> Change:
    return Change.replace("pods", stored.key, stored.revision, lambda r: b"y" * 5000)


def _delete(stored: Stored) -> Change:
    return Change.delete("pods", stored.key, stored.revision, lambda r: stored.value)


async def test_changes_and_deletions_have_a_reserve_on_a_full_disk(disk: Path) -> None:
    store = await Store.open(disk / "store.db")
    for number in range(300):
        await store.write(_create(f"before-{number}"))
    ballast = _fill(disk)
    made = store.list("pods", None)[0]
    await _fill_up(store)
    for stored in made[:100]:
        await store.write(_replace(stored))
    for stored in made[100:]:
        await store.write(_delete(stored))
    with pytest.raises(errors.StoreFull):
        await store.write(_create("late"))
    shown = {s.key: s.value for s in store.list("pods", None)[0]}
    assert all(shown[stored.key] == b"y" * 5000 for stored in made[:100])
    assert not any(stored.key in shown for stored in made[100:])
    await store.close()

    store = await Store.open(disk / "store.db")
    assert {s.key: s.value for s in store.list("pods", None)[0]} == shown
    await store.write(_delete(store.list("pods", None)[0][0]))
    ballast.unlink()
    await store.write(_create("after"))
    await store.close()


async def test_what_does_not_count_as_full_takes_new_objects_whatever_was_before(disk: Path) -> None:
    store = await Store.open(disk / "store.db")
    made = await store.write(_create("before"))
    ballast = _fill(disk)
    await _fill_up(store)
    await store.write(_replace(made))
    with pytest.raises(errors.StoreFull):
        await store.write(_create("refused"))
    while shortage(disk):
        os.truncate(ballast, ballast.stat().st_size - (64 << 10))
    await store.write(_create("after"))
    await store.close()


async def test_what_may_not_use_the_reserve_doesnt_take_the_rest_of_its_batch_along(disk: Path) -> None:
    store = await Store.open(disk / "store.db")
    first = await store.write(_create("first"))
    _fill(disk)
    await _fill_up(store)
    big = Change.create("pods", ObjectKey("default", "big"), lambda r: b"x" * 500_000)
    outcomes = await asyncio.gather(
        store.write(big), store.write(_replace(first)), store.write(big), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [errors.StoreFull, Stored, errors.StoreFull]
    await store.close()


async def test_the_reserve_is_there_again_after_there_was_space(disk: Path) -> None:
    store = await Store.open(disk / "store.db")
    for _ in range(3):
        ballast = _fill(disk)
        made = await _fill_up(store)
        assert len(made) > 0
        for stored in store.list("pods", None)[0]:
            await store.write(_delete(stored))
        ballast.unlink()
        await store.write(_create("between"))
        await store.write(_delete(store.list("pods", None)[0][0]))
    await store.close()


@pytest.mark.parametrize("killed", [False, True])
async def test_a_store_that_was_killed_starts_on_a_full_disk_and_takes_changes(
    disk: Path, *, killed: bool
) -> None:
    code = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from gpuyard.kube.objects import ObjectKey\n"
        "from gpuyard.local.store import Change, Store\n"
        "async def main():\n"
        "    store = await Store.open(Path(sys.argv[1]))\n"
        "    for number in range(100):\n"
        "        key = ObjectKey('default', f'pod-{number:03}')\n"
        "        await store.write(Change.create('pods', key, lambda r: b'x' * 5000))\n"
        "    if sys.argv[2] == 'True':\n"
        "        os.kill(os.getpid(), 9)\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(disk / "store.db"), str(killed)], check=False)
    assert done.returncode == (-9 if killed else 0)
    _fill(disk)
    store = await Store.open(disk / "store.db")
    there = store.list("pods", None)[0]
    assert len(there) == 100
    for stored in there:
        await store.write(_delete(stored))
    await store.close()
    assert not list(disk.glob("*-shm"))


async def test_a_log_that_is_left_has_no_changes_for_another_database(disk: Path) -> None:
    path = disk / "store.db"
    store = await Store.open(path)
    await store.write(_create("a"))
    await store.close()
    backup = path.read_bytes()
    store = await Store.open(path)
    await store.write(_create("b"))
    await store.close()
    assert (disk / "store.db-wal").exists()
    path.write_bytes(backup)
    store = await Store.open(path)
    assert [s.key.name for s in store.list("pods", None)[0]] == ["a"]
    await store.close()
