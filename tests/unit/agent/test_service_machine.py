"""The whole agent over simulated GPUs, beside a kubelet's device manager: whatever comes in whatever order.

Pods come and go, GPUs fail, recover and are split anew, another yard takes and releases them, processes that
nobody started come and go on them, kubelet and agent end and start again. Never do two pods, or a pod and
another yard, have one GPU or overlapping parts of it, never does a pod lose what it has, and what the kubelet
lists, the CDI spec, the marks of the node and the metrics come to say the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Set
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gpuyard import errors
from gpuyard.agent.cdi_file import CdiFile
from gpuyard.agent.marks_file import read_marks
from gpuyard.agent.metrics.node import NodeFacts
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.served import MigStrategy, Served, Serving, serve
from gpuyard.agent.service import run_agent
from gpuyard.devices.gpu_locks import GpuLocks, yard_id
from gpuyard.devices.inventory import Health, Inventory
from gpuyard.devices.occupants import OccupantFinder, OwnYard, with_occupants
from gpuyard.devices.processes import ProcessTable
from gpuyard.devices.simulated.backend import SimulatedBackend
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.devices.simulated.state import change_state, read_state
from gpuyard.gpus.cdi import SPEC_FILE
from gpuyard.gpus.faults import node_faults
from gpuyard.local.kubelet.devices.manager import ContainerAllocation, DeviceManager
from tests.waiting import until_async

T = TypeVar("T")
SIMULATION = parse_simulation("H100:4")
SERVING = Serving(mig_strategy=MigStrategy.MIXED)
#: None is whole. All of them keep the rules of placement.
SPLITS: tuple[list[str] | None, ...] = (
    None,
    [],
    ["3g.40gb@0", "3g.40gb@4"],
    ["1g.10gb@0", "1g.10gb@1", "2g.20gb@2", "3g.40gb@4"],
)
#: Nothing waits for a time to pass: what would be looked at in a while is looked at now.
AT_ONCE = {
    "gpuyard.devices.simulated.backend._POLL_S": 0.005,
    "gpuyard.agent.service._LOOK_S": 0.01,
    "gpuyard.agent.plugin.registration._LOOK_S": 0.01,
    "gpuyard.agent.plugin.registration._RETRY_S": 0.02,
    "gpuyard.agent.plugin.registration._LAST_LIST_S": 0.2,
}
HEALTHY = re.compile(r'^gpuyard_gpu_healthy\{.*UUID="(GPU-[^"]+)".*\} ([01])$', re.MULTILINE)
gpus = st.integers(min_value=0, max_value=SIMULATION.count - 1)


def ids(allocation: ContainerAllocation) -> frozenset[str]:
    return frozenset(one for of_it in allocation.device_ids.values() for one in of_it)


class Node:
    """A kubelet's device manager and an agent, each of which can end and start again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = folder / "simulated.json"
        (folder / "plugins").mkdir()
        (folder / "locks").mkdir()
        #: Of this yard, whose pods hold them while its kubelet is down, and of another of the machine.
        self.locks = GpuLocks(folder / "locks", folder / "home", lambda: datetime.now(UTC))
        self.others = GpuLocks(folder / "locks", folder / "other", lambda: datetime.now(UTC))
        self.manager: DeviceManager
        self._agent: asyncio.Task[None] | None = None
        self._exporter: asyncio.Task[None] | None = None
        self._exported: Inventory | None = None

    async def start_kubelet(self) -> None:
        folder = self.folder
        self.manager = DeviceManager(
            folder / "plugins", folder / "checkpoint", lambda: datetime.now(UTC), locks=self.locks
        )
        await self.manager.start()

    def start_agent(self) -> None:
        backend = SimulatedBackend(SIMULATION, seed="node", control=self.control)
        plugins = self.folder / "plugins"
        yard = OwnYard(self.folder / "locks", os.geteuid(), yard_id(self.folder / "home"))
        finder = OccupantFinder(yard, ProcessTable())
        work = run_agent(
            with_occupants(backend.inventories(), backend.processes, finder, poll_s=0.01),
            plugins,
            OwnSockets(plugins),
            serving=SERVING,
            cdi=CdiFile(self.folder / "cdi", lambda: datetime.now(UTC)),
            marks_file=self.folder / "marks.json",
        )
        self._agent = asyncio.create_task(work, name="agent")

        self._exporter = asyncio.create_task(self._export(), name="exporter")

    async def _export(self) -> None:
        """As the exporter does, which has a backend of its own."""
        backend = SimulatedBackend(SIMULATION, seed="node", control=self.control)
        async with aclosing(backend.inventories()) as inventories:
            async for self._exported in inventories:
                pass

    async def end_agent(self) -> None:
        for task in (self._agent, self._exporter):
            assert task is not None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def wanted(self) -> Served:
        """What is to be offered, by the file that says what the simulated GPUs are."""
        inventory = simulate(SIMULATION, seed="node")
        state, mistakes = read_state(self.control, inventory)
        assert mistakes == ()
        reasons = {uuid: Health(why) for uuid, why in state.unhealthy.items()}
        return serve(inventory.with_mig(state.mig).with_health(reasons), SERVING)

    def views(self) -> dict[str, Any]:
        """What each part says now."""
        spec = json.loads((self.folder / "cdi" / SPEC_FILE).read_text())
        marks = read_marks(self.folder / "marks.json")
        assert marks is not None
        faults = node_faults({"metadata": {"name": "here", "annotations": dict(marks.annotations)}})
        devices = self.manager.devices()
        return {
            "kubelet": {
                (resource, name): device.healthy
                for resource, of_it in devices.items()
                for name, device in of_it.items()
            },
            "cdi": {each["name"] for each in spec["devices"] if "-" in each["name"]},
            "metrics": dict(HEALTHY.findall(NodeFacts("here", self._exported).text)),
            "faults": {fault.uuid for fault in faults},
            "labels": dict(marks.labels),
        }


def agrees(views: Mapping[str, Any], wanted: Served, withheld: Set[str]) -> bool:
    offered = {
        (device.resource, device.id): device.health.ok and device.uuid not in withheld
        for device in wanted.devices
    }
    # What is no more is known to the kubelet for a while, and can't be had.
    past = {key for key in views["kubelet"] if key not in offered}
    inventory = wanted.inventory
    return (
        {key: ok for key, ok in views["kubelet"].items() if key not in past} == offered
        and not any(views["kubelet"][key] for key in past)
        and {device.uuid for device in wanted.devices} <= views["cdi"] <= set(inventory.uuids)
        and {gpu.uuid: str(int(gpu.health.ok)) for gpu in inventory.devices}.items()
        <= views["metrics"].items()
        and views["faults"] == {gpu.uuid for gpu in inventory.unhealthy}
        and views["labels"]["nvidia.com/gpu.present"] == "true"
    )


class AgentMachine(RuleBasedStateMachine):
    """The model: what is wrong with which GPU, and which pod has what."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = [patch(name, value) for name, value in AT_ONCE.items()]
        for each in self.patches:
            each.start()
        self.runner = asyncio.Runner()
        self.node = Node(Path(tempfile.mkdtemp(dir="/tmp", prefix="gy-")))
        #: Pod → the GPUs, or parts of them, that it has.
        self.pods: dict[str, frozenset[str]] = {}
        self.pod_count = 0
        #: What another yard has, and the whole GPUs that foreign processes are on.
        self.others: set[str] = set()
        self.foreign: set[str] = set()

    def run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.runner.run(awaited())

    def settle(self) -> None:
        """Waits until all parts say what is so, and sees that no pod lost anything meanwhile."""
        wanted, withheld = self.node.wanted(), self.withheld()
        self.run(
            until_async(
                self.node.views,
                "all to agree",
                lambda seen: agrees(seen, wanted, withheld),
                not_yet=(FileNotFoundError, AssertionError),
            )
        )
        held = {each.pod: ids(each.allocation) for each in self.node.manager.assignments()}
        assert held == self.pods
        everything = [device for devices in self.pods.values() for device in devices]
        everything += self.others
        assert len(everything) == len(set(everything))
        for gpu in wanted.inventory.devices:
            parts = [part for part in (gpu.mig.instances if gpu.mig else ()) if part.uuid in everything]
            slices = [place for part in parts for place in range(part.start, part.start + part.size)]
            assert len(slices) == len(set(slices)) and not (slices and gpu.uuid in everything)

    @property
    def held(self) -> set[str]:
        """What pods have."""
        return {device for devices in self.pods.values() for device in devices}

    def withheld(self) -> set[str]:
        """What isn't given out, healthy or not; what a pod has stays its own."""
        return self.others | (self.foreign - self.held)

    def free(self, resource: str) -> set[str]:
        devices = self.node.wanted().resources.get(resource, ())
        return {device.id for device in devices if device.health.ok} - self.held - self.withheld()

    @initialize()
    def begin(self) -> None:
        self.run(self.node.start_kubelet())
        self.run(as_task(self.node.start_agent))
        self.settle()

    @rule(data=st.data(), count=st.integers(min_value=1, max_value=3))
    def start_pod(self, data: st.DataObject, count: int) -> None:
        resources = sorted(self.node.wanted().resources)
        if not resources:
            return
        resource = data.draw(st.sampled_from(resources))
        free, self.pod_count = self.free(resource), self.pod_count + 1
        pod = f"pod-{self.pod_count}"
        asked = self.node.manager.allocate(pod, "default", pod, "main", {resource: count})
        try:
            given = ids(self.run(asked))
        except errors.DeviceError:
            assert len(free) < count
        else:
            assert len(given) == count and given <= free
            self.pods[pod] = given

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def end_pod(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(sorted(self.pods)))
        del self.pods[pod]
        self.run(self.node.manager.release(pod))
        self.settle()

    @rule(gpu=gpus, reason=st.sampled_from(["XID 79", "XID 94", "lost", "too hot"]))
    def fail(self, gpu: int, reason: str) -> None:
        change_state(
            self.node.control, lambda raw: raw.setdefault("unhealthy", {}).update({str(gpu): reason})
        )
        self.settle()

    @rule(gpu=gpus)
    def recover(self, gpu: int) -> None:
        change_state(self.node.control, lambda raw: raw.setdefault("unhealthy", {}).pop(str(gpu), None))
        self.settle()

    @rule(gpu=gpus, parts=st.sampled_from(SPLITS))
    def split(self, gpu: int, parts: list[str] | None) -> None:
        """As `node mig apply` does it: not while a pod has the GPU or a part of it."""
        device = self.node.wanted().inventory.devices[gpu]
        names = {device.uuid, *(part.uuid for part in (device.mig.instances if device.mig else ()))}
        if names & (self.held | self.others | self.foreign):
            return

        def change(raw: dict[str, Any]) -> None:
            raw.setdefault("mig", {}).pop(str(gpu), None)
            if parts is not None:
                raw["mig"][str(gpu)] = parts

        change_state(self.node.control, change)
        self.settle()

    @rule(data=st.data())
    def other_yard_takes(self, data: st.DataObject) -> None:
        """It sees at once whether a pod of this one has it."""
        names = [device.uuid for device in self.node.wanted().devices if device.uuid not in self.others]
        if not names:
            return
        name = data.draw(st.sampled_from(names))
        try:
            self.node.others.take(name, "theirs")
        except errors.GpuHeld:
            assert name in self.held
        else:
            assert name not in self.held
            self.others.add(name)
            self.settle()

    @precondition(lambda self: self.others)
    @rule(data=st.data())
    def other_yard_releases(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.others)))
        self.node.others.release(name)
        self.others.remove(name)
        self.settle()

    @rule(gpu=gpus, comes=st.booleans())
    def foreign_process(self, gpu: int, comes: bool) -> None:
        """One comes to a whole GPU, or all that are there go."""
        device = self.node.wanted().inventory.devices[gpu]
        if device.mig is not None and device.mig.instances:
            return
        (self.foreign.add if comes else self.foreign.discard)(device.uuid)
        processes = [
            {"gpu": name, "pid": 4711, "memory_mib": 1024, "user": "alice", "command": "python"}
            for name in sorted(self.foreign)
        ]
        change_state(self.node.control, lambda raw: raw.update(processes=processes))
        self.settle()

    @rule()
    def restart_kubelet(self) -> None:
        self.run(self.node.manager.stop())
        self.run(self.node.start_kubelet())
        self.settle()

    @rule()
    def restart_agent(self) -> None:
        self.run(self.node.end_agent())
        self.run(as_task(self.node.start_agent))
        self.settle()

    def teardown(self) -> None:
        self.run(self.node.end_agent())
        self.run(self.node.manager.stop())
        self.node.locks.close()
        self.node.others.close()
        self.runner.close()
        for each in self.patches:
            each.stop()
        shutil.rmtree(self.node.folder)


async def as_task(start: Callable[[], None]) -> None:
    """Where a loop runs."""
    start()


TestAgentMachine = AgentMachine.TestCase
TestAgentMachine.settings = settings(
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
