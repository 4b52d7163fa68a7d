"""What a message of a kubelet, a runtime or the scheduler means, and what would help."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuyard.advice import advice
from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Finding, Owner, Remedy, Step


@dataclass(frozen=True)
class Meaning:
    """One meaning. In `headline` and `remedies` `{NAME}` is filled in.

    Attributes:
        cause: of the finding.
        pattern: of the messages that mean it.
    """

    cause: Cause
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
        # Whoever reads them pastes commands, and a pod may give its image any name.
        words = {name: shlex.quote(value) for name, value in names.items()}
        remedies = tuple(
            Remedy(
                advice(remedy.text).format(**names),
                remedy.by,
                remedy.command.format(**words),
                remedy.yard_text.format(**names),
            )
            for remedy in self.remedies
        )
        return Finding(step, self.cause, self.headline.format(**names), owner, (evidence,), remedies)


def meaning(cause: Cause, pattern: str, headline: str, *remedies: Remedy) -> Meaning:
    """A meaning by the text of its pattern."""
    return Meaning(cause, re.compile(pattern), headline, remedies)


def find_meaning(meanings: Iterable[Meaning], said: str) -> tuple[Meaning, re.Match[str]] | None:
    """The first that a message means, and where it says so."""
    return next(((each, match) for each in meanings if (match := each.pattern.search(said))), None)
