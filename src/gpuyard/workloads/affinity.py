"""Tolerations and affinity of a spec, with Kubernetes' own keys; checked so that a slip shows before submit.

Source: core/v1 `Toleration` and `Affinity` of Kubernetes 1.34.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_Weight = Annotated[int, Field(ge=1, le=100)]
_Name = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """Base: unknown keys are errors; what wasn't written isn't rendered."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Toleration(Strict):
    """A taint that the run may be placed in spite of."""

    key: _Name | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: int | None = None


class NodeRequirement(Strict):
    """One clause over a node's labels."""

    key: _Name
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: list[str] | None = None


class NodeTerm(Strict):
    """Clauses that must all hold."""

    matchExpressions: list[NodeRequirement] | None = None
    matchFields: list[NodeRequirement] | None = None


class NodeSelector(Strict):
    """Terms of which one must hold."""

    nodeSelectorTerms: Annotated[list[NodeTerm], Field(min_length=1)]


class PreferredNode(Strict):
    """A term with what it is worth."""

    weight: _Weight
    preference: NodeTerm


class NodeAffinity(Strict):
    """Which nodes a run must or should be on."""

    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector | None = None
    preferredDuringSchedulingIgnoredDuringExecution: list[PreferredNode] | None = None


class LabelRequirement(Strict):
    """One clause over a pod's or namespace's labels."""

    key: _Name
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] | None = None


class LabelSelector(Strict):
    """Clauses that must all hold."""

    matchLabels: dict[str, str] | None = None
    matchExpressions: list[LabelRequirement] | None = None


class PodTerm(Strict):
    """Pods, and the label that says what counts as the same place."""

    topologyKey: _Name
    labelSelector: LabelSelector | None = None
    namespaceSelector: LabelSelector | None = None
    namespaces: list[str] | None = None
    matchLabelKeys: list[str] | None = None
    mismatchLabelKeys: list[str] | None = None


class PreferredPod(Strict):
    """A pod term with what it is worth."""

    weight: _Weight
    podAffinityTerm: PodTerm


class PodAffinity(Strict):
    """Which pods a run must or should be near to, or away from."""

    requiredDuringSchedulingIgnoredDuringExecution: list[PodTerm] | None = None
    preferredDuringSchedulingIgnoredDuringExecution: list[PreferredPod] | None = None


class Affinity(Strict):
    """Where a run must or should be placed."""

    nodeAffinity: NodeAffinity | None = None
    podAffinity: PodAffinity | None = None
    podAntiAffinity: PodAffinity | None = None
