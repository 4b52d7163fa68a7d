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
from collections.abc import Callable, Mapping, Set
from contextlib import aclosing, suppress
from pathlib import Path

if __name__ == "__main__":
    from gpuyard.agent.unneeded import leave_out

    leave_out()

from gpuyard import errors
from gpuyard.agent.gpu_use.counting import count_use
from gpuyard.agent.gpu_use.ledger import HeldDevice, PodName
from gpuyard.agent.metrics.energy import EnergyAccounts
from gpuyard.agent.metrics.holdings import Holdings, known
from gpuyard.agent.metrics.node import NodeScrape
from gpuyard.agent.metrics.pod_resources import PodResources
from gpuyard.agent.metrics.server import MetricsServer
from gpuyard.agent.stdin import on_stdin_closed
from gpuyard.devices.backend import GpuBackend, open_backend
from gpuyard.devices.inventory import Inventory
from gpuyard.devices.readings import Reading
from gpuyard.devices.simulated.simulation import parse_simulation

#: Between scrapes it looks so often: a pod's energy is added up from these looks.
_LOOK_S = 5.0
#: Who asks sooner after a look gets what was seen then.
_FRESH_S = 0.25
_PORT = 9400
_LOG = logging.getLogger(__name__)


class Exporter:
    """Looks at one node's GPUs.

    Args:
        backend: where they come from.
        pod_resources: who holds them.
        node: its name.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        backend: GpuBackend,
        pod_resources: PodResources,
        node: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._pod_resources = pod_resources
        self._node = node
        self._clock = clock
        self._inventory: Inventory | None = None
        self._readings: Mapping[str, Reading] = {}
        self._holdings = Holdings()
        self._held_s: float | None = None
        self._kubelet_answers = False
        self._energy = EnergyAccounts()
        self._looking = asyncio.Lock()
        self._looked_s = float("-inf")
        self._said = ""

    async def run(self) -> None:
        """Follows the GPUs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_looking(), name="look")
            async with aclosing(self._backend.inventories()) as inventories:
                async for inventory in inventories:
                    self._inventory = inventory
                    self._looked_s = float("-inf")

    async def scrape(self) -> str:
        """All metrics as they are now."""
        await self._look()
        now_s = self._clock()
        return NodeScrape(
            self._node,
            self._inventory,
            self._readings,
            self._holdings,
            None if self._held_s is None else now_s - self._held_s,
            self._kubelet_answers,
            self._energy.used_j,
            time.process_time(),
            _resident_bytes(),
        ).text()

    async def see_use(self) -> tuple[Mapping[PodName, Set[HeldDevice]], Mapping[str, Reading]]:
        """Who holds which devices now, and what is measured on them.

        Raises:
            DeviceError: the GPUs aren't known yet, or the kubelet doesn't say who holds them.
        """
        await self._look()
        if self._inventory is None or not self._kubelet_answers:
            raise errors.DeviceError("nobody says yet which pods hold which GPUs")
        held: dict[PodName, set[HeldDevice]] = {}
        for each in self._holdings.held:
            device = HeldDevice(each.device_id, each.uuid, each.is_share)
            held.setdefault(PodName(each.namespace, each.pod), set()).add(device)
        return held, self._readings

    async def _keep_looking(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        async with self._looking:
            inventory = self._inventory
            if inventory is None or self._clock() - self._looked_s < _FRESH_S:
                return
            await self._ask_kubelet(inventory)
            self._readings = await self._backend.readings(self._holdings.by_uuid)
            self._looked_s = self._clock()
            self._energy.look(inventory, self._readings, self._holdings, self._looked_s)

    async def _ask_kubelet(self, inventory: Inventory) -> None:
        try:
            self._holdings = known(await self._pod_resources.holdings(), inventory.uuids)
        except errors.DeviceError as error:
            self._kubelet_answers = False
            if error.message != self._said:
                _LOG.warning("%s; %s", error.message, error.remedy)
            self._said = error.message
            return
        self._kubelet_answers, self._held_s, self._said = True, self._clock(), ""


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
    )
    pod_resources = PodResources(options.pod_resources)
    exporter = Exporter(backend, pod_resources, options.node)
    server = MetricsServer(exporter.scrape)
    try:
        await server.listen(options.socket or (options.address, options.port))
        async with asyncio.TaskGroup() as group:
            if options.use_file:
                group.create_task(count_use(exporter.see_use, options.use_file), name="use")
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
    parser.add_argument("--driver-root", type=Path, default=Path("/"), help="where the driver is installed")
    parser.add_argument("--host-root", type=Path, help="where the node's own files are, if they can be seen")
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
