"""Taking what is gpuyard's off nodes that are to have no agent any more.

Their labellers do it when they are told to end. A labeller that was killed, or whose node was down, can't.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gpuyard.agent.labelling import unmark_node
from gpuyard.client.rest import RestApi
from gpuyard.installing.install import agent_pod
from gpuyard.kube.nodes import daemon_misfit
from gpuyard.kube.objects import NODES, PODS, key_of
from gpuyard.tenancy.names import SELECTOR
from gpuyard.tenancy.node_marks import is_marked

_LOOK_S = 0.5
#: A labeller has ten seconds to end.
_GONE_S = 15.0


async def marked_nodes(api: RestApi) -> Sequence[str]:
    """The nodes on which anything is gpuyard's."""
    return [key_of(node).name for node in (await api.list(NODES)).items if is_marked(node)]


async def unmark_deselected(
    api: RestApi, namespace: str, marked: Sequence[str], say: Callable[[str], None]
) -> None:
    """Takes it off those of these nodes that have no agent, and are to have none.

    Args:
        api: of the cluster.
        namespace: of the agents.
        marked: nodes that were marked before an install.
        say: told of each.
    """
    pod = await agent_pod(api, namespace)
    listed = [node for node in (await api.list(NODES)).items if key_of(node).name in marked]
    for name in sorted(key_of(node).name for node in listed if daemon_misfit(node, pod)):
        if await _agent_goes(api, namespace, name):
            await unmark_node(api, name)
            say(f"node {name}: labels and taint removed")


async def _agent_goes(api: RestApi, namespace: str, node: str) -> bool:
    """Whether the node's agent is gone, or doesn't end; False when it stays, under a later taint."""
    loop = asyncio.get_running_loop()
    due = loop.time() + _GONE_S
    while True:
        pods = (await api.list(PODS, namespace, label_selector=SELECTOR)).items
        here = [pod for pod in pods if pod["spec"].get("nodeName") == node]
        if any(not pod["metadata"].get("deletionTimestamp") for pod in here):
            return False
        if not here or loop.time() > due:
            return True
        await asyncio.sleep(_LOOK_S)
