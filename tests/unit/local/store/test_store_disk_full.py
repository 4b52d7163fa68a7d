from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store import Change, Store


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own with one megabyte."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"can't mount a small file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


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
