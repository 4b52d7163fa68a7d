"""Who owns whom, and what that means for a dependent (pure).

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/ and
`pkg/controller/garbagecollector` of Kubernetes 1.34.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gpuyard.client.api import Propagation
from gpuyard.kube.objects import Manifest

FINALIZER_FOREGROUND = "foregroundDeletion"
FINALIZER_ORPHAN = "orphan"


class OwnerState(Enum):
    """What has become of the owner that a reference names."""

    #: It is there, or of a kind that isn't known here: the dependent stays.
    PRESENT = "present"
    #: It waits for its dependents to go first.
    WAITING = "waiting"
    #: No object with that uid is left.
    ABSENT = "absent"


@dataclass(frozen=True)
class Keep:
    """The dependent stays; with fewer references when some of its owners are gone."""

    references: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Delete:
    """No owner is left: the dependent goes, and its own dependents as `propagation` says."""

    propagation: Propagation


def references_of(manifest: Manifest) -> tuple[Mapping[str, Any], ...]:
    """`metadata.ownerReferences`, without those that aren't whole: they name nobody."""
    found = manifest["metadata"].get("ownerReferences")
    return tuple(one for one in (found if isinstance(found, list) else ()) if _is_whole(one))


def finalizers_of(manifest: Manifest) -> tuple[str, ...]:
    """`metadata.finalizers`, without what isn't text."""
    found = manifest["metadata"].get("finalizers")
    return tuple(one for one in (found if isinstance(found, list) else ()) if isinstance(one, str))


def _is_whole(reference: object) -> bool:
    return isinstance(reference, Mapping) and all(
        isinstance(reference.get(field), str) for field in ("apiVersion", "kind", "name", "uid")
    )


def is_deleting(manifest: Manifest, finalizer: str) -> bool:
    """Whether the object is being deleted and this finalizer holds it."""
    return bool(manifest["metadata"].get("deletionTimestamp")) and finalizer in finalizers_of(manifest)


def decide(
    dependent: Manifest,
    state_of: Callable[[Mapping[str, Any]], OwnerState],
    *,
    has_dependents: bool,
) -> Keep | Delete:
    """What happens to an object with owner references."""
    references = references_of(dependent)
    states = [state_of(reference) for reference in references]
    if not references or OwnerState.PRESENT in states:
        pairs = zip(references, states, strict=True)
        return Keep(tuple(reference for reference, state in pairs if state is OwnerState.PRESENT))
    finalizers = finalizers_of(dependent)
    if FINALIZER_ORPHAN in finalizers:
        return Delete(Propagation.ORPHAN)
    if FINALIZER_FOREGROUND in finalizers or (OwnerState.WAITING in states and has_dependents):
        return Delete(Propagation.FOREGROUND)
    return Delete(Propagation.BACKGROUND)
