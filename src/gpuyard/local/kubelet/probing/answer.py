"""What came of asking a container once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: No more of what a container says is kept. Source: kubernetes `pkg/probe/http`, `pkg/probe/exec`.
MAX_ANSWER_BYTES = 10 << 10


class ProbeResult(StrEnum):
    """How it went; the word that the event has after the probe's kind."""

    SUCCESS = "succeeded"
    #: It counts as a success, and is told.
    WARNING = "warning"
    FAILURE = "failed"
    #: It couldn't be asked, which says nothing of the container.
    UNKNOWN = "errored and resulted in unknown state"


@dataclass(frozen=True)
class ProbeAnswer:
    """The verdict, and in Kubernetes' words what was said."""

    result: ProbeResult
    text: str = ""

    @property
    def succeeded(self) -> bool | None:
        """None where it doesn't count."""
        if self.result is ProbeResult.UNKNOWN:
            return None
        return self.result is not ProbeResult.FAILURE


def failure(text: str) -> ProbeAnswer:
    """The container doesn't answer as it should."""
    return ProbeAnswer(ProbeResult.FAILURE, text)
