"""What one pod asks of a node, parsed once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gpuyard.kube.objects import Manifest, ObjectKey, annotations_of, controller_of, labels_of
from gpuyard.kube.requests import effective_requests
from gpuyard.kube.selectors import Requirement, requirements_of
from gpuyard.kube.wellknown import ANNOTATION_GANG_SIZE, LABEL_RUN

_DEPLOYMENT = "deployment"
_TEMPLATE_HASH = "pod-template-hash"


@dataclass(frozen=True)
class NodeTerm:
    """One term of node affinity: all expressions on labels and all on fields hold. Empty: matches nothing."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> NodeTerm:
        """From a `NodeSelectorTerm`."""
        return cls(
            requirements_of(raw.get("matchExpressions") or ()), requirements_of(raw.get("matchFields") or ())
        )

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether the node of this name and these labels satisfies the term."""
        if not self.labels and not self.fields:
            return False
        fields = {"metadata.name": name}
        return all(r.matches(labels) for r in self.labels) and all(r.matches(fields) for r in self.fields)


@dataclass(frozen=True)
class Gang:
    """Pods that start together or not at all.

    Attributes:
        uid: of the Job that makes them.
        size: how many there are to be.
    """

    uid: str
    size: int

    @classmethod
    def of(cls, pod: Manifest) -> Gang | None:
        """What a pod says of its own; None where it says nothing that makes sense."""
        size = annotations_of(pod).get(ANNOTATION_GANG_SIZE, "")
        owner = controller_of(pod)
        if owner is None or not re.fullmatch(r"(?a)[1-9][0-9]{0,4}", size):
            return None
        return cls(str(owner["uid"]), int(size)) if size != "1" else None


@dataclass(frozen=True)
class PodRequest:
    """One pod as the scheduler sees it, pending or bound.

    Attributes:
        key: the pod, or for a template its Job.
        resources: effective requests above zero: cpu in millicores, all others in whole base units;
            `pods` is always 1.
        node_name: the node that it is bound to, or must be; empty for any.
        selector: `nodeSelector`, one requirement per label.
        affinity: required node affinity, one of whose terms must match; None when there is none.
        preferred: preferred node affinity with its weights.
        created: `creationTimestamp` as sent; empty before the server has set it.
        since: when it started (else was created), as sent.
        run: the run that it belongs to, empty when none.
        owner: kind in lower case and name of what made it (`deployment`, `job`, …); empty when nothing did.
        gang: the Job whose pods start together or not at all, and their number; None for a pod by itself.
        volumes: where the volumes that it uses can be mounted: name, and terms of which one must match.
        ending: being deleted; what it holds comes back soon.
    """

    key: ObjectKey
    uid: str = ""
    resources: Mapping[str, int] = field(default_factory=dict)
    node_name: str = ""
    selector: tuple[Requirement, ...] = ()
    affinity: tuple[NodeTerm, ...] | None = None
    preferred: tuple[tuple[int, NodeTerm], ...] = ()
    tolerations: tuple[Mapping[str, Any], ...] = ()
    priority: int = 0
    created: str = ""
    since: str = ""
    run: str = ""
    ending: bool = False
    owner: tuple[str, str] = ("", "")
    volumes: tuple[tuple[str, tuple[NodeTerm, ...]], ...] = ()
    gang: Gang | None = None

    @property
    def holder(self) -> tuple[str, str]:
        """Kind and name of what people would stop to end this pod."""
        if self.run:
            return ("service" if self.owner[0] == _DEPLOYMENT else "run"), self.run
        return self.owner if self.owner[0] else ("pod", self.key.name)

    def belongs_with(self, other: PodRequest) -> bool:
        """Whether ending one for the sake of the other helps nobody: both start together, or replicate one
        thing."""
        replicates = self.owner[0] == _DEPLOYMENT and self.owner == other.owner
        return self.is_of_gang_of(other) or (replicates and self.key.namespace == other.key.namespace)

    def is_of_gang_of(self, other: PodRequest) -> bool:
        """Whether both start together or not at all."""
        return self.gang is not None and self.gang == other.gang

    @classmethod
    def of(cls, manifest: Manifest) -> PodRequest:
        """From a Pod."""
        metadata = manifest["metadata"]
        spec = manifest.get("spec") or {}
        affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        created = metadata.get("creationTimestamp") or ""
        return cls(
            key=ObjectKey(metadata.get("namespace", ""), metadata.get("name", "")),
            uid=metadata.get("uid", ""),
            resources=effective_requests(spec),
            node_name=spec.get("nodeName") or "",
            selector=tuple(Requirement(k, "In", (v,)) for k, v in (spec.get("nodeSelector") or {}).items()),
            affinity=tuple(map(NodeTerm.of, required.get("nodeSelectorTerms") or ())) if required else None,
            preferred=tuple(
                (term["weight"], NodeTerm.of(term["preference"]))
                for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
            ),
            tolerations=tuple(spec.get("tolerations") or ()),
            priority=spec.get("priority") or 0,
            created=created,
            since=(manifest.get("status") or {}).get("startTime") or created,
            run=labels_of(manifest).get(LABEL_RUN, ""),
            ending=bool(metadata.get("deletionTimestamp")),
            owner=_owner(manifest),
            gang=Gang.of(manifest),
        )

    @classmethod
    def of_template(cls, job: Manifest) -> PodRequest:
        """One pod of a Job, before the server has seen either."""
        template = job["spec"]["template"]
        metadata = {**(template.get("metadata") or {}), "name": job["metadata"].get("name", "")}
        metadata["namespace"] = job["metadata"].get("namespace", "")
        return cls.of({"metadata": metadata, "spec": template["spec"]})

    def with_device_tolerations(self) -> PodRequest:
        """Tolerating the taints that are named after its devices, as ExtendedResourceToleration has it.

        An API server may have that admission plugin; only the pods that it has taken in tell.
        """
        added = [
            {"key": resource, "operator": "Exists", "effect": "NoSchedule"}
            for resource in self.resources
            if "/" in resource
        ]
        return replace(self, tolerations=(*self.tolerations, *added))


def _owner(manifest: Manifest) -> tuple[str, str]:
    owner = controller_of(manifest)
    # A node owns the pods that its kubelet has from files.
    if owner is None or owner["kind"] == "Node":
        return "", ""
    kind, name = str(owner["kind"]), str(owner["name"])
    suffix = "-" + labels_of(manifest).get(_TEMPLATE_HASH, "")
    if kind == "ReplicaSet" and len(suffix) > 1 and name.endswith(suffix):
        return _DEPLOYMENT, name.removesuffix(suffix)
    return kind.lower(), name
