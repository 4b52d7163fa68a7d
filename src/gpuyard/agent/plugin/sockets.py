"""The sockets that agents of one node serve on, each under a name of its own.

A rollout starts the next agent beside the one that serves, so that no moment is without a plugin. Newer
kubelets keep both by their sockets' names, and what is left when one goes; a name is never used twice, since
they refuse one that they know still. Later agents have later names: each knows whether it is the last.
Source: kubernetes 1.37 `pkg/kubelet/cm/devicemanager/manager.go` (`PluginConnected`, `PluginDisconnected`).
"""

from __future__ import annotations

import time
from pathlib import Path

_PREFIX, _SUFFIX = "gpuyard-", ".sock"


class OwnSockets:
    """Those of this process.

    Args:
        folder: the kubelet's, of device plugins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current = ""

    @property
    def path(self) -> Path:
        """Of the socket of now."""
        return self._folder / self._current

    def renew(self) -> None:
        """Gives it a name that is later than all that are there."""
        latest = max((_stamp(name) for name in self._names()), default=0)
        self._current = f"{_PREFIX}{max(time.time_ns(), latest + 1):016x}{_SUFFIX}"

    def is_superseded(self) -> bool:
        """Whether this one has served, and an agent that came later serves now."""
        return bool(self._current) and self.is_survived()

    def is_survived(self) -> bool:
        """Whether an agent is left when this one ends: a later one, or any while this one hasn't served."""
        return any(_stamp(name) > _stamp(self._current) for name in self._names())

    def remove_earlier(self) -> None:
        """Removes the sockets of agents before, which then know that they are superseded, or are gone."""
        for name in self._names():
            if _stamp(name) < _stamp(self._current):
                (self._folder / name).unlink(missing_ok=True)

    def _names(self) -> list[str]:
        return [path.name for path in self._folder.glob(f"{_PREFIX}*{_SUFFIX}")]


def _stamp(name: str) -> int:
    try:
        return int(name.removeprefix(_PREFIX).removesuffix(_SUFFIX), 16)
    except ValueError:
        return 0
