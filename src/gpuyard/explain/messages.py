"""What a message of a kubelet, a runtime or the scheduler means, and what would help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuyard.explain.finding import Finding, Owner, Remedy, Step


@dataclass(frozen=True)
class Cause:
    """One meaning. In `headline` and `remedies` `{NAME}` is filled in.

    Attributes:
        key: of the finding, short and stable.
        pattern: of the messages that mean it.
    """

    key: str
    pattern: re.Pattern[str]
    headline: str
    remedies: tuple[Remedy, ...]

    def finding(
        self, step: Step, evidence: str, names: Mapping[str, str], owner: Owner | None = None
    ) -> Finding:
        """What it says of a run.

        Args:
            step: that it holds the run at.
            evidence: the message, and who says it.
            names: what is filled in.
            owner: whose it is; None for the run's own.
        """
        remedies = tuple(
            Remedy(remedy.text.format(**names), remedy.by, remedy.command.format(**names))
            for remedy in self.remedies
        )
        return Finding(step, self.key, self.headline.format(**names), owner, (evidence,), remedies)


def cause(key: str, pattern: str, headline: str, *remedies: Remedy) -> Cause:
    """A cause by the text of its pattern."""
    return Cause(key, re.compile(pattern), headline, remedies)


def find_cause(causes: Iterable[Cause], said: str) -> tuple[Cause, re.Match[str]] | None:
    """The first that a message means, and where it says so."""
    return next(((each, match) for each in causes if (match := each.pattern.search(said))), None)
