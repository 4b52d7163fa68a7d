"""When a yard that starts is ready: its node is, and has the GPUs that this start is to have."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from gpuyard import errors
from gpuyard.client.informer import Informer
from gpuyard.devices.amd.gpus import has_gpus
from gpuyard.devices.simulated.simulation import parse_simulation
from gpuyard.gpus.faults import no_gpus_text
from gpuyard.gpus.resources import gpu_capacity, is_gpu
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import ObjectKey, labels_of
from gpuyard.kube.wellknown import LABEL_GPU_MODEL, LABEL_SIMULATED
from gpuyard.local.kubelet.devices.manager import DeviceManager

log = logging.getLogger(__name__)

#: A start isn't held up longer than this by GPUs that don't come.
_GPU_TIMEOUT_S = 10.0


class Readiness:
    """Follows one node until it is ready.

    Args:
        simulate: GPUs to simulate, such as "H100:8"; empty for the machine's own.
        log_file: named to the user when the node doesn't get ready.
    """

    def __init__(
        self, node: str, nodes: Informer, devices: DeviceManager, simulate: str, log_file: Path
    ) -> None:
        self._node = node
        self._nodes = nodes
        self._devices = devices
        self._simulate = simulate
        self._log_file = log_file
        self._changed = asyncio.Event()
        nodes.add_handler(lambda old, new: self._changed.set())
        devices.on_change(self._changed.set)

    async def wait(self) -> None:
        """Returns when the node is ready and has its GPUs, or hasn't got them in time.

        Raises:
            YardError: the node didn't get ready in time.
        """
        try:
            async with asyncio.timeout(_GPU_TIMEOUT_S):
                while not (self._is_ready() and self._shows_gpus()):
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            if not self._is_ready():
                raise errors.YardError(
                    f"the node {self._node} didn't get ready in {_GPU_TIMEOUT_S:.0f} s",
                    remedy=f"see {self._log_file}",
                ) from None
            log.warning("the GPUs aren't registered after %.0f s; going on without", _GPU_TIMEOUT_S)

    def _is_ready(self) -> bool:
        node = self._nodes.objects.get(ObjectKey("", self._node))
        return node is not None and condition_is_true(node, "Ready")

    def _shows_gpus(self) -> bool:
        """Whether the node shows the GPUs that this start is to have, and none of an earlier one; or why it
        gets none."""
        node = self._nodes.objects[ObjectKey("", self._node)]
        labels = labels_of(node)
        shown = gpu_capacity(node)
        # The yard has taken away what the agent of the last start said there.
        if no_gpus_text(node) and not any(shown.values()):
            return True
        if self._simulate:
            wanted = parse_simulation(self._simulate)
            # Until the plugins have registered, the node still shows what the last start left in the store.
            resources = self._devices.resources()
            registered = {name: count.capacity for name, count in resources.items() if is_gpu(name)}
            if not registered or not all(registered.values()) or shown != registered:
                return False
            return (labels.get(LABEL_SIMULATED), labels.get(LABEL_GPU_MODEL)) == ("true", wanted.model.name)
        if LABEL_SIMULATED in labels:
            return False
        has_some = Path("/dev/nvidiactl").exists() or has_gpus(Path("/sys"))
        return not has_some or (any(shown.values()) and LABEL_GPU_MODEL in labels)
