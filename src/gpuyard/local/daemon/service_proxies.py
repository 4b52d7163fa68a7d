"""The proxies of a yard's Services: each Service with an address has a process of its own (docs/adr/0059).

They outlive the daemon, so that its restart cuts no connection; the next one finds them again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from gpuyard import errors
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import Manifest, ObjectKey, key_of, uid_of
from gpuyard.local.daemon.metrics import read_metrics
from gpuyard.local.paths import YardPaths
from gpuyard.local.proxy_process import ProxyFiles, ProxyProcess
from gpuyard.metrics_text import MetricSample, parse_metrics

log = logging.getLogger(__name__)

_RETRY_S = 0.2
_RETRY_MAX_S = 30.0
#: One that lived this long was healthy: its end is no reason to wait longer before the next start.
_HEALTHY_S = 60.0
_HEADLESS = "None"


class ServiceProxies:
    """Keeps one proxy for each Service with an address. Made before `services` is run.

    Args:
        paths: of the yard.
        services: of all namespaces; run by the caller.
    """

    def __init__(self, paths: YardPaths, services: Informer) -> None:
        self._paths = paths
        self._services = services
        self._changed = asyncio.Event()
        #: By the uid of their Service; those of one that is gone stay until its process has ended.
        self._keepers: dict[str, asyncio.Task[None]] = {}
        services.add_handler(lambda _old, _new: self._changed.set())

    @property
    def sockets(self) -> list[Path]:
        """Where each of them tells its figures."""
        return [ProxyFiles.of(self._paths, uid_of(service)).socket for service in self._wanted().values()]

    async def read(self, namespace: str, name: str) -> list[MetricSample]:
        """What the proxy of a Service tells now; empty where it tells nothing."""
        service = self._services.objects.get(ObjectKey(namespace, name))
        if service is None:
            return []
        try:
            text = await read_metrics([ProxyFiles.of(self._paths, uid_of(service)).socket])
        except errors.ServiceUnavailable:
            return []
        return parse_metrics(text.decode())

    async def run(self) -> None:
        """Works until cancelled, and leaves the processes alone then."""
        await self._services.synced()
        try:
            while True:
                self._changed.clear()
                wanted = self._wanted()
                for uid, service in wanted.items():
                    if uid not in self._keepers:
                        self._keepers[uid] = asyncio.create_task(self._keep(service), name=f"proxy-{uid}")
                self._end_others(wanted)
                await self._changed.wait()
        finally:
            keepers = list(self._keepers.values())
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            self._keepers.clear()

    def _wanted(self) -> dict[str, Manifest]:
        """The Services that have an address, by uid."""
        services = self._services.objects.values()
        return {uid_of(one): one for one in services if _address(one) not in ("", _HEADLESS)}

    async def _keep(self, service: Manifest) -> None:
        """Has a process of this Service live: an earlier daemon's, or one that is started.

        Goes with the Service, when the process has ended: a child has to be waited for.
        """
        loop = asyncio.get_running_loop()
        key, uid = key_of(service), uid_of(service)
        files = ProxyFiles.of(self._paths, uid)
        retry_s = _RETRY_S
        while True:
            began = loop.time()
            try:
                process = ProxyProcess.find(files.lock) or ProxyProcess.start(
                    self._paths, key.namespace, key.name, files
                )
            except OSError as error:
                log.warning("the proxy of service %s can't be started: %s", key, error)
            else:
                try:
                    await process.ended()
                finally:
                    process.close()
            if loop.time() - began > _HEALTHY_S:
                retry_s = _RETRY_S
            await asyncio.sleep(retry_s)
            if uid not in self._wanted():
                del self._keepers[uid]
                return
            log.warning("the proxy of service %s has ended; it is started again", key)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)

    def _end_others(self, wanted: dict[str, Manifest]) -> None:
        """Ends proxies of Services that are gone, and removes what they left."""
        locks = {ProxyFiles.of(self._paths, uid).lock for uid in wanted}
        for lock in set(self._paths.services_dir.glob("*")) - locks:
            process = ProxyProcess.find(lock)
            if process is not None:
                process.end()
                process.close()
            else:
                with suppress(OSError):
                    lock.unlink()


def _address(service: Manifest) -> str:
    return str((service.get("spec") or {}).get("clusterIP") or "")
