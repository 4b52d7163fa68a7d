"""What the steps of the ladder say, and what they look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

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
    """One change that would let the run go on; `command` does it, where one line can."""

    text: str
    by: By = By.YOU
    command: str = ""

    def __str__(self) -> str:
        who = " (whoever runs the cluster)" if self.by is By.OPERATOR else ""
        return f"{self.text}{who}" + (f": {self.command}" if self.command else "")

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
        cause: short and stable, for machines.
        headline: one clause that says so, with names and numbers.
        owner: whose it is; None when it is the run's own.
        evidence: lines that prove it, the most telling first.
        remedies: the smallest change first.
        lead: what the remedies would do.
    """

    step: Step
    cause: str
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


@dataclass(frozen=True)
class LogCause:
    """A cause that a run's own output names: the line, what it means, what would mend it."""

    key: str
    line: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class Ended:
    """How a run ended, or its last attempt.

    Attributes:
        reason: as `gpuyard ps` has it.
        message: one clause.
        exit_code: of the process that failed first; None when none has ended.
        tail: the last lines of its output.
    """

    reason: str
    message: str
    exit_code: int | None
    tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Objects:
    """What has been read about one run; lists are empty where nothing is, or nothing could be read.

    Attributes:
        job: the Job; for a pod that no Job made, a stand-in with that pod's spec.
        pod: the one that is furthest behind, or that failed first; None before there is one.
        events: of the Job, the pod and its claims, in any order.
        quotas, limit_ranges: of the namespace.
        neighbours: pods of the namespace.
        claims: PersistentVolumeClaims of the namespace.
        volumes, classes: PersistentVolumes and StorageClasses.
        names: names that there are of a kind (`ConfigMap`, `PriorityClass`), for nearest spellings.
        agents: pods of gpuyard's agent.
        unreadable: plurals of what the user may not list, with `all ` where it was asked for everywhere.
        is_yard: a machine's own yard, not a cluster.
    """

    job: Manifest
    pod: Manifest | None = None
    events: Sequence[Manifest] = ()
    quotas: Sequence[Manifest] = ()
    limit_ranges: Sequence[Manifest] = ()
    neighbours: Sequence[Manifest] = ()
    claims: Sequence[Manifest] = ()
    volumes: Sequence[Manifest] = ()
    classes: Sequence[Manifest] = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    agents: Sequence[Manifest] = ()
    unreadable: frozenset[str] = frozenset()
    is_yard: bool = False

    @property
    def namespace(self) -> str:
        """The run's."""
        return str(self.job["metadata"].get("namespace", ""))

    @property
    def spec(self) -> Mapping[str, Any]:
        """The pod's spec: as admission left it, or before there is a pod as the Job has it."""
        spec: Mapping[str, Any] = self.pod["spec"] if self.pod else self.job["spec"]["template"]["spec"]
        return spec

    def last_event(self, *reasons: str, of: Manifest | None = None) -> Manifest | None:
        """The newest event with one of these reasons, of this object or of any."""
        uid = (of or {}).get("metadata", {}).get("uid")
        found = [
            event
            for event in self.events
            if event.get("reason") in reasons and (of is None or event["involvedObject"].get("uid") == uid)
        ]
        return max(found, key=event_time, default=None)


def event_time(event: Manifest) -> tuple[str, int]:
    """When it was seen last, and within one second in which order it was written."""
    version = str(event["metadata"].get("resourceVersion", ""))
    series = (event.get("series") or {}).get("lastObservedTime")
    moment = str(series or event.get("lastTimestamp") or event.get("eventTime") or "")
    return moment, int(version) if version.isdecimal() else 0


def event_text(event: Manifest) -> str:
    """Its message without what the recorder adds to repeated ones."""
    return str(event.get("message") or "").removeprefix("(combined from similar events): ").strip()
