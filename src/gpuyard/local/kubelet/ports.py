"""Ports of this machine that pods are given: all of a yard's pods share its network.

Each has one for PET_MASTER_PORT, since torchruns of two pods must not meet on 29500, and one in the place of
each containerPort that its program takes from PORT.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

PORT = "PORT"
#: What the pod's port for PET_MASTER_PORT is held as; those of containers are held as their containerPorts.
MASTER = "master"

#: Above are those of runs of several pods, see `PET_MASTER_PORT` in docs/reference/environment.md, and a
#: cluster's node ports, of which no listener tells.
_PORTS = range(15000, 20000)
_TRIES = 50
_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A TCP port that nobody listens on now.

    Where there is one it isn't of those that the kernel gives to connections: a program that starts again
    would find one of these taken by whoever connects to somebody.
    """
    try:
        below = int(_CONNECTIONS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        below = 0
    for _ in range(_TRIES if below >= _PORTS.stop else 0):
        with suppress(OSError):
            return _bound(random.choice(_PORTS))  # noqa: S311 - nothing secret
    return _bound(0)


def _bound(port: int) -> int:
    """The port, once it was bound.

    Raises:
        OSError: somebody has it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", port))
        found: int = probe.getsockname()[1]
        return found


def own_port(container: Mapping[str, Any]) -> int | None:
    """The containerPort that a container's program takes from PORT, so that another may stand in for it.

    That is its only one, and the plain value of PORT. A program that listens on what it likes gets nothing
    else: nobody could tell it.
    """
    ports = [port["containerPort"] for port in container.get("ports") or ()]
    values = [one.get("value") for one in container.get("env") or () if one["name"] == PORT]
    return ports[0] if len(ports) == 1 and values[-1:] == [str(ports[0])] else None


def with_free_port(container: Mapping[str, Any], ports: Mapping[int, int]) -> dict[str, Any]:
    """The container with the port in PORT that stands in for its own; what refers to `$(PORT)` gets it."""
    port = own_port(container)
    if port is None or port not in ports:
        return dict(container)
    env = [{**one, "value": str(ports[port])} if one["name"] == PORT else one for one in container["env"]]
    return {**container, "env": env}


class PortPool:
    """Which pod has which ports, by what they are for; no two pods that run have the same."""

    def __init__(self, find: Callable[[], int] = free_port) -> None:
        self._find = find
        self._held: dict[str, dict[str, int]] = {}

    def take(self, pod_uid: str, what: str = MASTER) -> int:
        """A port of the pod's, the same again until it is given back."""
        held = self._held.setdefault(pod_uid, {})
        if what not in held:
            taken = {port for ports in self._held.values() for port in ports.values()}
            port = self._find()
            while port in taken:
                port = self._find()
            held[what] = port
        return held[what]

    def take_each(self, pod_uid: str, container_ports: Iterable[int]) -> dict[int, int]:
        """A port of the pod's in the place of each of these."""
        return {port: self.take(pod_uid, str(port)) for port in container_ports}

    def keep(self, pod_uid: str, ports: Mapping[str, int]) -> None:
        """Notes what a pod has had since before this process; what is known of it already stands."""
        self._held.setdefault(pod_uid, dict(ports))

    def held(self, pod_uid: str) -> Mapping[str, int]:
        """What a pod has, by what it is for."""
        return self._held.get(pod_uid, {})

    def give_back(self, pod_uid: str) -> None:
        """Frees the pod's ports."""
        self._held.pop(pod_uid, None)
