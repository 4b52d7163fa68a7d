"""What one pod holds of this node: its part of CPU and memory, its devices, its ports."""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard import errors
from gpuyard.kube.objects import Manifest, key_of, labels_of, uid_of
from gpuyard.kube.pods import listening_port
from gpuyard.kube.requests import effective_requests
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.local.kubelet.containers import device_requests
from gpuyard.local.kubelet.context import KubeletContext
from gpuyard.local.kubelet.devices.manager import ContainerAllocation
from gpuyard.local.kubelet.pod_folders import PodFolder, PodRecord
from gpuyard.local.kubelet.pods.container_states import ContainerState
from gpuyard.local.kubelet.pods.rejection import Rejection, admit
from gpuyard.local.kubelet.ports import MASTER, own_port


def ports_before(pod: Manifest, folder: PodFolder) -> dict[str, int]:
    """The ports that a pod has had since before this process, as `PortPool` holds them: by its record or,
    where its folder is lost, by its annotation."""
    if record := folder.read_record():
        return {MASTER: record.master_port, **record.ports}
    own = (own_port(container) for container in pod["spec"]["containers"])
    told = {port: listening_port(pod, port) for port in own if port is not None}
    return {str(port): number for port, number in told.items() if number != port}


class Reservation:
    """Takes it for the pod and gives it back. What a pod holds is noted in its kubelet's context and folder.

    Attributes:
        allocations: devices by container, until its start takes them.
    """

    def __init__(self, context: KubeletContext, pod: Manifest, folder: PodFolder) -> None:
        self.allocations: dict[str, ContainerAllocation] = {}
        self._context = context
        self._uid = uid_of(pod)
        self._key = key_of(pod)
        self._run = labels_of(pod).get(LABEL_RUN, "")
        self._requests = effective_requests(pod["spec"])
        found = (own_port(container) for container in pod["spec"]["containers"])
        self._own_ports = [port for port in found if port is not None]
        self._folder = folder

    @property
    def master_port(self) -> int:
        """The same at every look."""
        return self._context.ports.take(self._uid)

    @property
    def ports(self) -> dict[int, int]:
        """Which ports stand in for containerPorts; the same at every look."""
        return self._context.ports.take_each(self._uid, self._own_ports)

    async def take(self, states: Sequence[ContainerState]) -> Rejection | None:
        """Takes all that the pod asks for; or says why the node doesn't have it, and takes nothing.

        Raises:
            CheckpointError, ProcessError: it can't be written down for now; what was taken stays.
            DeviceError: the device plugin doesn't give it, and nothing stays taken.
        """
        context = self._context
        others = [held for uid, held in context.held.items() if uid != self._uid]
        rejection = admit(self._requests, others, context.node.allocatable)
        if rejection is not None:
            return rejection
        context.held[self._uid] = self._requests
        try:
            for state in states:
                self.allocations[state.name] = await self._allocate(state)
            ports = {str(port): number for port, number in self.ports.items()}
            self._folder.write_record(PodRecord(*self._key, self.master_port, context.node.name, ports))
        except errors.CheckpointError:
            raise
        except errors.DeviceError:
            await self.give_back()
            raise
        return None

    def restore(self, states: Sequence[ContainerState]) -> bool:
        """Takes over what an earlier kubelet took; False when none of the containers was started."""
        if all(state.current is None for state in states):
            return False
        # What was started without is told by nobody where it is to listen.
        held = self._context.ports.held(self._uid)
        self._own_ports = [port for port in self._own_ports if str(port) in held]
        self._context.held[self._uid] = self._requests
        return True

    async def devices_of(self, state: ContainerState) -> ContainerAllocation:
        """For one start of a container.

        Raises:
            DeviceError: they can't be had for now.
        """
        return self.allocations.pop(state.name, None) or await self._allocate(state)

    async def give_back(self) -> None:
        """Gives everything back."""
        await self._context.devices.release(self._uid)
        self._context.ports.give_back(self._uid)
        self._context.held.pop(self._uid, None)

    async def _allocate(self, state: ContainerState) -> ContainerAllocation:
        key = self._key
        return await self._context.devices.allocate(
            self._uid,
            key.namespace,
            key.name,
            state.name,
            device_requests(state.spec),
            run=self._run,
            reusable=state.is_init,
        )
