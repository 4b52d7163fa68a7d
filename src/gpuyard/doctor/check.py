"""What a check finds, and how findings add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpuyard import errors
from gpuyard.tenancy.access import Refusal, RefusedBy, role_for
from gpuyard.tenancy.roles import OPERATOR


class CheckState(StrEnum):
    """How a link is; the last is the worst."""

    SKIPPED = "skipped"
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


_BY_WEIGHT = list(CheckState)


def worst(outcomes: Sequence[CheckState]) -> CheckState:
    """The one that counts for all; skipped when there is none."""
    return max(outcomes, key=_BY_WEIGHT.index, default=CheckState.SKIPPED)


@dataclass(frozen=True)
class NodeFinding:
    """What a check found on one node."""

    node: str
    outcome: CheckState
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One link of the chain.

    Attributes:
        name: stable, for machines too.
        message: one line: what is there, or the cause, or why nobody looked.
        remedy: what mends it; empty when nothing needs to.
        nodes: of a check that looks at each node.
    """

    name: str
    outcome: CheckState
    message: str
    remedy: str = ""
    nodes: tuple[NodeFinding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The documented keys."""
        nodes = [{"name": n.node, "outcome": str(n.outcome), "message": n.message} for n in self.nodes]
        return {
            "name": self.name,
            "outcome": str(self.outcome),
            "message": self.message,
            "remedy": self.remedy or None,
            "nodes": nodes,
        }


def ok(name: str, message: str) -> Check:
    """Nothing to do."""
    return Check(name, CheckState.OK, message)


def warning(name: str, message: str, remedy: str) -> Check:
    """Runs go, and not all is as somebody may think."""
    return Check(name, CheckState.WARNING, message, remedy)


def broken(name: str, message: str, remedy: str) -> Check:
    """Runs don't go."""
    return Check(name, CheckState.BROKEN, message, remedy)


def skipped(name: str, message: str, remedy: str = "") -> Check:
    """Nobody could look, or there is nothing to look at."""
    return Check(name, CheckState.SKIPPED, message, remedy)


def unseen(name: str, error: errors.GpuyardError) -> Check:
    """A check whose facts couldn't be had: skipped when it is for want of rights, else broken."""
    if isinstance(error, errors.Forbidden):
        refusal = Refusal.of(error.message)
        if refusal.action is not None and role_for([refusal.action]) in ("", OPERATOR):
            # Nobody needs it for runs of their own.
            text = f"{refusal.user} may not {refusal.action}, which is for whoever runs the cluster"
            return skipped(name, text)
        if refusal.by is RefusedBy.ROLES:
            return skipped(name, f"{refusal.user} may not {refusal.action}", refusal.remedy)
        return skipped(name, error.message)
    if isinstance(error, errors.NotFound):
        return skipped(name, "this cluster doesn't serve what it would look at")
    return broken(name, error.message, error.remedy)


def of_nodes(name: str, findings: Sequence[NodeFinding], well: str) -> Check:
    """One check of what was found on each node.

    Args:
        name: of the check.
        findings: at least one.
        well: the message when all is well.
    """
    outcome = worst([finding.outcome for finding in findings])
    first = next(finding for finding in findings if finding.outcome is outcome)
    if outcome is CheckState.OK:
        return Check(name, outcome, well, nodes=tuple(findings))
    bad = sum(finding.outcome in (CheckState.WARNING, CheckState.BROKEN) for finding in findings)
    count = f" ({bad} of {len(findings)} nodes)" if len(findings) > 1 and bad > 1 else ""
    return Check(name, outcome, f"{first.node}: {first.message}{count}", first.remedy, tuple(findings))


@dataclass(frozen=True)
class Report:
    """Everything that was found.

    Attributes:
        target: `yard` or `cluster`.
        context: of the kubeconfig; empty for the yard.
        checks: from the first link of the chain to the last.
    """

    target: str
    context: str
    checks: tuple[Check, ...]

    @property
    def first_broken(self) -> Check | None:
        """What to mend first: what comes after it may be its consequence."""
        return next((check for check in self.checks if check.outcome is CheckState.BROKEN), None)

    def to_json(self) -> dict[str, Any]:
        """The documented keys."""
        first = self.first_broken
        return {
            "target": self.target,
            "context": self.context or None,
            "outcome": str(worst([check.outcome for check in self.checks])),
            "first_broken": first.name if first else None,
            "checks": [check.to_json() for check in self.checks],
        }
