import asyncio
import logging
from pathlib import Path

import pytest

from gpuyard.local.daemon.runtime_folder import RuntimeFolder
from gpuyard.local.paths import YardPaths, find_paths
from tests.waiting import until_async


@pytest.fixture
def paths(tmp_path: Path) -> YardPaths:
    found = find_paths({"GPUYARD_HOME": str(tmp_path / "home")}, tmp=tmp_path)
    found.make_folders()
    return found


async def test_what_is_still_to_be_made_is_not_made_again(
    paths: YardPaths, caplog: pytest.LogCaptureFixture
) -> None:
    slow, gone, made = paths.runtime_dir / "slow", paths.runtime_dir / "gone", asyncio.Event()
    gone.touch()

    async def make_slow() -> None:
        raise AssertionError("its process is killed while it starts")

    async def make_gone() -> None:
        gone.touch()
        made.set()

    with RuntimeFolder(paths) as folder:
        # In this order: what is made in the same look comes after.
        folder.hold(slow, make_slow)
        folder.hold(gone, make_gone)
        keeping = asyncio.create_task(folder.keep())
        gone.unlink()
        await until_async(lambda: asyncio.sleep(0, made.is_set()), "what was removed is there again")
        slow.touch()
        keeping.cancel()
        await asyncio.wait([keeping])
    assert keeping.cancelled()
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert said == [f"somebody removed {gone}: it is made again"]
