"""Asks one container: what a probe or a hook of it says, in its own way.

Sources: kubernetes `pkg/kubelet/prober/prober.go` (runProbe), `pkg/kubelet/lifecycle/handlers.go`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gpuyard import errors
from gpuyard.client.supervision import Supervisor
from gpuyard.kube.references import expand_references
from gpuyard.local.kubelet.environment import POD_IP
from gpuyard.local.kubelet.probing import grpc_health
from gpuyard.local.kubelet.probing.answer import ProbeAnswer, ProbeResult, failure
from gpuyard.local.kubelet.probing.exec_command import run_command
from gpuyard.local.kubelet.probing.http_get import HttpGet, dial_error
from gpuyard.local.kubelet.probing.probe import ContainerProbe
from gpuyard.local.kubelet.streams import KubeletStreams
from gpuyard.local.runtime.container import Container

_LOOPBACK = ("", "127.0.0.1", "::1", "localhost", POD_IP)


@dataclass(frozen=True)
class ProbeTarget:
    """One start of a container, as probes and hooks reach it.

    Attributes:
        manifest: of the container.
        container: the start.
        streams: runs commands in it.
        ports: that stand in for its containerPorts.
        supervisor: is told of what nobody foresaw: that is no reason to end the worker of the pod.
    """

    manifest: Mapping[str, Any]
    container: Container
    streams: KubeletStreams
    ports: Mapping[int, int]
    supervisor: Supervisor = field(default_factory=Supervisor)

    async def probe(self, probe: ContainerProbe) -> ProbeAnswer:
        """Makes a probe once."""
        [(kind, action)] = probe.handler.items()
        try:
            return await self._ask(kind, action, probe.timeout_s)
        except errors.BadRequest as error:
            return ProbeAnswer(ProbeResult.UNKNOWN, error.message)
        except Exception as error:  # noqa: BLE001 - reports it, and the pod goes on
            return ProbeAnswer(ProbeResult.UNKNOWN, self._unforeseen(f"{kind} probe", error))

    async def _ask(self, kind: str, action: Mapping[str, Any], timeout_s: float) -> ProbeAnswer:
        match kind:
            case "exec":
                return await run_command(self.streams, self.container, self._words(action), timeout_s)
            case "httpGet":
                return await HttpGet.parse(action, *self._address(action)).ask(timeout_s)
            case "tcpSocket":
                return await _connects(*self._address(action), timeout_s)
            case _:
                return await grpc_health.check(*self._address(action), action.get("service") or "", timeout_s)

    async def run_hook(self, hook: Mapping[str, Any]) -> str:
        """Runs a hook to its end; says what went wrong, if anything did.

        The page of an `httpGet` may have any status, as in Kubernetes.
        """
        [(kind, action)] = hook.items()
        try:
            match kind:
                case "sleep":
                    await asyncio.sleep(action.get("seconds", 0))
                    return ""
                case "exec":
                    answer = await run_command(self.streams, self.container, action["command"], None)
                    return "" if answer.succeeded else answer.text or "its command failed"
                case "httpGet":
                    answer = await HttpGet.parse(action, *self._address(action)).ask(None)
                    return "" if answer.succeeded or not answer.text.startswith("Get ") else answer.text
                case _:
                    return f"there are no hooks with {kind}"
        except errors.BadRequest as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - reports it, and the pod goes on
            return self._unforeseen(f"{kind} hook", error)

    def _unforeseen(self, what: str, error: Exception) -> str:
        self.supervisor.report(f"{what} of container {self.container.name}", error)
        return f"{type(error).__name__}: {error}"

    def _words(self, action: Mapping[str, Any]) -> list[str]:
        """Of a probe's command, with `$(NAME)` of what the manifest itself says."""
        values = {one["name"]: one["value"] for one in self.manifest.get("env") or () if one.get("value")}
        return [expand_references(word, values, longest=1 << 20) for word in action["command"]]

    def _address(self, action: Mapping[str, Any]) -> tuple[str, int]:
        """Where an action's host and port are; a port may be a container's by name.

        Raises:
            BadRequest: there is none of that name.
        """
        host, port = action.get("host") or POD_IP, action["port"]
        if isinstance(port, str):
            named = (one for one in self.manifest.get("ports") or () if one.get("name") == port)
            found = next(named, None)
            if found is None:
                raise errors.BadRequest(f"couldn't find port: {port} in container {self.manifest['name']}")
            port = found["containerPort"]
        return host, self.ports.get(port, port) if host in _LOOPBACK else port


async def _connects(host: str, port: int, timeout_s: float) -> ProbeAnswer:
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return failure(f"dial tcp {host}:{port}: i/o timeout")
    except (OSError, ValueError) as error:
        return failure(dial_error(host, port, error))
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return ProbeAnswer(ProbeResult.SUCCESS)
