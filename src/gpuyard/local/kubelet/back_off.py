"""How long to wait before what failed is tried again (pure).

Source: kubernetes `pkg/kubelet/kuberuntime/kuberuntime_manager.go` doBackOff.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackOff:
    """Delays between restarts: the first at once, then `first_s`, doubling up to `most_s`.

    Attributes:
        reset_s: a container that ran so long starts over.
        obstacle_s: how soon one is tried again that couldn't be made, for lack of a ConfigMap, say.
    """

    first_s: float = 10.0
    most_s: float = 300.0
    reset_s: float = 600.0
    obstacle_s: float = 2.0

    def delay_s(self, failures: int) -> float:
        """How long to wait after so many runs in a row that ended (1 for the first)."""
        if failures <= 1:
            return 0.0
        # The exponent is bounded, since a container may fail for weeks.
        return float(min(self.first_s * 2 ** min(failures - 2, 32), self.most_s))
