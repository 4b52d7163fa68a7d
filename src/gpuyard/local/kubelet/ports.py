"""Ports for PET_MASTER_PORT: torchruns of two pods on one host must not meet on 29500."""

from __future__ import annotations

import socket
from collections.abc import Callable


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


class PortPool:
    """Which pod has which port; no two pods that run have the same."""

    def __init__(self, find: Callable[[], int] = free_port) -> None:
        self._find = find
        self._held: dict[str, int] = {}

    def take(self, pod_uid: str) -> int:
        """The pod's port, the same again until it is given back."""
        if pod_uid not in self._held:
            port = self._find()
            while port in self._held.values():
                port = self._find()
            self._held[pod_uid] = port
        return self._held[pod_uid]

    def keep(self, pod_uid: str, port: int) -> None:
        """Notes what a pod has had since before this process."""
        self._held[pod_uid] = port

    def give_back(self, pod_uid: str) -> None:
        """Frees the pod's port."""
        self._held.pop(pod_uid, None)
