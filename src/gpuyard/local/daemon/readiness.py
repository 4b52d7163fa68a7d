"""When a yard that starts is ready: its nodes are, and have the GPUs that this start is to have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from gpuyard import errors
from gpuyard.client.informer import Informer
from gpuyard.devices.amd.gpus import has_gpus
from gpuyard.gpus.faults import no_gpus_text
from gpuyard.gpus.resources import gpu_capacity, is_gpu
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import ObjectKey, labels_of
from gpuyard.kube.wellknown import LABEL_GPU_MODEL, LABEL_SIMULATED
from gpuyard.local.daemon.yard_node import YardNode

log = logging.getLogger(__name__)

#: A start isn't held up longer than this by GPUs that don't come.
_GPU_TIMEOUT_S = 10.0


class Readiness:
    """Follows the nodes of a yard until all are ready.

    Args:
        informer: of the nodes.
        nodes: the yard's own.
        log_file: named to the user when a node doesn't get ready.
    """

    def __init__(self, informer: Informer, nodes: Sequence[YardNode], log_file: Path) -> None:
        self._informer = informer
        self._nodes = nodes
        self._log_file = log_file
        self._changed = asyncio.Event()
        informer.add_handler(lambda old, new: self._changed.set())
        for node in nodes:
            node.devices.on_change(self._changed.set)

    async def wait(self) -> None:
        """Returns when the nodes are ready and have their GPUs, or haven't got them in time.

        Raises:
            YardError: a node didn't get ready in time.
        """
        try:
            async with asyncio.timeout(_GPU_TIMEOUT_S):
                while not all(self._is_ready(node) and self._shows_gpus(node) for node in self._nodes):
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            for node in self._nodes:
                if not self._is_ready(node):
                    raise errors.YardError(
                        f"the node {node.plan.name} didn't get ready in {_GPU_TIMEOUT_S:.0f} s",
                        remedy=f"see {self._log_file}",
                    ) from None
            log.warning("the GPUs aren't registered after %.0f s; going on without", _GPU_TIMEOUT_S)

    def _is_ready(self, node: YardNode) -> bool:
        found = self._informer.objects.get(ObjectKey("", node.plan.name))
        return found is not None and condition_is_true(found, "Ready")

    def _shows_gpus(self, its: YardNode) -> bool:
        """Whether the node shows the GPUs that this start is to have, and none of an earlier one; or why it
        gets none."""
        node = self._informer.objects[ObjectKey("", its.plan.name)]
        labels = labels_of(node)
        shown = gpu_capacity(node)
        # The yard has taken away what the agent of the last start said there.
        if no_gpus_text(node) and not any(shown.values()):
            return True
        if wanted := its.plan.simulation:
            # Until the plugins have registered, the node still shows what the last start left in the store.
            resources = its.devices.resources()
            registered = {name: count.capacity for name, count in resources.items() if is_gpu(name)}
            if not registered or not all(registered.values()) or shown != registered:
                return False
            return (labels.get(LABEL_SIMULATED), labels.get(LABEL_GPU_MODEL)) == ("true", wanted.model.name)
        if LABEL_SIMULATED in labels:
            return False
        has_some = Path("/dev/nvidiactl").exists() or has_gpus(Path("/sys"))
        return not has_some or (any(shown.values()) and LABEL_GPU_MODEL in labels)
