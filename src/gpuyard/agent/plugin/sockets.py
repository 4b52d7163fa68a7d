"""The sockets that agents of one node serve on, one for each resource, each under a name of its own.

A rollout starts the next agent beside the one that serves, so that no moment is without a plugin. Newer
kubelets keep both by their sockets' names, and what is left when one goes; a name is never used twice, since
they refuse one that they know still. Later sockets have later names: each agent knows whether it is the last.
Source: kubernetes 1.37 `pkg/kubelet/cm/devicemanager/manager.go` (`PluginConnected`, `PluginDisconnected`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

_PREFIX, _SUFFIX = "gpuyard-", ".sock"


class OwnSockets:
    """Those of this process.

    Args:
        folder: the kubelet's, of device plugins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()
        #: Of the last name that was made.
        self._latest = 0
        #: All that were there when the folder was read last.
        self._seen: list[str] = []

    def new(self) -> Path:
        """Where to make the next one; its name is later than all that are there."""
        latest = max(map(_stamp, self._others()), default=0)
        self._latest = max(time.time_ns(), latest + 1, self._latest + 1)
        name = f"{_PREFIX}{self._latest:016x}{_SUFFIX}"
        self._names.add(name)
        return self._folder / name

    def remove(self, socket: Path) -> None:
        """Takes one of them away."""
        socket.unlink(missing_ok=True)
        self._names.discard(socket.name)

    def is_superseded(self) -> bool:
        """Whether this agent has served, and one that came later serves now."""
        return bool(self._latest) and self.is_survived()

    def is_survived(self) -> bool:
        """Whether an agent is left when this one ends: a later one, or any while this one hasn't served."""
        return any(_stamp(name) > self._latest for name in self._others())

    def remove_earlier(self) -> None:
        """Removes the sockets of agents before, which then know that they are superseded, or are gone."""
        for name in self._others():
            if _stamp(name) < self._latest:
                (self._folder / name).unlink(missing_ok=True)

    def _others(self) -> list[str]:
        # While it can't be read, as without a descriptor, it is as it was.
        with suppress(OSError):
            self._seen = [path.name for path in self._folder.iterdir()]
        ours = (name for name in self._seen if name.startswith(_PREFIX) and name.endswith(_SUFFIX))
        return [name for name in ours if name not in self._names]


def _stamp(name: str) -> int:
    try:
        return int(name.removeprefix(_PREFIX).removesuffix(_SUFFIX), 16)
    except ValueError:
        return 0
