"""The process of one Service's proxy: what it watches, where it listens, and when it ends."""

from __future__ import annotations

import asyncio
import errno
import logging
from pathlib import Path

from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import ENDPOINT_SLICES, SERVICES, Manifest
from gpuyard.kube.wellknown import LABEL_SERVICE_NAME
from gpuyard.local.service_proxy.endpoints import Endpoints, ServicePort, ready_replicas
from gpuyard.local.service_proxy.figures import Figures
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.metrics_page import metrics_text, serve_metrics
from gpuyard.local.service_proxy.service_port import PortProxy

log = logging.getLogger(__name__)

_BIND_RETRY_S = 0.5
_BIND_RETRY_MAX_S = 15.0
_API_RETRY_MAX_S = 1.0
_SOCKET_CHECK_S = 1.0


class ServiceProxy:
    """Serves one Service until it is gone or `stop` is called.

    While the API is away it goes on with what it knew last.

    Args:
        api: where the Service and its EndpointSlices are watched.
        events: tells of an address that can't be had.
        namespace, name: of the Service.
        limits: what clients and replicas may cost.
    """

    def __init__(
        self, api: KubeApi, events: EventRecorder, namespace: str, name: str, limits: ProxyLimits
    ) -> None:
        self._name = name
        self._namespace = namespace
        self._events = events
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self.figures = Figures(self._clock())
        self._services = Informer(
            api,
            SERVICES,
            namespace=namespace,
            field_selector=f"metadata.name={name}",
            retry_max_s=_API_RETRY_MAX_S,
        )
        self._slices = Informer(
            api,
            ENDPOINT_SLICES,
            namespace=namespace,
            label_selector=f"{LABEL_SERVICE_NAME}={name}",
            retry_max_s=_API_RETRY_MAX_S,
        )
        self._services.add_handler(lambda _old, _new: self._changed.set())
        self._slices.add_handler(lambda _old, _new: self._set_ready())
        self._changed = asyncio.Event()
        self._stopped = False
        self._ports: dict[ServicePort, PortProxy] = {}
        #: Those that listen, or try to.
        self._listening: dict[ServicePort, asyncio.Task[None]] = {}
        #: Those that the Service has no more: they finish what they have.
        self._closing: dict[asyncio.Task[None], tuple[ServicePort, PortProxy]] = {}

    def stop(self) -> None:
        """Begins the end: what is under way is finished first."""
        self._stopped = True
        self._changed.set()

    def page(self) -> str:
        """Its figures."""
        ports = [port for _, port in self._serving]
        return metrics_text(
            self._namespace,
            self._name,
            self.figures,
            self._clock(),
            held=sum(port.replicas.waiting for port in ports),
            in_flight=[port.replicas.in_flight for port in ports],
        )

    @property
    def _serving(self) -> list[tuple[ServicePort, PortProxy]]:
        """All that may have requests."""
        return [*self._ports.items(), *self._closing.values()]

    async def run(self, metrics_socket: Path) -> None:
        """Serves; tells its figures on the socket."""
        metrics = asyncio.create_task(self._tell(metrics_socket), name="metrics")
        watches = [
            metrics,
            *(
                asyncio.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
                for informer in (self._services, self._slices)
            ),
        ]
        for watch in watches:
            watch.add_done_callback(self._note_end)
        try:
            await self._follow()
        finally:
            for port in list(self._ports):
                self._close(port)
            await asyncio.gather(*self._closing)
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    def _note_end(self, watch: asyncio.Task[None]) -> None:
        """Ends with a watch that failed in an unforeseen way: what is known would get stale, and nobody would
        notice. The daemon starts another process."""
        if not watch.cancelled():
            name = watch.get_name()
            log.error("%s has ended, so the proxy ends", name, exc_info=watch.exception())
            self.stop()

    async def _tell(self, metrics_socket: Path) -> None:
        """Has its figures told until cancelled. The yard's folder of sockets goes with the daemon, and comes
        back with the next one."""
        while True:
            if metrics_socket.parent.is_dir():
                try:
                    server = await serve_metrics(metrics_socket, self.page)
                except OSError as error:
                    log.warning("can't tell figures on %s: %s", metrics_socket, error)
                else:
                    try:
                        while metrics_socket.exists():
                            await asyncio.sleep(_SOCKET_CHECK_S)
                    finally:
                        server.close()
                        metrics_socket.unlink(missing_ok=True)
            await asyncio.sleep(_SOCKET_CHECK_S)

    async def _follow(self) -> None:
        """Listens where the Service says, until it is gone or another one."""
        uid = ""
        await self._until_known()
        while not self._stopped:
            self._changed.clear()
            service = next(iter(self._services.objects.values()), None)
            endpoints = Endpoints.of(service) if service else None
            if service is None or endpoints is None or not endpoints.address:
                log.info("service %s/%s is gone", self._namespace, self._name)
                return
            if uid not in ("", endpoints.uid):
                log.info("service %s/%s is another one now", self._namespace, self._name)
                return
            uid = endpoints.uid
            self._listen_as_told(service, endpoints)
            await self._changed.wait()

    async def _until_known(self) -> None:
        synced = asyncio.create_task(self._services.synced(), name="services-synced")
        stopped = asyncio.create_task(self._changed.wait(), name="stopped")
        try:
            await asyncio.wait((synced, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            synced.cancel()
            stopped.cancel()

    def _listen_as_told(self, service: Manifest, endpoints: Endpoints) -> None:
        for port in [port for port in self._ports if port not in endpoints.ports]:
            self._close(port)
        for port in endpoints.ports:
            if port not in self._ports:
                proxy = self._ports[port] = PortProxy(self.figures, self._limits)
                listening = self._listen(proxy, service, endpoints.address, port.number)
                self._listening[port] = asyncio.create_task(listening, name=f"listen-{port.number}")
        self._set_ready()

    def _set_ready(self) -> None:
        for port, proxy in self._serving:
            proxy.set_ready(ready_replicas(self._slices.objects.values(), port.name))

    async def _listen(self, proxy: PortProxy, service: Manifest, host: str, port: int) -> None:
        """Tries for as long as it takes: who has the address may leave."""
        retry_s = _BIND_RETRY_S
        while True:
            try:
                await proxy.listen(host, port)
            except OSError as error:
                reason, message = bind_problem(host, port, error)
                log.warning("%s", message)
                await self._events.record(service, "Warning", reason, message)
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _BIND_RETRY_MAX_S)
            else:
                log.info("service %s/%s listens on %s:%d", self._namespace, self._name, host, port)
                return

    def _close(self, port: ServicePort) -> None:
        """Has what is under way at a port finished, meanwhile."""
        proxy = self._ports.pop(port)
        closing = self._end(proxy, self._listening.pop(port))
        task = asyncio.create_task(closing, name=f"close-{port.number}")
        self._closing[task] = port, proxy
        task.add_done_callback(self._closing.pop)

    async def _end(self, proxy: PortProxy, listening: asyncio.Task[None]) -> None:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await proxy.close()


def bind_problem(host: str, port: int, error: OSError) -> tuple[str, str]:
    """Reason and sentence of an Event on a Service whose address can't be had."""
    if error.errno == errno.EADDRINUSE:
        return "PortTaken", (
            f"another program listens on {host}:{port} or on port {port} of all addresses: stop it "
            f"(`ss -ltnp sport = :{port}` names it), or give the service another port"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return "PortNotAllowed", (
            f"ports below 1024 such as {port} are root's on this machine: "
            "give the service a port from 1024 up"
        )
    return (
        "AddressNotUsable",
        f"can't listen on {host}:{port}: {error.strerror or error}; see `ip address show lo`",
    )
