"""What a measurement says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure beside its limit and beside what others do on such a machine.

    Attributes:
        at_least: what it must reach; a ceiling unless `higher_is_better`.
        peer: who else was measured, here or on such a machine before.
        peer_figure: in the same unit; 0 where there is none.
    """

    name: str
    figure: float
    unit: str
    at_least: float
    peer: str
    peer_figure: float
    higher_is_better: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is within its limit."""
        return self.figure >= self.at_least if self.higher_is_better else self.figure <= self.at_least

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; below 1 it is worse."""
        if not self.peer_figure or not self.figure:
            return None
        better = self.figure / self.peer_figure
        return better if self.higher_is_better else 1 / better


class Unavailable(Exception):
    """This measurement can't run here; the text says why."""
