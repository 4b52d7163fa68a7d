"""Quota: what a namespace's ResourceQuotas and LimitRanges let in.

Sources: kubernetes `plugin/pkg/admission/resourcequota/controller.go` (checkRequest) and
`plugin/pkg/admission/limitranger/admission.go` for the messages, `pkg/quota/v1/evaluator/core/pods.go` and
core/v1 `ResourceQuotaScope` for what a quota counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gpuyard.advice import advice
from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.holders import Holder, holders_of, smallest_release
from gpuyard.explain.run_objects import RunObjects, event_text
from gpuyard.gpus.resources import WHOLE_GPUS
from gpuyard.kube.objects import Manifest, key_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.requests import CPU, MEMORY, parse_resources
from gpuyard.scheduling.amounts import affordable, by_importance, noun, number, quantity
from gpuyard.scheduling.quota import (
    QuotaLimit,
    counted,
    counted_resource,
    in_scope,
    parse_amount,
    quota_limits,
)
from gpuyard.scheduling.requests import PodRequest

_EXCEEDED = re.compile(r"exceeded quota: (?P<name>\S+), requested: (?P<requested>.*), used: .*, limited: ")
_UNSET = re.compile(r"failed quota: (?P<name>\S+): must specify (?P<what>.*)")
_SCOPES = re.compile(r"insufficient quota to match these scopes: (?P<scopes>.*)")
_RANGE = re.compile(
    r"(?P<bound>maximum|minimum) (?P<resource>\S+) usage per (?P<type>\w+) is (?P<limit>\S+?), "
    r"but (?P<what>limit|request) is (?P<asked>[^\s,\]]+)"
)
_RATIO = re.compile(r"max limit to request ratio per|usage per \w+ is \S+, but no (?:limit|request) is")
#: How a run is told to ask for it.
_FLAGS = {CPU: "--cpus", MEMORY: "--memory", **dict.fromkeys(WHOLE_GPUS, "--gpus")}
_MOST_USERS = 6


def denial(objects: RunObjects) -> str:
    """What the API server said when the Job's next pod was last tried; empty when it said nothing."""
    if objects.pod is not None:
        return ""
    event = objects.last_event("FailedCreate", of=objects.job)
    return event_text(event).removeprefix("Error creating: ") if event else ""


def find_quota(objects: RunObjects) -> Finding | None:
    """What quota holds the run, if any does."""
    if objects.pod is not None:
        return None
    said = denial(objects)
    if match := _EXCEEDED.search(said):
        quota = _named(objects.quotas, match["name"])
        return _exceeded(objects, match["name"], quota, _amounts(match["requested"]), said)
    if match := _UNSET.search(said):
        return _unset(objects, match["name"], match["what"], said)
    if match := _SCOPES.search(said):
        return Finding(
            Step.QUOTA,
            Cause.QUOTA_SCOPE,
            f"this namespace has no quota for what the run is: {match['scopes'][:200]}",
            Owner("Namespace", objects.namespace),
            (f"the server said: {said[:400]}",),
            (Remedy("make a ResourceQuota with these scopes, or use another PriorityClass", By.OPERATOR),),
        )
    if _RANGE.search(said) or _RATIO.search(said):
        return _out_of_range(objects, said)
    return None if said else _computed(objects)


def _computed(objects: RunObjects) -> Finding | None:
    """Without the server's word, which it keeps for an hour: from the quotas themselves."""
    for quota in objects.quotas:
        if not in_scope(quota, objects.spec):
            continue
        needs = {limit.key: counted(limit.key, objects.spec) for limit in quota_limits(quota)}
        needs = {key: amount for key, amount in needs.items() if amount}
        if any(s.needs > s.free for s in _shares(quota, needs)):
            return _exceeded(objects, key_of(quota).name, quota, needs, "")
    return None


@dataclass(frozen=True)
class _Share:
    """A limit of a quota, and how much of it the run needs, in the limit's units."""

    limit: QuotaLimit
    needs: int

    @property
    def key(self) -> str:
        return self.limit.key

    @property
    def resource(self) -> str:
        return self.limit.resource

    @property
    def hard(self) -> int:
        return self.limit.hard

    @property
    def used(self) -> int:
        return self.limit.used

    @property
    def free(self) -> int:
        return self.limit.free

    def __str__(self) -> str:
        r = self.resource
        what = self.key if self.key.startswith("limits.") else noun(r, self.hard)
        return f"{number(r, self.used)} of {number(r, self.hard)} {what} used, needs {number(r, self.needs)}"


def _exceeded(
    objects: RunObjects, name: str, quota: Manifest | None, needs: Mapping[str, int], said: str
) -> Finding:
    owner = Owner("ResourceQuota", name, objects.namespace)
    server = (f"the server said: {said[:400]}",) if said else ()
    if quota is None:
        # Not everybody may read quotas, and this one may be gone since.
        remedy = Remedy("wait for others to end, or have the quota raised", By.OPERATOR)
        return Finding(Step.QUOTA, Cause.QUOTA, f"quota {name} is used up", owner, server, (remedy,))
    shares = _shares(quota, needs)
    short = [share for share in shares if share.needs > share.free]
    if not short:
        text = f"quota {name} was used up when the pod was last tried, and has room now"
        return Finding(
            Step.QUOTA,
            Cause.QUOTA_RETRY,
            text,
            owner,
            tuple(map(str, shares)),
            (Remedy("wait for the next try"),),
        )
    headline = f"quota {name} lets no more in: {'; '.join(map(str, short))}"
    users = _users(objects, short)
    return Finding(
        Step.QUOTA,
        Cause.QUOTA,
        headline,
        owner,
        (*_user_lines(users, short), *server),
        tuple(_remedies(objects, quota, short)),
    )


def _remedies(objects: RunObjects, quota: Manifest, short: list[_Share]) -> Iterable[Remedy]:
    less = {share: affordable(share.resource, share.free) for share in short}
    if all(less.values()):
        texts = [
            f"ask for {number(s.resource, n)} {noun(s.resource, n)} instead of {number(s.resource, s.needs)}"
            for s, n in less.items()
        ]
        yield Remedy(" and ".join(texts))
    missing = {share.resource: share.needs - share.free for share in short}
    if holders := smallest_release(_pods(objects, short), missing, objects.namespace):
        yield Remedy(f"wait for {_names(holders)} to end, or stop {'it' if len(holders) == 1 else 'them'}")
    hard = {s.key: quantity(s.resource, s.used + s.needs) for s in short}
    name, patch = key_of(quota).name, json.dumps({"spec": {"hard": hard}}, separators=(",", ":"))
    raised = " and ".join(f"{key} to {amount}" for key, amount in hard.items())
    command = f"kubectl patch resourcequota {name} -n {objects.namespace} -p '{patch}'"
    yield Remedy(f"raise {raised} in quota {name}", By.OPERATOR, command)


def _users(objects: RunObjects, short: list[_Share]) -> tuple[Holder, ...]:
    return holders_of(_pods(objects, short), {share.resource for share in short}, objects.namespace)


def _user_lines(users: tuple[Holder, ...], short: list[_Share]) -> list[str]:
    resources = [share.resource for share in short]
    lines = [f"used by {user.describe(resources)}" for user in users[:_MOST_USERS]]
    return lines + ([f"… and {len(users) - _MOST_USERS} more"] if len(users) > _MOST_USERS else [])


def _pods(objects: RunObjects, short: list[_Share]) -> list[PodRequest]:
    """The pods that the quota counts, each with what it takes of these lines."""
    found = []
    for pod in objects.neighbours:
        if is_terminal(pod):
            continue
        amounts = {share.resource: counted(share.key, pod["spec"]) for share in short}
        found.append(replace(PodRequest.of(pod), resources={r: n for r, n in amounts.items() if n}))
    return found


def _unset(objects: RunObjects, name: str, what: str, said: str) -> Finding:
    keys = [part.partition(" for:")[0].strip() for part in what.split(";")]
    quota = _named(objects.quotas, name)
    left = {share.key: share for share in _shares(quota, dict.fromkeys(keys, 0))} if quota else {}
    flags: dict[str, str] = {}
    for key in keys:
        resource = counted_resource(key)
        free = f" (at most {number(resource, left[key].free)})" if key in left else ""
        flags.setdefault(advice(_FLAGS.get(resource, "")) or f"resources.{key}", free)
    asked = " and ".join(flag + free for flag, free in flags.items())
    return Finding(
        Step.QUOTA,
        Cause.QUOTA_UNSET,
        f"quota {name} counts {', '.join(keys)}, and the run doesn't say how much it needs",
        Owner("ResourceQuota", name, objects.namespace),
        (f"the server said: {said[:400]}",),
        (
            Remedy(f"set {asked}"),
            Remedy(f"make a LimitRange in {objects.namespace} that sets defaults", By.OPERATOR),
        ),
    )


def _out_of_range(objects: RunObjects, said: str) -> Finding:
    matches = list(_RANGE.finditer(said))
    owner, remedies = None, []
    clauses = []
    for match in matches:
        resource, limit = match["resource"], match["limit"]
        owner = owner or _range_owner(objects, match)
        clauses.append(
            f"{resource} is {match['bound']} {limit} per {match['type']}, the run asks for {match['asked']}"
        )
        amounts = parse_resources({resource: limit})
        what = f"{number(resource, amounts[resource])} {noun(resource, amounts[resource])}"
        remedies.append(f"ask for {what} instead of {match['asked']}")
    remedy = Remedy(" and ".join(remedies) or "ask for amounts within the limits that the server names")
    name = f"LimitRange {owner.name}" if owner else "a LimitRange"
    return Finding(
        Step.QUOTA,
        Cause.LIMIT_RANGE,
        f"{name} doesn't allow it: {'; '.join(clauses) or said[:200]}",
        owner,
        (f"the server said: {said[:400]}",),
        (remedy,),
    )


def _range_owner(objects: RunObjects, match: re.Match[str]) -> Owner | None:
    bound = {"maximum": "max", "minimum": "min"}[match["bound"]]
    for limits in objects.limit_ranges:
        for item in limits["spec"].get("limits") or ():
            if item.get("type") == match["type"] and (item.get(bound) or {}).get(match["resource"]):
                return Owner.of(limits, "LimitRange")
    return None


def _shares(quota: Manifest, needs: Mapping[str, int]) -> list[_Share]:
    shares = [_Share(limit, needs[limit.key]) for limit in quota_limits(quota) if limit.key in needs]
    return sorted(shares, key=lambda share: by_importance(share.resource))


def _amounts(text: str) -> dict[str, int]:
    """`requests.cpu=1500m,pods=1`."""
    pairs = (part.split("=", 1) for part in text.split(",") if "=" in part)
    return {key.strip(): parse_amount(key.strip(), value.strip()) for key, value in pairs}


def _named(quotas: Iterable[Manifest], name: str) -> Manifest | None:
    return next((quota for quota in quotas if key_of(quota).name == name), None)


def _names(holders: Iterable[Holder]) -> str:
    titles = [holder.title for holder in holders]
    return " and ".join((", ".join(titles[:-1]), titles[-1])) if len(titles) > 1 else titles[0]
