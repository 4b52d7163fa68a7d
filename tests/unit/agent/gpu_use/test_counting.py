import asyncio
from collections.abc import Mapping, Set
from contextlib import suppress
from itertools import count
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.gpu_use.counting import count_use
from gpuyard.agent.gpu_use.ledger import HeldDevice, PodName
from gpuyard.agent.gpu_use.use_file import UseRecord, read_use
from gpuyard.devices.readings import Reading

POD = PodName("default", "train-0")
Seen = tuple[Mapping[PodName, Set[HeldDevice]], Mapping[str, Reading]]


async def counted(file: Path, begin_s: int, *, looks: int, boot: str = "boot") -> UseRecord:
    """After so many looks, two seconds apart, at a GPU that draws 1 W; every other look fails."""
    clock, done, seen = count(begin_s, 2), asyncio.Event(), count(1)
    now_s = begin_s

    async def look() -> Seen:
        nonlocal now_s
        number = next(seen)
        if number > 2 * looks:
            done.set()
            await asyncio.Event().wait()
        if number % 2:
            raise errors.DeviceError("PodResources doesn't answer")
        now_s = next(clock)
        return {POD: {HeldDevice("GPU-a", "GPU-a")}}, {"GPU-a": Reading(energy_mj=now_s * 1000)}

    task = asyncio.create_task(
        count_use(look, file, every_s=0.0, seconds=lambda: float(now_s), boot_id=lambda: boot)
    )
    async with asyncio.timeout(60):
        await done.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    found = read_use(file)
    assert found is not None
    return found


async def test_looks_that_fail_lose_nothing(tmp_path: Path) -> None:
    [pod] = (await counted(tmp_path / "use.json", 0, looks=6)).pods
    assert (pod.use.gpu_s, pod.use.energy_j) == (10, 10)


async def test_the_next_process_goes_on_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    first = await counted(file, 0, looks=3)
    second = await counted(file, 30, looks=2)
    assert second.session == first.session
    # Also with the time in between: the pod held it before and afterwards.
    [pod] = second.pods
    assert (pod.use.gpu_s, pod.use.energy_j) == (32, 32)


async def test_after_a_boot_or_with_a_broken_file_it_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    first = await counted(file, 1000, looks=2)
    second = await counted(file, 5, looks=2, boot="next boot")
    assert second.session != first.session and second.pods[0].use.gpu_s == 2
    file.write_text("{")
    assert (await counted(file, 5, looks=2)).pods[0].use.gpu_s == 2


async def test_no_file_where_no_pod_has_a_gpu(tmp_path: Path) -> None:
    looked = asyncio.Event()

    async def look() -> Seen:
        looked.set()
        return {}, {}

    task = asyncio.create_task(count_use(look, tmp_path / "use.json", every_s=0.0, boot_id=lambda: "b"))
    async with asyncio.timeout(60):
        await looked.wait()
        await asyncio.sleep(0)
    task.cancel()
    assert not (tmp_path / "use.json").exists()


async def test_what_says_nothing_new_is_not_written(tmp_path: Path) -> None:
    file, seen, done = tmp_path / "use.json", count(1), asyncio.Event()
    versions = set()

    async def look() -> Seen:
        number = next(seen)
        if number > 3:
            versions.add(file.stat().st_mtime_ns)
        if number == 20:
            done.set()
        return ({POD: {HeldDevice("GPU-a", "GPU-a")}} if number < 3 else {}), {}

    task = asyncio.create_task(count_use(look, file, every_s=0.0, boot_id=lambda: "b"))
    async with asyncio.timeout(60):
        await done.wait()
    task.cancel()
    assert len(versions) == 1
