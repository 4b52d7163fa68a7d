"""What an autoscaler scales, as the informers have it (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpuyard.kube.objects import (
    DEPLOYMENTS,
    REPLICA_SETS,
    Manifest,
    Resource,
    annotations_of,
    key_of,
    labels_of,
)
from gpuyard.kube.selectors import Selector
from gpuyard.kube.wellknown import ANNOTATION_STOPPED_AT

#: By their version and kind.
SCALABLE: Mapping[tuple[str, str], Resource] = {
    (one.api_version, one.kind): one for one in (DEPLOYMENTS, REPLICA_SETS)
}


@dataclass(frozen=True)
class ScaleTarget:
    """A Deployment or ReplicaSet."""

    resource: Resource
    manifest: Manifest

    @property
    def replicas(self) -> int:
        """How many are asked for now."""
        return int(self.manifest["spec"].get("replicas", 1))

    @property
    def is_stopped(self) -> bool:
        """Whether `gpuyard stop` took its replicas away, and nobody has brought any back."""
        return not self.replicas and ANNOTATION_STOPPED_AT in annotations_of(self.manifest)

    def selects(self, pod: Manifest) -> bool:
        """Whether a pod is one of its."""
        selector = Selector.of(self.manifest["spec"]["selector"])
        return key_of(pod).namespace == key_of(self.manifest).namespace and selector.matches(labels_of(pod))

    def service(self, services: Iterable[Manifest]) -> str:
        """The Service whose requests its pods get: of several, that of its own name, else the first.

        Empty where there is none.
        """
        namespace, name = key_of(self.manifest)
        labels = ((self.manifest["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
        found = sorted(
            key_of(service).name
            for service in services
            if key_of(service).namespace == namespace
            and (selector := (service.get("spec") or {}).get("selector"))
            and selector.items() <= labels.items()
        )
        return name if name in found else next(iter(found), "")


def reference_of(autoscaler: Manifest) -> Mapping[str, Any]:
    """Its `scaleTargetRef`."""
    found: Mapping[str, Any] = autoscaler["spec"]["scaleTargetRef"]
    return found
