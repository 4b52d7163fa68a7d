"""Who else is on a node's GPUs: added to its inventory, which changes as they come and go.

A yard doesn't give out a GPU that another yard of the machine has, nor one on which a foreign process
computes. A cluster's kubelet is only told who is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from gpuyard.devices.gpu_locks import YardHold, yard_holds
from gpuyard.devices.inventory import Device, Inventory
from gpuyard.devices.processes import ProcessTable, Starter
from gpuyard.devices.readings import GpuProcess
from gpuyard.gpus.occupants import Occupant
from gpuyard.kube.timestamps import format_time

#: By UUID of the GPU or MIG instance that they have open.
Processes: TypeAlias = Mapping[str, tuple[GpuProcess, ...]]

POLL_S = 1.0
#: What a node's annotation says of memory is rounded to this: it would be written anew at each look.
_ROUNDING_MIB = 64
_MIB_PER_GIB = 1024


@dataclass(frozen=True)
class OwnYard:
    """The yard that the agent is of.

    Attributes:
        locks: the folder of its locks, see `devices.gpu_locks`; None where there is none.
        uid, id: which of these are its own.
        shares: whether it gives out GPUs that foreign processes are on.
    """

    locks: Path | None
    uid: int
    id: str
    shares: bool = False

    def is_own(self, hold: YardHold) -> bool:
        """Whether it is this yard's."""
        return (hold.uid, hold.yard) == (self.uid, self.id)


class OccupantFinder:
    """Finds them.

    Args:
        yard: None on a cluster's node.
        table: of the processes.
    """

    def __init__(self, yard: OwnYard | None, table: ProcessTable) -> None:
        self._yard = yard
        self._table = table
        self._holds: Mapping[str, Sequence[YardHold]] = {}

    def find(self, inventory: Inventory, processes: Processes) -> Inventory:
        """The inventory with who is on its GPUs now. Reads many small files: to be called in a thread."""
        uuids = [uuid for gpu in inventory.devices for uuid in _parts(gpu)]
        if self._yard and self._yard.locks:
            # What can't be looked at now is as it was.
            with suppress(OSError):
                self._holds = yard_holds(self._yard.locks, uuids)
        holds = self._holds
        found = replace(
            inventory,
            devices=tuple(
                replace(
                    gpu,
                    occupants=tuple(
                        occupant
                        for uuid in _parts(gpu)
                        for occupant in self._of(gpu, uuid, holds.get(uuid, ()), processes.get(uuid, ()))
                    ),
                )
                for gpu in inventory.devices
            ),
        )
        self._table.keep(process.pid for of_it in processes.values() for process in of_it)
        return found

    def _of(
        self, gpu: Device, uuid: str, holds: Sequence[YardHold], processes: Sequence[GpuProcess]
    ) -> Iterator[Occupant]:
        yard = self._yard
        is_own = yard is not None and any(map(yard.is_own, holds))
        for hold in holds:
            if yard is not None and not yard.is_own(hold):
                yield Occupant(gpu.index, uuid, hold.user, hold.since, home=hold.home, run=hold.run)
        # What a run of ours has isn't given to anybody anyway.
        withholds = yard is not None and not yard.shares and not is_own
        for process in processes:
            occupant = self._foreign(gpu, uuid, process, holds)
            if occupant is not None:
                # A desktop is on its GPU for graphics alone, and leaves it to whoever computes there.
                takes = process.kind == "compute" and process.memory_mib != 0
                yield replace(occupant, withheld=withholds and takes)

    def _foreign(
        self, gpu: Device, uuid: str, process: GpuProcess, holds: Sequence[YardHold]
    ) -> Occupant | None:
        """The process, if no yard and no kubelet started it."""
        memory_mib = _rounded(process.memory_mib)
        locks = self._yard is not None and self._yard.locks is not None
        facts = self._table.look(process.pid, holds if locks else None)
        if process.simulated and (facts is None or process.user or process.command):
            return Occupant(
                gpu.index, uuid, process.user, "", process.pid, process.command, memory_mib=memory_mib
            )
        if facts is None or facts.starter in (Starter.RUN, Starter.KUBELET, Starter.LEAVING):
            return None
        # An agent in a pod sees no other processes; where a yard has the GPU they may be its run's.
        if facts.starter is Starter.UNKNOWN and (self._yard is None or holds):
            return None
        return Occupant(
            gpu.index,
            uuid,
            facts.user,
            format_time(facts.since) if facts.since else "",
            process.pid,
            facts.command,
            memory_mib=memory_mib,
        )


async def with_occupants(
    inventories: AsyncGenerator[Inventory, None],
    read: Callable[[], Awaitable[Processes]],
    finder: OccupantFinder,
    poll_s: float = POLL_S,
) -> AsyncGenerator[Inventory, None]:
    """The inventories with who else is on the GPUs; again, too, whenever that has changed.

    Args:
        inventories: of a backend; closed at the end.
        read: its processes; none while its driver doesn't answer, and then those of before count.
        finder: of this node.
        poll_s: how often it is asked.
    """
    shown: Inventory | None = None
    processes: Processes = {}
    async with aclosing(inventories), aclosing(_repeated(inventories, poll_s)) as repeated:
        async for inventory in repeated:
            if inventory.devices:
                processes = await read() or processes
                inventory = await asyncio.to_thread(finder.find, inventory, processes)
            if inventory != shown:
                shown = inventory
                yield inventory


async def _repeated(inventories: AsyncIterator[Inventory], poll_s: float) -> AsyncGenerator[Inventory, None]:
    """Each as it comes, and the last one again and again until the next one does."""
    coming = asyncio.ensure_future(anext(inventories))
    last: Inventory | None = None
    try:
        while True:
            done, _ = await asyncio.wait([coming], timeout=None if last is None else poll_s)
            if done:
                last = coming.result()
                coming = asyncio.ensure_future(anext(inventories))
            assert last is not None
            yield last
    except StopAsyncIteration:
        return
    finally:
        coming.cancel()
        await asyncio.wait([coming])


def _parts(gpu: Device) -> tuple[str, ...]:
    """What can be given out of it: the GPU itself, or where it is split its parts."""
    if gpu.mig is not None and gpu.mig.instances:
        return tuple(part.uuid for part in gpu.mig.instances)
    return (gpu.uuid,)


def _rounded(memory_mib: int | None) -> int | None:
    if memory_mib is None or memory_mib < _MIB_PER_GIB:
        return memory_mib and max(_ROUNDING_MIB, round(memory_mib / _ROUNDING_MIB) * _ROUNDING_MIB)
    return round(memory_mib / _MIB_PER_GIB) * _MIB_PER_GIB
