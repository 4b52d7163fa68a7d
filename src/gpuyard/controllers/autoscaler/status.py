"""What an autoscaler's status and annotation say after a decision (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from gpuyard.autoscaling.decision import Said, ScalingDecision
from gpuyard.autoscaling.metrics import MetricProposal
from gpuyard.autoscaling.reason import ScalingReason
from gpuyard.autoscaling.replicas import Proposal
from gpuyard.kube.conditions import with_condition
from gpuyard.kube.objects import AUTOSCALERS, Manifest, annotations_of, with_kind
from gpuyard.kube.quantity import format_milli
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import ANNOTATION_SCALING


def with_conditions(autoscaler: Manifest, said: Iterable[Said], now: datetime) -> Manifest:
    """The autoscaler with these conditions, and nothing else changed but the generation that they are of."""
    status = autoscaler.get("status") or {}
    conditions = list(status.get("conditions") or ())
    for one in said:
        value = "True" if one.true else "False"
        conditions = with_condition(
            conditions, one.type, value, now=format_time(now), reason=one.reason, message=one.message
        )
    generation = autoscaler["metadata"].get("generation", 0)
    new = {**status, "conditions": conditions, "observedGeneration": generation}
    return with_kind(AUTOSCALERS, {**autoscaler, "status": new})


def with_decision(
    autoscaler: Manifest, decision: ScalingDecision, before: int, said: Iterable[Said], now: datetime
) -> Manifest:
    """The autoscaler as it says what was decided.

    Args:
        before: how many replicas there were.
        said: what is true of it then.
    """
    found = with_conditions(autoscaler, said, now)
    status: dict[str, Any] = {
        **found["status"],
        "currentReplicas": before,
        "currentMetrics": [_metric_status(one) for one in decision.proposals],
    }
    if not decision.failure:
        status["desiredReplicas"] = decision.replicas
    if decision.replicas != before:
        status["lastScaleTime"] = format_time(now)
    return {**with_reason(found, decision.reason), "status": status}


def with_reason(autoscaler: Manifest, reason: ScalingReason) -> Manifest:
    """The autoscaler with why there are as many as there are."""
    annotations = {**annotations_of(autoscaler), ANNOTATION_SCALING: reason.to_text()}
    return {**autoscaler, "metadata": {**autoscaler["metadata"], "annotations": annotations}}


def _metric_status(proposal: MetricProposal) -> Manifest:
    """Of one that isn't known Kubernetes leaves the place empty, too."""
    if not isinstance(proposal.result, Proposal):
        return {"type": ""}
    current = {"averageValue": format_milli(proposal.result.average_milli)}
    return {"type": "Pods", "pods": {"metric": {"name": proposal.metric.name}, "current": current}}
