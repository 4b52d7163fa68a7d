"""One image against all nodes: a verdict for each, the nearest image that would fit, where pods may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpuyard.compatibility.facts import Facts
from gpuyard.compatibility.judge import judge, judge_machine
from gpuyard.compatibility.nearest import Suggestion, nearest_fit
from gpuyard.compatibility.need import Need
from gpuyard.compatibility.offer import Offer
from gpuyard.compatibility.verdict import Verdict
from gpuyard.kube.wellknown import LABEL_GPU_INJECTION, LABEL_GPU_PRODUCT, LABEL_HOSTNAME

#: Labels that can tell the nodes that fail from the others, the one that says most about the cause first.
_TELLING = (
    "kubernetes.io/arch",
    "nvidia.com/cuda.driver-version.full",
    "nvidia.com/cuda.driver.major",
    LABEL_GPU_PRODUCT,
    LABEL_GPU_INJECTION,
)


@dataclass(frozen=True)
class FleetReport:
    """What became of one image on a set of nodes.

    Attributes:
        need: of the image (of its first platform, where it has several).
        verdicts: one a node.
        suggestion: what would run on nodes on which this doesn't; None when all do, or nothing would.
    """

    need: Need
    verdicts: tuple[Verdict, ...]
    suggestion: Suggestion | None

    @property
    def none_fits(self) -> bool:
        """Whether it is known to run nowhere."""
        return bool(self.verdicts) and all(verdict.fails for verdict in self.verdicts)

    @property
    def failing(self) -> frozenset[str]:
        """Names of the nodes that it won't run on."""
        return frozenset(verdict.offer.name for verdict in self.verdicts if verdict.fails)

    def without_gpus(self) -> FleetReport:
        """For a run that may go on without GPUs."""
        return replace(self, verdicts=tuple(verdict.without_gpus() for verdict in self.verdicts))


def judge_all(needs: Sequence[Need], offers: Sequence[Offer], facts: Facts) -> FleetReport:
    """The verdict of each node over the image, by the platform that it would pull.

    Args:
        needs: one per platform of the image, at least one.
        offers: the nodes.
        facts: what is known.
    """
    # A cluster has many nodes of few kinds.
    kinds = {kind: judge(_pulled(needs, kind), kind, facts) for kind in {offer.kind for offer in offers}}
    verdicts = tuple(replace(kinds[offer.kind], offer=offer) for offer in offers)
    failing = [verdict.offer for verdict in verdicts if verdict.fails]
    suggestion = nearest_fit(_pulled(needs, failing[0]), failing, facts) if failing else None
    return FleetReport(needs[0], verdicts, suggestion)


def judge_machines(needs: Sequence[Need], offers: Sequence[Offer]) -> FleetReport:
    """As `judge_all`, for a run that asks for no GPUs: by CPU architecture alone."""
    return FleetReport(needs[0], tuple(judge_machine(_pulled(needs, offer), offer) for offer in offers), None)


def exclusion(report: FleetReport, labels: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
    """A node affinity expression that keeps pods off the nodes that fail; None when none does.

    By a label that all of them have and whose values no other node has, so that nodes which join later are
    judged by their driver or product too. Where no label tells them apart, by host name.

    Args:
        report: of all candidate nodes.
        labels: of each of those nodes, by name.
    """
    if not report.failing:
        return None
    failing = [labels[name] for name in sorted(report.failing)]
    others = [labels[v.offer.name] for v in report.verdicts if not v.fails]
    for key in _TELLING:
        values = {node.get(key, "") for node in failing}
        if "" not in values and not values & {node.get(key, "") for node in others}:
            return {"key": key, "operator": "NotIn", "values": sorted(values)}
    names = [labels[name].get(LABEL_HOSTNAME, name) for name in sorted(report.failing)]
    return {"key": LABEL_HOSTNAME, "operator": "NotIn", "values": names}


def _pulled(needs: Sequence[Need], offer: Offer) -> Need:
    return next((need for need in needs if offer.machine and need.machine == offer.machine), needs[0])
