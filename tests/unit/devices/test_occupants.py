import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard.agent.labels.node import node_marks
from gpuyard.agent.plugin.server import describe
from gpuyard.agent.served import DEFAULT, serve
from gpuyard.devices.gpu_locks import GpuLocks, user_name, yard_id
from gpuyard.devices.inventory import Device, Inventory
from gpuyard.devices.occupants import OccupantFinder, OwnYard, Processes, with_occupants
from gpuyard.devices.processes import ProcessFacts, ProcessTable, Starter
from gpuyard.devices.readings import GpuProcess
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.occupants import node_occupants
from gpuyard.kube.wellknown import ANNOTATION_GPU_OCCUPANTS

NOW = datetime(2026, 11, 29, 14, 2, tzinfo=UTC)
NODE = simulate(parse_simulation("H100:2"), seed="n")
GPU, OTHER = (gpu.uuid for gpu in NODE.devices)


class Table(ProcessTable):
    """Every process is what the test says."""

    def __init__(self, starters: Mapping[int, Starter]) -> None:
        super().__init__(Path("/nonexistent"))
        self.starters = dict(starters)

    def look(self, pid: int, holds: object) -> ProcessFacts | None:
        starter = self.starters.get(pid)
        if starter is None:
            return None
        if starter is Starter.UNKNOWN:
            return ProcessFacts(pid, None, "", None, starter)
        return ProcessFacts(pid, 0, "python", NOW, starter)


def yard(folder: Path | None = None, *, shares: bool = False) -> OwnYard:
    return OwnYard(folder, os.geteuid(), yard_id(Path("/ours")), shares)


def open_by(*processes: GpuProcess) -> Processes:
    return {GPU: processes, OTHER: ()}


def found(finder: OccupantFinder, *processes: GpuProcess) -> tuple[list[str], set[str]]:
    """Who is on the first GPU, and what isn't given out."""
    gpus = finder.find(NODE, open_by(*processes)).devices
    assert not gpus[1].occupants
    return [str(each) for each in gpus[0].occupants], set(gpus[0].withheld)


def compute(pid: int, memory_mib: int | None = 21_400) -> GpuProcess:
    return GpuProcess(pid, memory_mib, "compute")


def test_only_who_is_foreign_is_named_and_keeps_the_gpu() -> None:
    starters = dict(enumerate(Starter, start=1))
    finder = OccupantFinder(yard(), Table(starters))
    named, withheld = found(finder, *(compute(pid) for pid in (*starters, 99)))
    foreign, unknown = (
        next(n for n, o in starters.items() if o is each) for each in (Starter.FOREIGN, Starter.UNKNOWN)
    )
    assert named == [
        f"GPU 0: held by root, pid {foreign} (python), 21 GiB, not a run",
        f"GPU 0: held by somebody, pid {unknown}, 21 GiB, not a run",
    ]
    assert withheld == {GPU}


@pytest.mark.parametrize("starter", [Starter.RUN, Starter.KUBELET, Starter.LEAVING])
def test_a_run_and_what_is_left_of_one_keep_no_gpu(starter: Starter) -> None:
    assert found(OccupantFinder(yard(), Table({7: starter})), compute(7)) == ([], set())


def test_what_holds_no_memory_or_only_draws_is_named_alone() -> None:
    finder = OccupantFinder(yard(), Table({7: Starter.FOREIGN}))
    assert found(finder, compute(7, 0)) == (["GPU 0: used by root, pid 7 (python), 0 MiB, not a run"], set())
    named, withheld = found(finder, GpuProcess(7, 300, "graphics"))
    assert (named, withheld) == (["GPU 0: used by root, pid 7 (python), 320 MiB, not a run"], set())
    # Where the driver doesn't say how much, it may be all.
    assert found(finder, compute(7, None))[1] == {GPU}


def test_a_yard_that_shares_names_them_and_gives_the_gpu_out() -> None:
    finder = OccupantFinder(yard(shares=True), Table({7: Starter.FOREIGN}))
    assert found(finder, compute(7)) == (["GPU 0: used by root, pid 7 (python), 21 GiB, not a run"], set())


def test_on_a_cluster_they_are_told_and_what_cannot_be_seen_is_not() -> None:
    finder = OccupantFinder(None, Table({7: Starter.FOREIGN, 8: Starter.UNKNOWN}))
    named, withheld = found(finder, compute(7), compute(8))
    assert (named, withheld) == (["GPU 0: used by root, pid 7 (python), 21 GiB, not a run"], set())


def test_another_yard_keeps_its_gpu_whatever_is_shared(tmp_path: Path) -> None:
    GpuLocks(tmp_path, Path("/theirs"), lambda: NOW).take(GPU, "train")
    finder = OccupantFinder(yard(tmp_path, shares=True), Table({7: Starter.UNKNOWN}))
    named, withheld = found(finder, compute(7))
    user = user_name(os.geteuid())
    since = "since 2026-11-29 14:02 UTC"
    assert named == [f"GPU 0 is held by the yard of {user} (/theirs), run train, {since}"]
    assert withheld == {GPU}


def test_what_a_run_of_ours_has_stays_countable(tmp_path: Path) -> None:
    GpuLocks(tmp_path, Path("/ours"), lambda: NOW).take(GPU, "train")
    finder = OccupantFinder(yard(tmp_path), Table({7: Starter.FOREIGN}))
    named, withheld = found(finder, compute(7))
    assert (named, withheld) == (["GPU 0: used by root, pid 7 (python), 21 GiB, not a run"], set())


def test_a_make_believe_process_is_as_it_is_said() -> None:
    finder = OccupantFinder(yard(), Table({}))
    alice = GpuProcess(4711, 21_504, "compute", simulated=True, user="alice", command="python")
    nameless = GpuProcess(4712, 100, "compute", simulated=True)
    assert found(finder, alice, nameless)[0] == [
        "GPU 0: held by alice, pid 4711 (python), 21 GiB, not a run",
        "GPU 0: held by somebody, pid 4712, 128 MiB, not a run",
    ]


def test_a_gpu_that_somebody_has_is_listed_as_unhealthy_and_marked() -> None:
    inventory = OccupantFinder(yard(), Table({7: Starter.FOREIGN})).find(NODE, open_by(compute(7)))
    served = serve(inventory, DEFAULT)
    (devices,) = served.resources.values()
    assert [device.health for device in describe(devices).devices] == ["Unhealthy", "Healthy"]
    marks = node_marks(served)
    assert ANNOTATION_GPU_OCCUPANTS in marks.annotations
    (occupant,) = node_occupants({"metadata": {"annotations": dict(marks.annotations)}})
    assert (occupant.pid, occupant.uuid) == (7, GPU)
    # It isn't sick.
    assert not marks.annotations["gpuyard.io/gpu-health"]
    message = "GPU 0: held by root, pid 7 (python), 21 GiB, not a run"
    assert marks.problems == {"GpuForeignProcess": {"reason": "ForeignProcess", "message": message}}


class Machine:
    """What a backend gives; each value that is put in comes out as the next inventory."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[Inventory] = asyncio.Queue()
        self.processes: Processes = {}
        self.closed = False

    async def inventories(self) -> AsyncGenerator[Inventory, None]:
        try:
            while True:
                yield await self.coming.get()
        finally:
            self.closed = True

    async def read(self) -> Processes:
        return self.processes


async def next_where(
    inventories: AsyncGenerator[Inventory, None], holds: Callable[[tuple[Device, ...]], bool]
) -> Inventory:
    async with asyncio.timeout(60):
        async for inventory in inventories:
            if holds(inventory.devices):
                return inventory
    raise AssertionError("no more inventories")


async def test_they_come_and_go_without_a_change_of_the_gpus() -> None:
    machine, table = Machine(), Table({7: Starter.FOREIGN})
    machine.coming.put_nowait(NODE)
    stream = with_occupants(machine.inventories(), machine.read, OccupantFinder(yard(), table), 0.01)
    async with aclosing(stream):
        assert await anext(stream) == NODE
        machine.processes = open_by(compute(7))
        await next_where(stream, lambda gpus: bool(gpus[0].withheld))
        # While the driver doesn't answer, who was there is there.
        machine.processes = {}
        machine.coming.put_nowait(simulate(parse_simulation("H100:1"), seed="n"))
        assert (await next_where(stream, lambda gpus: len(gpus) == 1)).devices[0].withheld == {GPU}
        table.starters.clear()
        await next_where(stream, lambda gpus: not gpus[0].withheld)
    assert machine.closed


async def test_a_process_that_grows_a_little_changes_nothing() -> None:
    machine = Machine()
    machine.coming.put_nowait(NODE)
    machine.processes = open_by(compute(7, 21_400))
    finder = OccupantFinder(yard(), Table({7: Starter.FOREIGN}))
    stream = with_occupants(machine.inventories(), machine.read, finder, 0.01)
    async with aclosing(stream):
        await anext(stream)
        machine.processes = open_by(compute(7, 21_700))
        waiting = asyncio.ensure_future(anext(stream))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        machine.processes = open_by(compute(7, 40_000))
        changed = await asyncio.wait_for(waiting, 60)
        assert changed.devices[0].occupants[0].memory_mib == 39 * 1024


async def test_what_a_backend_raises_comes_through() -> None:
    async def broken() -> AsyncGenerator[Inventory, None]:
        yield NODE
        raise OSError("gone")

    machine = Machine()
    stream = with_occupants(broken(), machine.read, OccupantFinder(yard(), Table({})), 0.01)
    with pytest.raises(OSError, match="gone"):
        async with aclosing(stream):
            await next_where(stream, lambda gpus: False)
