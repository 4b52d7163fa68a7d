"""A port of this machine that leads to the replicas of a service, each connection to the next one.

For trying a service out: a connection that was cut isn't repeated, and nothing is balanced by load.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

from gpuyard import errors
from gpuyard.client.streams.port_forward import open_port
from gpuyard.kube.objects import Manifest
from gpuyard.kube.pods import listening_port
from gpuyard.runs.interactive.forwarding import Forwarder, PortPair, listeners, next_change
from gpuyard.runs.interactive.live_pod import NO_POD, check_right
from gpuyard.runs.notices import Notice, Notify
from gpuyard.runs.services.service import Service
from gpuyard.runs.services.service_watch import ServiceWatch
from gpuyard.runs.target import Target
from gpuyard.workloads.serving.service_state import Phase, is_ready


async def forward_service(
    target: Target, service: Service, pairs: Sequence[PortPair], notify: Notify
) -> None:
    """Forwards until the service is stopped or removed.

    Args:
        target: where it is.
        service: as it is now.
        pairs: what leads where, by the ports of its Service; none for its own port.
        notify: told the addresses, and what goes wrong on the way.

    Raises:
        UsageError: a port is taken.
        Forbidden: the user may get at no ports of pods.
        GpuyardError: it was removed.
    """
    if not target.is_yard:
        await check_right(open_port(target.api, target.namespace, NO_POD, 1))
    watch, turns = ServiceWatch(target, service.name), itertools.count()

    def place(port: int) -> tuple[str, int]:
        ready = [pod for pod in watch.service.pods if is_ready(pod)]
        if not ready:
            raise errors.GpuyardError(
                f"no replica of {service.name} is ready",
                remedy=f"why: {target.command('explain', service.name)}",
            )
        pod = ready[next(turns) % len(ready)]
        return pod["metadata"]["name"], listening_port(pod, port)

    pairs = pairs or [PortPair(None, container_port(service.deployment))]
    async with watch.watching(), contextlib.AsyncExitStack() as stack:
        while not watch.is_synced:
            await watch.change()
        forwarder = Forwarder(target, place, lambda: _is_over(watch), notify)
        for pair in pairs:
            port = await stack.enter_async_context(forwarder.listening(pair.remote, listeners(pair, ())))
            notify(Notice(f"http://127.0.0.1:{port} is {service.name}, port {pair.remote} of its replicas"))
        if target.is_yard and service.state.address:
            notify(Notice(f"without `forward` it is {service.state.address}, balanced by load"))
        while not _is_over(watch):
            await next_change(watch)
        notify(Notice(f"{service.name} is stopped"))


def container_port(deployment: Manifest) -> int:
    """The port that its replicas are told to listen on.

    Raises:
        UsageError: none is written down.
    """
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        for port in container.get("ports") or ():
            return int(port["containerPort"])
    raise errors.UsageError(
        f"{deployment['metadata']['name']} names no port", remedy="name one: gpuyard forward NAME 8000"
    )


def _is_over(watch: ServiceWatch) -> bool:
    service = watch.service
    return service.state.phase is Phase.STOPPED and not service.alive
