"""Whether the yard runs, and what there is to know of it, from its own files and its node object."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpuyard import __version__, errors
from gpuyard.client.rest import RestApi
from gpuyard.gpus.resources import allocatable_gpus, capacity_gpus, has_simulated_gpus
from gpuyard.kube.nodes import not_ready_text
from gpuyard.kube.objects import NODES, Manifest, annotations_of, labels_of
from gpuyard.kube.wellknown import (
    ANNOTATION_CONTAINERS,
    ANNOTATION_ENFORCED,
    ANNOTATION_ISOLATION,
    ANNOTATION_NO_GPUS,
    LABEL_GPU_MODEL,
)
from gpuyard.local.paths import YardPaths
from gpuyard.local.settings import load_running
from gpuyard.local.yard_http import YardHttp, check_release, stopped, until_reachable


@dataclass(frozen=True)
class GpuStatus:
    """A yard's GPUs.

    Attributes:
        model: gpuyard's name for them; None without any.
        capacity: all that there are.
        allocatable: those that are healthy.
        none_because: the agent's reason; None while there are some, or it isn't known yet.
    """

    model: str | None
    simulated: bool
    capacity: int
    allocatable: int
    none_because: str | None


@dataclass(frozen=True)
class IsolationStatus:
    """How runs are kept apart: by namespaces, by limits that are enforced, in containers of images."""

    level: str
    enforced: str
    containers: str


@dataclass(frozen=True)
class YardNodeStatus:
    """One node of a yard.

    Attributes:
        agent_pid: None when its agent doesn't run.
        not_ready: since when it isn't ready, and why; None when it is.
    """

    name: str
    agent_pid: int | None
    not_ready: str | None
    gpus: GpuStatus


@dataclass(frozen=True)
class YardStatus:
    """A running yard. Its fields are the documented keys of `gpuyard status -o json`.

    Attributes:
        metrics: URL of what its GPUs do, in Prometheus' words; it takes the yard's token, as all of the API.
        agent_pid: of the first node; None when the agent doesn't run.
        node: the first node.
        not_ready: since when the first node isn't ready, and why; None when it is.
        gpus: of all nodes.
        nodes: all of them, in order.
        versions: of each program that takes part.
    """

    api: str
    metrics: str
    data_dir: str
    daemon_pid: int
    agent_pid: int | None
    node: str
    not_ready: str | None
    gpus: GpuStatus
    nodes: Sequence[YardNodeStatus]
    isolation: IsolationStatus
    versions: Mapping[str, str]


async def yard_status(paths: YardPaths, on_silence: Callable[[str], None] = lambda text: None) -> YardStatus:
    """What there is to know of the yard; `on_silence` is told once that it doesn't answer yet.

    Raises:
        YardStopped: there is no running yard.
        YardError: its sockets are where somebody else could have put them.
    """
    paths.check_runtime_dir()
    await until_reachable(paths)
    running = load_running(paths.running)
    if running is None:
        raise stopped(paths)
    try:
        found, server = await _ask(paths, running.agents, on_silence)
    except errors.ConnectionFailed as error:
        raise stopped(paths) from error
    except errors.NotFound as error:
        raise errors.YardError(
            f"somebody deleted a node of the yard: {error.message}",
            remedy="it registers itself again within seconds, and its GPUs get their labels within a minute",
        ) from error
    nodes = [
        YardNodeStatus(name, pid or None, not_ready_text(node) or None, _gpus(node))
        for (name, pid), node in zip(running.agents.items(), found, strict=True)
    ]
    first, node = nodes[0], found[0]
    # "podman 4.3.1", "podman" while it is being tried, or "none: " and why.
    runtime, _, version = annotations_of(node).get(ANNOTATION_CONTAINERS, "none: unknown").partition(" ")
    has_containers = runtime != "none:"
    return YardStatus(
        api=running.api,
        metrics=f"{running.api}/metrics",
        data_dir=str(paths.data_dir),
        daemon_pid=running.daemon_pid,
        agent_pid=first.agent_pid,
        node=first.name,
        not_ready=first.not_ready,
        gpus=_of_all([one.gpus for one in nodes]),
        nodes=nodes,
        isolation=IsolationStatus(
            level=annotations_of(node).get(ANNOTATION_ISOLATION, "none"),
            enforced=annotations_of(node).get(ANNOTATION_ENFORCED, "none"),
            containers=runtime if has_containers else f"none: {version}",
        ),
        versions={
            "gpuyard": __version__,
            "daemon": running.version,
            "kubernetes": server,
            "python": platform.python_version(),
            **({runtime: version} if has_containers and version else {}),
        },
    )


async def _ask(
    paths: YardPaths, nodes: Iterable[str], on_silence: Callable[[str], None]
) -> tuple[list[Manifest], str]:
    http = YardHttp(paths, on_silence, any_release=True)
    async with RestApi(unix_socket=paths.api_socket, http=http) as api:
        await http.connect()
        found = [await api.get(NODES, node) for node in nodes]
        version = await api.get_path("/version")
        return found, str(version.get("gitVersion", ""))


def _gpus(node: Manifest) -> GpuStatus:
    return GpuStatus(
        model=labels_of(node).get(LABEL_GPU_MODEL),
        simulated=has_simulated_gpus(node),
        capacity=capacity_gpus(node),
        allocatable=allocatable_gpus(node),
        none_because=annotations_of(node).get(ANNOTATION_NO_GPUS),
    )


def _of_all(gpus: Sequence[GpuStatus]) -> GpuStatus:
    if len(gpus) == 1:
        return gpus[0]
    return GpuStatus(
        model=", ".join(dict.fromkeys(one.model for one in gpus if one.model)) or None,
        simulated=any(one.simulated for one in gpus),
        capacity=sum(one.capacity for one in gpus),
        allocatable=sum(one.allocatable for one in gpus),
        none_because=next((one.none_because for one in gpus if one.none_because), None),
    )


async def check_yard(api: RestApi, paths: YardPaths) -> None:
    """Raises unless a yard of this release answers on the socket."""
    await until_reachable(paths)
    if not paths.api_socket.exists():
        raise stopped(paths)
    try:
        await api.get_path("/version")
    except errors.ConnectionFailed as error:
        raise stopped(paths) from error
    check_release(api.server_headers)
