"""What a namespace's ResourceQuotas leave to runs (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard.doctor.check import Check, CheckState, ok
from gpuyard.gpus.resources import gpu_quota_key, quota_counts_gpus, quota_counts_nothing
from gpuyard.kube.objects import Manifest, key_of
from gpuyard.scheduling.amounts import number
from gpuyard.scheduling.quota import is_scoped, quota_limits

_NAME = "quota"
#: What a quota says → what every container has to say then: `requests` or `limits`, and of what.
_DEMANDS = {
    "cpu": ("requests", "cpu"),
    "requests.cpu": ("requests", "cpu"),
    "limits.cpu": ("limits", "cpu"),
    "memory": ("requests", "memory"),
    "requests.memory": ("requests", "memory"),
    "limits.memory": ("limits", "memory"),
}
_OPTION = {"cpu": "--cpus", "memory": "--memory"}


def judge(quotas: Sequence[Manifest], limit_ranges: Sequence[Manifest], namespace: str) -> Check:
    """How many GPUs are left, what is used up, and what a run has to say because of them.

    Args:
        quotas: of the namespace.
        limit_ranges: of the namespace; what they give to containers that don't say.
        namespace: where runs go.
    """
    if not quotas:
        return ok(_NAME, f"{namespace} has none")
    troubles = [
        trouble
        for quota in quotas
        for trouble in (*_useless(quota), *_used_up(quota, namespace), *_demands(quota, limit_ranges))
    ]
    if troubles:
        remedies = dict.fromkeys(remedy for _, remedy in troubles)
        return Check(_NAME, CheckState.WARNING, "; ".join(text for text, _ in troubles), "\n".join(remedies))
    left = [text for quota in quotas if (text := _gpus_left(quota))]
    return ok(_NAME, "; ".join(left) or f"{namespace} has one, and not of GPUs")


def _useless(quota: Manifest) -> list[tuple[str, str]]:
    return [
        (
            f"{key_of(quota).name} limits {resource}, which counts nothing",
            f"write {gpu_quota_key(resource)} in its place: kubectl edit resourcequota {key_of(quota).name} "
            f"-n {key_of(quota).namespace}",
        )
        for resource in sorted(filter(quota_counts_nothing, _keys(quota)))
    ]


def _used_up(quota: Manifest, namespace: str) -> list[tuple[str, str]]:
    full = [
        f"{limit.key} ({number(limit.resource, limit.used)} of {number(limit.resource, limit.hard)})"
        for limit in quota_limits(quota)
        if not limit.free and not quota_counts_nothing(limit.key)
    ]
    if not full:
        return []
    return [
        (
            f"{key_of(quota).name} is used up: {', '.join(full)}{_only(quota)}",
            f"remove or wait for what holds it (`gpuyard ps --namespace {namespace}`), or have it raised",
        )
    ]


def _demands(quota: Manifest, limit_ranges: Sequence[Manifest]) -> list[tuple[str, str]]:
    wanted = {_DEMANDS[resource] for resource in _keys(quota) if resource in _DEMANDS}
    missing = sorted(wanted - _given(limit_ranges))
    if not missing:
        return []
    said = ", ".join(f"{kind}.{resource}" for kind, resource in missing)
    options = " and ".join(dict.fromkeys(_OPTION[resource] for _, resource in missing))
    return [
        (
            f"{key_of(quota).name} wants {said} of every pod{_only(quota)}, and refuses those without",
            f"give runs {options}, or let a LimitRange say it for them",
        )
    ]


def _given(limit_ranges: Sequence[Manifest]) -> set[tuple[str, str]]:
    """What containers get that don't say; a default limit is a request, too."""
    given: set[tuple[str, str]] = set()
    for item in limit_ranges:
        for limit in item["spec"].get("limits") or ():
            if limit.get("type") != "Container":
                continue
            given |= {("limits", resource) for resource in limit.get("default") or ()}
            for source in ("default", "defaultRequest"):
                given |= {("requests", resource) for resource in limit.get(source) or ()}
    return given


def _gpus_left(quota: Manifest) -> str:
    for limit in quota_limits(quota):
        if quota_counts_gpus(limit.key):
            return f"{key_of(quota).name} leaves {limit.free} of {limit.hard} GPUs{_only(quota)}"
    return ""


def _only(quota: Manifest) -> str:
    return " (of some pods only)" if is_scoped(quota) else ""


def _keys(quota: Manifest) -> frozenset[str]:
    return frozenset(limit.key for limit in quota_limits(quota))
