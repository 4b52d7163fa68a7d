"""Whether a simulated node of the yard has power: `gpuyard node fault NODE --down` takes it away.

Nothing of the node goes on then, as after a power cut: its loops are cancelled, its processes killed without
a word. The other nodes hear of it from the API alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gpuyard.client.informer import Informer
from gpuyard.kube.nodes import is_powered_off
from gpuyard.kube.objects import Manifest


class NodePower:
    """Runs the loops of one node for as long as it has power.

    Args:
        node: its name.
        on_cut: called once nothing of the node runs any more but its pods' processes.
    """

    def __init__(self, node: str, on_cut: Callable[[], Awaitable[None]]) -> None:
        self._node = node
        self._on_cut = on_cut
        self._is_wanted = True
        self._changed = asyncio.Event()
        self._on = asyncio.Event()
        self._on.set()
        self._loops: set[asyncio.Task[None]] = set()

    @property
    def is_on(self) -> bool:
        """Whether the node has power now."""
        return self._on.is_set()

    def follow(self, nodes: Informer) -> None:
        """Hears from the informer what the node's object says of its power; before that runs."""
        nodes.add_handler(self._on_node)

    def _on_node(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None and new["metadata"]["name"] == self._node:
            self._is_wanted = not is_powered_off(new)
            self._changed.set()

    async def run(self) -> None:
        """Cuts the power and gives it back, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._is_wanted:
                self._on.set()
            elif self._on.is_set():
                self._on.clear()
                for loop in tuple(self._loops):
                    loop.cancel()
                await asyncio.gather(*self._loops, return_exceptions=True)
                await self._on_cut()

    async def keep(self, run: Callable[[], Awaitable[None]]) -> None:
        """Runs a loop of the node; one that a cut ended is run again when the power is back.

        Raises:
            Exception: what the loop raised.
        """
        current = asyncio.current_task()
        assert current is not None
        while True:
            await self._on.wait()
            loop = asyncio.ensure_future(_awaited(run))
            self._loops.add(loop)
            try:
                return await loop
            except asyncio.CancelledError:
                if current.cancelling():
                    raise
            finally:
                self._loops.discard(loop)


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()
