"""What sandboxes of a yard see of its own folders: real sandboxes."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.process.sandbox import Isolation
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import ContainerSpec, Mount

#: Given all that is in a folder, prints the names of the files that can be read.
_FILES = 'cd "$1" && find . -type f 2>/dev/null | sort'

Seen = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def yard(folder: Path) -> YardPaths:
    paths = YardPaths(folder / "home/data", folder / "run/yard")
    for name in ("token", "store.db-wal", ".gpuyard-new-12", ".simulated-health.json.lock", "pki/ca.key"):
        _write(paths.data_dir / name)
    for name in ("snapshots/mine/src/train.py", "snapshots/mine/lib.py", "snapshots/other/train.py"):
        _write(paths.data_dir / name)
    _write(paths.volumes_dir / "v1/data")
    _write(paths.runtime_dir / "api.sock")
    _write(folder / "home/project/train.py")
    return paths


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def seen(bubblewrap: Isolation, yard: YardPaths, folder: Path) -> Seen:
    """What a container sees in a folder of the host, after it has run the words of `first`."""
    runtime = Runtimes(bubblewrap, Cgroups(), lambda: datetime.now(UTC), yard=yard)

    async def look(where: Path, working_dir: Path, *mounts: Mount, first: str = "true") -> list[str]:
        argv = ["/bin/sh", "-c", f"{first}; {_FILES}", "look", str(where)]
        spec = ContainerSpec("look", argv, {"PATH": "/usr/bin:/bin"}, str(working_dir), mounts=mounts)
        container = await runtime.start(folder / "start", spec)
        await container.wait()
        container.close()
        return container.log_path.read_text().splitlines()

    return look


async def test_nothing_of_the_yard_is_there_and_all_else_is(
    seen: Seen, yard: YardPaths, folder: Path
) -> None:
    assert await seen(folder / "home", folder / "home/project") == ["./project/train.py"]


async def test_the_socket_is_not_there(seen: Seen, yard: YardPaths, folder: Path) -> None:
    assert await seen(folder / "run", folder / "home/project") == []


async def test_only_its_own_snapshot_is_there_and_can_be_written(
    seen: Seen, yard: YardPaths, folder: Path
) -> None:
    snapshots = yard.snapshots_dir
    found = await seen(yard.data_dir, snapshots / "mine/src", first="touch made ../made")
    mine = ["lib.py", "made", "src/made", "src/train.py"]
    assert found == [f"./snapshots/mine/{name}" for name in mine]
    assert (snapshots / "mine/src/made").exists()


async def test_what_the_user_keeps_beside_the_yard_stays(seen: Seen, yard: YardPaths, folder: Path) -> None:
    _write(yard.data_dir / "project/train.py")
    _write(yard.data_dir / "tokens.txt")
    (yard.data_dir / "link").symlink_to("project")
    made = f"touch {yard.data_dir / 'project/made'}; cat {yard.data_dir / 'link/train.py'}"
    found = await seen(yard.data_dir, yard.data_dir / "project", first=made)
    assert found == ["./project/made", "./project/train.py", "./tokens.txt"]
    assert (yard.data_dir / "project/made").exists()


async def test_through_a_link_and_through_a_volume_of_a_folder_above(
    seen: Seen, yard: YardPaths, folder: Path
) -> None:
    (folder / "link").symlink_to(folder / "home/data")
    look = shlex.join(["ls", "-A", str(folder / "link"), "/tmp/all/home/data", "/tmp/all/run/yard"])
    mounts = (Mount(folder, "/tmp/all"), Mount(yard.volumes_dir / "v1", "/tmp/v1"))
    found = await seen(Path("/tmp/v1"), folder / "home/project", *mounts, first=look)
    assert [line for line in found if line and not line.endswith(":")] == ["./data"]


async def test_a_container_that_works_in_the_data_folder_itself_has_it(seen: Seen, yard: YardPaths) -> None:
    assert "./made" in await seen(yard.data_dir, yard.data_dir, first="touch made")
