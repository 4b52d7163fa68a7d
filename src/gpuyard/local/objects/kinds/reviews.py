"""Questions about the caller: who it is, and what it may do. A yard's one user may do all that is served.

Sources: kubernetes `pkg/apis/authorization/validation`, `pkg/registry/authorization`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import Manifest, Resource
from gpuyard.local.objects.kinds.fields import invalid
from gpuyard.local.objects.kinds.kind import FieldError, KindSpec, ServedApi

#: As the kubeconfig that the yard writes calls it; the group is Kubernetes' own for who may do everything.
_USER = {"username": "gpuyard", "groups": ["system:masters", "system:authenticated"]}
_ANY = "*"


def _validate_access(review: Manifest, _old: Manifest | None) -> list[FieldError]:
    spec = review.get("spec") or {}
    # kubectl sends a generation of 0.
    named = any(review["metadata"].values())
    found = [invalid("metadata", review["metadata"], "must be empty")] if named else []
    asked = [name for name in ("resourceAttributes", "nonResourceAttributes") if spec.get(name) is not None]
    if len(asked) == 1:
        return found
    detail = "cannot be specified in combination with resourceAttributes"
    if asked:
        return [*found, invalid("spec.nonResourceAttributes", spec["nonResourceAttributes"], detail)]
    detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
    return [*found, invalid("spec.resourceAttributes", None, detail)]


def _answer_access(review: Manifest, served: ServedApi) -> Manifest:
    spec = review["spec"]
    if (attributes := spec.get("resourceAttributes")) is not None:
        why = _refused_resource(attributes, served.kinds)
    else:
        why = _refused_path(spec["nonResourceAttributes"], served.paths)
    return {"allowed": not why, "reason": why or "the yard's one user may do all that it serves"}


def _refused_resource(asked: Manifest, kinds: Iterable[KindSpec]) -> str:
    """Why not; empty for what is served."""
    verb, group, version, plural, part = (
        str(asked.get(name) or "") for name in ("verb", "group", "version", "resource", "subresource")
    )
    verbs = [
        found
        for resource, name, found in _served(kinds)
        if group in (_ANY, resource.group)
        and version in ("", _ANY, resource.version)
        and plural in (_ANY, resource.plural)
        and _is_part(name, plural, part)
    ]
    named = f"{plural}{part and f'/{part}'}{f'.{group}' if group and group != _ANY else ''}"
    named += f" of version {version}" if version and version != _ANY else ""
    if not verbs:
        return f"this gpuyard yard serves no {named}"
    if verb != _ANY and not any(verb in found for found in verbs):
        return f"this gpuyard yard doesn't serve the verb {verb} of {named}"
    return ""


def _is_part(name: str, plural: str, asked: str) -> bool:
    """Whether a subresource is asked for; `pods/*` are those of pods without pods, and `*` is all of all."""
    if asked == _ANY:
        return bool(name)
    return asked == name or (plural == _ANY and not asked)


def _served(kinds: Iterable[KindSpec]) -> Iterator[tuple[Resource, str, tuple[str, ...]]]:
    """Verbs by resource and subresource, which is empty for the resource itself."""
    for spec in kinds:
        yield spec.resource, "", spec.verbs
        for part in spec.subresources:
            yield spec.resource, part.name, part.verbs


def _refused_path(asked: Manifest, paths: Iterable[str]) -> str:
    path, verb = str(asked.get("path", "")), str(asked.get("verb", ""))
    if verb not in ("get", _ANY):
        return f"this gpuyard yard's documents are only read, not {verb or 'asked for without a verb'}"
    begin = path.removesuffix(_ANY)
    there = any(served.startswith(begin) for served in paths) if begin != path else path in paths
    return "" if there else f"this gpuyard yard serves nothing at {path}"


def _answer_rules(review: Manifest, served: ServedApi) -> Manifest:
    if not (review.get("spec") or {}).get("namespace"):
        raise errors.BadRequest("no namespace on request")
    rules = [
        {
            "verbs": list(verbs),
            "apiGroups": [resource.group],
            "resources": [resource.plural + (part and f"/{part}")],
        }
        for resource, part, verbs in _served(served.kinds)
    ]
    paths = {"verbs": ["get"], "nonResourceURLs": list(served.paths)}
    return {"resourceRules": rules, "nonResourceRules": [paths], "incomplete": False}


def _answer_self(_review: Manifest, _served: ServedApi) -> Manifest:
    return {"userInfo": _USER}


def _kind(group: str, kind: str, **rules: Any) -> KindSpec:
    resource = Resource(f"{group}.k8s.io", "v1", kind, f"{kind.lower()}s", namespaced=False)
    return KindSpec(resource, verbs=("create",), **rules)


#: What is answered and never stored.
REVIEWS = (
    _kind("authentication", "SelfSubjectReview", review=_answer_self),
    _kind("authorization", "SelfSubjectAccessReview", review=_answer_access, validate=_validate_access),
    _kind("authorization", "SelfSubjectRulesReview", review=_answer_rules),
)
