"""`python -m gpuyard.agent.exporter`: says what a node's GPUs do, to Prometheus and to gpuyard's commands.

It is a process of its own: the one that serves GPUs to the kubelet has to stay small and has no port. It
looks at the GPUs by itself, and asks the kubelet who holds them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

if __name__ == "__main__":
    from gpuyard.agent.unneeded import leave_out

    leave_out()

from gpuyard import errors
from gpuyard.agent.gpu_use.counting import UseCount
from gpuyard.agent.json_file import FollowedFile
from gpuyard.agent.marks_file import NodeMarks, read_marks
from gpuyard.agent.metrics.energy import EnergyAccounts
from gpuyard.agent.metrics.holdings import Holding, Holdings, known
from gpuyard.agent.metrics.kubelet_checkpoint import CHECKPOINT, DevicesByPod, read_checkpoint
from gpuyard.agent.metrics.node import NodeFacts, NodeScrape
from gpuyard.agent.metrics.pod_resources import PodResources
from gpuyard.agent.metrics.server import MetricsServer
from gpuyard.agent.metrics.shares import PodShare, has_shares, pod_shares
from gpuyard.agent.stdin import on_stdin_closed
from gpuyard.devices.backend import GpuBackend, open_backend
from gpuyard.devices.processes import ProcessTable
from gpuyard.devices.readings import Reading
from gpuyard.devices.simulated.simulation import parse_simulation
from gpuyard.kube.wellknown import ENV_SHARES

#: Between scrapes it looks so often: what pods use is added up from these looks.
_LOOK_S = 2.0
#: Who asks sooner after a look gets what was seen then.
_FRESH_S = 0.25
_PORT = 9400
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class Exporter:
    """Looks at one node's GPUs.

    Args:
        backend: where they come from.
        pod_resources: who holds them.
        node: its name.
        marks: what the agent says of how it offers them; None where nobody says. An agent that says nothing
            lets another serve this node, whose exporter tells of the GPUs: so does this one.
        use: counts what pods use; None for nobody.
        checkpoint: of the kubelet: which pod has which devices; None where processes say that themselves.
        table: of the node's processes.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        backend: GpuBackend,
        pod_resources: PodResources,
        node: str,
        *,
        marks: FollowedFile[NodeMarks] | None = None,
        use: UseCount | None = None,
        checkpoint: FollowedFile[DevicesByPod] | None = None,
        table: ProcessTable | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._pod_resources = pod_resources
        self._marks = marks
        self._use = use
        self._checkpoint = checkpoint
        self._table = table or ProcessTable()
        self._shares: tuple[PodShare, ...] = ()
        self._clock = clock
        self._state = NodeFacts(node)
        self._readings: Mapping[str, Reading] = {}
        #: All that the kubelet said, other devices too.
        self._listed: tuple[Holding, ...] = ()
        self._held_s: float | None = None
        self._kubelet_answers = False
        self._energy = EnergyAccounts()
        self._looking = asyncio.Lock()
        self._looked_s = float("-inf")
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Follows the GPUs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_looking(), name="look")
            async with aclosing(self._backend.inventories()) as inventories:
                async for inventory in inventories:
                    self._set(inventory=inventory, holdings=known(self._listed, inventory.uuids))
                    self._looked_s = float("-inf")

    @property
    def _stands_back(self) -> bool:
        return self._marks is not None and self._state.marks is None

    async def scrape(self) -> str:
        """All metrics as they are now."""
        await self._look()
        if self._stands_back:
            node = NodeFacts(self._state.node)
            return NodeScrape(
                node, kubelet_answers=None, cpu_s=time.process_time(), resident_bytes=_resident_bytes()
            ).text()
        return NodeScrape(
            self._state,
            self._readings,
            None if self._held_s is None else self._clock() - self._held_s,
            self._kubelet_answers,
            self._energy.used_j,
            self._shares,
            time.process_time(),
            _resident_bytes(),
        ).text()

    async def _keep_looking(self) -> None:
        while True:
            await self._look()
            if self._use is not None and self._kubelet_answers and not self._stands_back:
                self._use.note(self._state.holdings.by_pod, self._readings)
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        async with self._looking:
            if self._state.inventory is None or self._clock() - self._looked_s < _FRESH_S:
                return
            self._read_marks()
            if self._stands_back:
                self._readings, self._shares = {}, ()
                return
            await self._ask_kubelet()
            inventory, holdings = self._state.inventory, self._state.holdings
            self._readings = await self._backend.readings(holdings.by_uuid)
            self._shares = await self._find_shares(holdings)
            self._looked_s = self._clock()
            self._energy.look(inventory, self._readings, holdings, self._looked_s)

    async def _ask_kubelet(self) -> None:
        try:
            listed = await self._pod_resources.holdings()
        except errors.DeviceError as error:
            self._kubelet_answers = False
            self._warn("kubelet", error)
            return
        inventory = self._state.inventory
        if listed is not self._listed and inventory is not None:
            self._listed = listed
            self._set(holdings=known(listed, inventory.uuids))
        self._kubelet_answers, self._held_s = True, self._clock()
        self._said.pop("kubelet", None)

    async def _find_shares(self, holdings: Holdings) -> tuple[PodShare, ...]:
        if not has_shares(holdings) or not self._table.sees_pids:
            return ()
        processes = await self._backend.processes()
        if self._checkpoint is None:
            return pod_shares(
                holdings, processes, lambda pid: {*self._table.variable(pid, ENV_SHARES).split(",")}
            )
        given = self._read("checkpoint", self._checkpoint) or {}
        return pod_shares(holdings, processes, lambda pid: given.get(self._table.pod_uid(pid), set()))

    def _read_marks(self) -> None:
        if self._marks is not None:
            # Damaged ones, too, are of an agent that serves this node.
            marks = self._read("marks", self._marks, self._state.marks or NodeMarks())
            if marks is not self._state.marks:
                self._set(marks=marks)

    def _read(self, about: str, file: FollowedFile[_T], otherwise: _T | None = None) -> _T | None:
        """What a file says; another value while it can't be read."""
        try:
            found = file.read()
        except errors.DeviceError as error:
            self._warn(about, error)
            return otherwise
        self._said.pop(about, None)
        return found

    def _set(self, **changed: Any) -> None:
        state = replace(self._state, **changed)
        simulated = state.inventory is not None and state.inventory.simulated
        # An agent of a cluster that is confined to its pod sees no process but its own.
        self._state = replace(state, sees_processes=simulated or self._table.sees_pids)

    def _warn(self, about: str, error: errors.DeviceError) -> None:
        """Once, however often it is tried."""
        if error.message != self._said.get(about):
            _LOG.warning("%s; %s", error.message, error.remedy)
        self._said[about] = error.message


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _run(options: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    if options.exit_with_stdin:
        on_stdin_closed(task.cancel)
    backend = open_backend(
        options.simulate,
        seed=options.node,
        control=options.simulated_health,
        driver_root=options.driver_root,
        host_root=options.host_root or Path("/"),
        module=options.gpu_backend,
    )
    pod_resources = PodResources(options.pod_resources)
    host_root: Path | None = options.host_root
    exporter = Exporter(
        backend,
        pod_resources,
        options.node,
        marks=FollowedFile(options.marks_file, read_marks) if options.marks_file else None,
        use=UseCount(options.use_file) if options.use_file else None,
        checkpoint=FollowedFile(host_root / CHECKPOINT, read_checkpoint) if host_root else None,
        table=ProcessTable((host_root or Path("/")) / "proc"),
    )
    server = MetricsServer(exporter.scrape)
    try:
        await server.listen(options.socket or (options.address, options.port))
        await exporter.run()
    finally:
        await server.close()
        await pod_resources.close()


def main() -> int:
    """Runs until SIGTERM, SIGINT or, with --exit-with-stdin, the end of standard input."""
    parser = argparse.ArgumentParser(
        prog="gpuyard.agent.exporter", description="Serves metrics of one node's GPUs."
    )
    parser.add_argument("--node", required=True, help="its name")
    parser.add_argument(
        "--pod-resources", type=Path, required=True, metavar="SOCKET", help="the kubelet's PodResources"
    )
    parser.add_argument("--address", help="where to listen (all addresses, of IPv4 and IPv6)")
    parser.add_argument("--port", type=int, default=_PORT, help=f"where to listen ({_PORT})")
    parser.add_argument("--socket", type=Path, help="listen on this unix socket instead, mode 0600")
    parser.add_argument("--simulate", metavar="MODEL:N", help="simulated GPUs, as the agent has them")
    parser.add_argument("--simulated-health", type=Path, metavar="FILE", help="as of the agent")
    parser.add_argument("--gpu-backend", metavar="MODULE", help="as of the agent")
    parser.add_argument("--driver-root", type=Path, default=Path("/"), help="where the driver is installed")
    parser.add_argument("--host-root", type=Path, help="where the node's own files are, if they can be seen")
    parser.add_argument(
        "--marks-file", type=Path, help="of the agent: how it offers the GPUs, who else has them"
    )
    parser.add_argument("--use-file", type=Path, help="write here what pods use, for the labeller")
    parser.add_argument("--exit-with-stdin", action="store_true", help="exit when standard input ends")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s exporter: %(message)s")
    try:
        options.simulate = parse_simulation(options.simulate) if options.simulate else None
        with suppress(asyncio.CancelledError):
            asyncio.run(_run(options))
    except errors.GpuyardError as error:
        print(f"gpuyard.agent.exporter: {error.message}; {error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
