"""What a client is told that asks for something which Kubernetes has and a yard hasn't (pure)."""

from __future__ import annotations

from gpuyard.local.objects.kinds.registry import Kinds

#: Kubernetes' own sentence comes first: clients look for it.
_KUBERNETES = "the server could not find the requested resource"


def not_served(path: str, kinds: Kinds) -> str:
    """The message for a path at which nothing is served."""
    words = [word for word in path.split("/") if word]
    if words[:1] not in (["api"], ["apis"]):
        return _KUBERNETES
    by_plural = {kind.resource.plural: kind for kind in kinds if kind.review is None}
    spec = next((by_plural[word] for word in reversed(words) if word in by_plural), None)
    place = words.index(spec.resource.plural) if spec and spec.resource.plural in words else -1
    if spec is not None and spec.resource.plural != "namespaces" and len(words) - place == 3:
        served = ", ".join(sub.name for sub in spec.subresources)
        but = f", but {served}" if served else ""
        return f"{_KUBERNETES}: this gpuyard yard serves no {words[-1]} of {words[place]}{but}"
    return f"{_KUBERNETES}: this gpuyard yard serves {', '.join(sorted(by_plural))}"
