"""What a step of the ladder finds: what holds the run there, whose it is, and what would help."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpuyard.explain.causes import Cause
from gpuyard.kube.objects import Manifest, key_of


class Step(StrEnum):
    """The steps, in the order in which a run takes them."""

    JOB = "job"
    QUOTA = "quota"
    ADMISSION = "admission"
    NODES = "nodes"
    VOLUMES = "volumes"
    IMAGE = "image"
    DEVICES = "devices"
    START = "start"
    PROCESS = "process"


class By(StrEnum):
    """Who can make a change: whoever submitted the run, or whoever runs the cluster."""

    YOU = "you"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Remedy:
    """One change that would let the run go on.

    Attributes:
        command: does it, where one line can.
        yard_text: the change where the cluster is a yard, if it's another one there.
    """

    text: str
    by: By = By.YOU
    command: str = ""
    yard_text: str = ""

    def __str__(self) -> str:
        who = " (whoever runs the cluster)" if self.by is By.OPERATOR else ""
        return f"{self.text}{who}" + (f": {self.command}" if self.command else "")

    def on_yard(self) -> Remedy:
        """The same where the cluster is a yard: its user runs it, and kubectl has to be told where it is."""
        if self.yard_text:
            return Remedy(self.yard_text)
        command = self.command
        if command.startswith("kubectl "):
            command = f'kubectl --kubeconfig "$(gpuyard kubeconfig)" {command.removeprefix("kubectl ")}'
        return Remedy(self.text, By.YOU, command)

    def to_json(self) -> dict[str, str | None]:
        """All fields; `command` is null where there is none."""
        return {"text": self.text, "by": self.by.value, "command": self.command or None}


@dataclass(frozen=True)
class Owner:
    """The object that holds the run up, as the API names it; `namespace` is empty for cluster-scoped ones."""

    kind: str
    name: str
    namespace: str = ""

    @classmethod
    def of(cls, manifest: Manifest, kind: str = "") -> Owner:
        """Of an object; items of a list don't say their kind."""
        key = key_of(manifest)
        return cls(kind or manifest["kind"], key.name, key.namespace)

    def to_json(self) -> dict[str, str | None]:
        """All fields; `namespace` is null where there is none."""
        return {"kind": self.kind, "namespace": self.namespace or None, "name": self.name}


@dataclass(frozen=True)
class Finding:
    """What holds a run at one step.

    Attributes:
        cause: one word, for machines.
        headline: one clause that says so, with names and numbers.
        owner: whose it is; None when it is the run's own.
        evidence: lines that prove it, the most telling first.
        remedies: the smallest change first.
        lead: what the remedies would do.
    """

    step: Step
    cause: Cause
    headline: str
    owner: Owner | None = None
    evidence: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    lead: str = "what would help"

    def to_json(self) -> dict[str, Any]:
        """Stable keys: step, cause, headline, owner, evidence, remedies."""
        return {
            "step": self.step.value,
            "cause": self.cause,
            "headline": self.headline,
            "owner": self.owner.to_json() if self.owner else None,
            "evidence": list(self.evidence),
            "remedies": [remedy.to_json() for remedy in self.remedies],
        }
