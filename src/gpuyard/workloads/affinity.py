"""Tolerations and affinity of a spec, with Kubernetes' own keys; checked so that a slip shows before submit.

Source: core/v1 `Toleration` and `Affinity` of Kubernetes 1.34.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError(
                "has a value, which operator Exists doesn't look at; write Equal, or drop the value"
            )
        if not self.key and self.operator != "Exists":
            raise ValueError("has no key; write one, or operator: Exists to tolerate every taint")
        if self.tolerationSeconds is not None and self.effect != "NoExecute":
            raise ValueError("has tolerationSeconds, which only effect: NoExecute knows")
        return self


class Requirement(Strict):
    """One clause over labels."""

    key: _Name
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.operator in ("In", "NotIn") and not self.values:
            raise ValueError(f"has no values, and operator {self.operator} needs some")
        if self.operator in ("Exists", "DoesNotExist") and self.values:
            raise ValueError(f"has values, which operator {self.operator} doesn't look at; drop them")
        return self


class NodeRequirement(Requirement):
    """One clause over a node's labels, which can be compared as numbers too."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]  # type: ignore[assignment]

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if self.operator in ("Gt", "Lt") and not (
            self.values and len(self.values) == 1 and self.values[0].lstrip("-").isdecimal()
        ):
            raise ValueError(f"needs one whole number in values for operator {self.operator}")
        return self


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


class LabelSelector(Strict):
    """Clauses that must all hold."""

    matchLabels: dict[str, str] | None = None
    matchExpressions: list[Requirement] | None = None


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
