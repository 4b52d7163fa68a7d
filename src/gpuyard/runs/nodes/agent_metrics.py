"""Reading the metrics of nodes' agents: by the API server's proxy on a cluster, from the API on a yard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import Manifest
from gpuyard.metrics_text import MetricSample, parse_metrics
from gpuyard.runs.target import Target

AGENT_PORT = 9400
#: Every node is asked again after this.
EVERY_S = 2.0
#: A node that doesn't answer must not hold up what is shown of the others for long.
_ANSWER_S = 5.0
#: What a node said counts for so long when it doesn't answer.
_STALE_S = 15.0
#: Of 16 GPUs in seven parts each it is a tenth of this.
_MOST_BYTES = 8 << 20
#: The API server carries each answer: so many at once.
_AT_ONCE = 16


@dataclass(frozen=True)
class NodeMetrics:
    """What an agent said last; `failure` is why it said nothing, and empty when it did."""

    samples: tuple[MetricSample, ...] = ()
    failure: str = "it hasn't been asked yet"


class AgentMetrics:
    """Asks agents, and keeps what each said last.

    Args:
        target: where the nodes are.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._latest: dict[str, tuple[float, NodeMetrics]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def of(self, node: str) -> NodeMetrics:
        """What the node's agent said last."""
        return self._latest.get(node, (0.0, NodeMetrics()))[1]

    async def ask(self, nodes: Iterable[str], agents: Iterable[Manifest]) -> None:
        """Asks the agents of all these nodes, several at a time; returns when each has answered or hasn't.

        Args:
            nodes: by name.
            agents: their pods. What others claim to be isn't among them: see `fleet`.
        """
        agent_of = by_node(agents)
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(self._ask(node, agent_of.get(node)), name=f"metrics of {node}")

    async def keep_asking(self, see: Callable[[], tuple[Iterable[str], Iterable[Manifest]]]) -> None:
        """Asks again and again until cancelled; `see` gives the arguments of `ask` each time."""
        asked: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                nodes, agents = see()
                agent_of = by_node(agents)
                asked = {node: task for node, task in asked.items() if not task.done()}
                for node in nodes:
                    if node not in asked:
                        name = f"metrics of {node}"
                        asked[node] = group.create_task(self._ask(node, agent_of.get(node)), name=name)
                await asyncio.sleep(EVERY_S)

    async def _ask(self, node: str, agent: Manifest | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with self._slots, asyncio.timeout(_ANSWER_S):
                samples = parse_metrics(await self._text(agent))
                # A yard's nodes answer together.
                found = NodeMetrics(tuple(s for s in samples if s.labels.get("Hostname", node) == node), "")
        except TimeoutError:
            found = NodeMetrics(failure=f"its agent doesn't answer within {_ANSWER_S:.0f} s")
        except (errors.GpuyardError, OSError) as error:
            found = NodeMetrics(failure=_failure_text(error))
        at_s, before = self._latest.get(node, (0.0, found))
        if found.failure and not before.failure and loop.time() - at_s < _STALE_S:
            return
        self._latest[node] = loop.time(), found

    async def _text(self, agent: Manifest | None) -> str:
        if self._target.is_yard:
            return await self._read("/metrics")
        if agent is None:
            raise errors.NotFound("no agent of gpuyard runs there, or you may not see it")
        metadata = agent["metadata"]
        path = (
            f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}:{AGENT_PORT}/proxy/metrics"
        )
        return await self._read(path)

    async def _read(self, path: str) -> str:
        return await self._target.api.get_text(path, silence_timeout_s=_ANSWER_S, most_bytes=_MOST_BYTES)


def by_node(agents: Iterable[Manifest]) -> Mapping[str, Manifest]:
    """The agent's pod of each node; one that is ready where there are two, as during an update."""
    found: dict[str, Manifest] = {}
    for pod in agents:
        node = pod["spec"].get("nodeName")
        if node and (node not in found or condition_is_true(pod, "Ready")):
            found[node] = pod
    return found


def _failure_text(error: errors.GpuyardError | OSError) -> str:
    if isinstance(error, errors.Forbidden):
        return "you may not read it: it takes the right to get pods/proxy in gpuyard's namespace"
    return str(error.strerror or error) if isinstance(error, OSError) else error.message
