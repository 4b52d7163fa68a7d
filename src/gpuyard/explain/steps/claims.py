"""ResourceClaims: devices that a pod asks for by name (dynamic resource allocation).

A pod that names one that isn't there is not even tried, and nobody says so: the scheduler keeps it from its
queue (PreEnqueue). Sources: kubernetes `pkg/scheduler/framework/plugins/dynamicresources`, and
`pkg/controller/resourceclaim/controller.go` for the event.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Finding, Owner, Remedy, Step
from gpuyard.explain.missing_objects import nearest
from gpuyard.explain.run_objects import RunObjects, event_text
from gpuyard.kube.objects import Manifest, key_of

_FAILED = "FailedResourceClaimCreation"


def find_claims(objects: RunObjects) -> Finding | None:
    """A ResourceClaim, or a template of one, that the pod names and that isn't there."""
    pod = objects.pod
    if pod is None or pod["spec"].get("nodeName"):
        return None
    for claim in pod["spec"].get("resourceClaims") or ():
        if name := claim.get("resourceClaimName"):
            there = None if "resourceclaims" in objects.unreadable else _names(objects.resource_claims)
            if there is not None and name not in there:
                return _missing(objects, "ResourceClaim", name, there, "")
        elif name := claim.get("resourceClaimTemplateName"):
            event = objects.last_event(_FAILED, of=pod)
            there = _names(objects.claim_templates)
            if event and name not in there and f'"{name}" not found' in event_text(event):
                return _missing(objects, "ResourceClaimTemplate", name, there, event_text(event))
    return None


def _names(items: Sequence[Manifest]) -> list[str]:
    return [key_of(item).name for item in items]


def _missing(objects: RunObjects, kind: str, name: str, known: list[str], said: str) -> Finding:
    remedies = [Remedy(text)] if (text := nearest(name, known, "")) else []
    told = f"the control plane says: {said}" if said else f"there are: {', '.join(sorted(known)) or 'none'}"
    return Finding(
        Step.NODES,
        Cause.NO_RESOURCE_CLAIM,
        f"there is no {kind} {name} in namespace {objects.namespace}",
        Owner(kind, name, objects.namespace),
        (told,),
        (*remedies, Remedy(f"make the {kind}, and the run goes on by itself")),
    )
