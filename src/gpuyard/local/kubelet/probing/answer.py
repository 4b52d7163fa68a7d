"""What came of asking a container once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: No more of what a container says is kept. Source: kubernetes `pkg/probe/http`, `pkg/probe/exec`.
MAX_ANSWER_BYTES = 10 << 10


class Verdict(StrEnum):
    """How it went; the word that the event has after the probe's kind."""

    SUCCESS = "succeeded"
    #: It counts as a success, and is told.
    WARNING = "warning"
    FAILURE = "failed"
    #: It couldn't be asked, which says nothing of the container.
    UNKNOWN = "errored and resulted in unknown state"


@dataclass(frozen=True)
class Answer:
    """The verdict, and in Kubernetes' words what was said."""

    verdict: Verdict
    text: str = ""

    @property
    def succeeded(self) -> bool | None:
        """None where it doesn't count."""
        if self.verdict is Verdict.UNKNOWN:
            return None
        return self.verdict is not Verdict.FAILURE


def failure(text: str) -> Answer:
    """The container doesn't answer as it should."""
    return Answer(Verdict.FAILURE, text)
