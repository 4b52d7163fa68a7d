"""What a client is told that asks for something which Kubernetes has and a yard hasn't (pure)."""

from __future__ import annotations

from gpuyard.local.objects.kinds import ALL_KINDS, KindSpec

#: Kubernetes' own sentence comes first: clients look for it.
_KUBERNETES = "the server could not find the requested resource"


def not_served(path: str) -> str:
    """The message for a path at which nothing is served."""
    words = [word for word in path.split("/") if word]
    if words[:1] not in (["api"], ["apis"]):
        return _KUBERNETES
    spec = next((kind for word in reversed(words) if (kind := _kind_of(word)) is not None), None)
    place = words.index(spec.resource.plural) if spec and spec.resource.plural in words else -1
    if spec is not None and spec.resource.plural != "namespaces" and len(words) - place == 3:
        served = ", ".join(sub.name for sub in spec.subresources) or "no subresource"
        return f"{_KUBERNETES}: this gpuyard yard serves no {words[-1]} of {words[place]}, but {served}"
    kinds = ", ".join(sorted(kind.resource.plural for kind in ALL_KINDS))
    return f"{_KUBERNETES}: this gpuyard yard serves {kinds}"


def _kind_of(plural: str) -> KindSpec | None:
    return next((kind for kind in ALL_KINDS if kind.resource.plural == plural), None)
