"""How attempts of a run ended for which it isn't to blame: refused, or ended for the sake of others.

The pods of most are deleted, and their output with them: what is left of those are events, for an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import EVENTS, NODES, PODS, Manifest, uid_of
from gpuyard.kube.pods import is_terminal
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import Reason, disruption_of, is_refused, why_failed

_CREATED = re.compile(r"Created pod: (\S+)")
_PREEMPTED = re.compile(r"Preempted by pod (?P<uid>\S+) on node (?P<node>\S+)")
_BY_TAINT = "TaintManagerEviction"
#: Reasons of events on a pod that tell why it was deleted.
_TELLING = {
    "Preempted": (Reason.PREEMPTED, "a pod of higher priority took its place"),
    "Evicted": (Reason.EVICTED, ""),
    _BY_TAINT: (Reason.EVICTED, "its node got a taint (NoExecute) that it doesn't tolerate"),
}
#: What the node controller says to the pods of a node that has fallen silent.
_SILENT = "NodeNotReady"
#: With the last of them also when the taint went in time. Source: kubernetes
#: `pkg/controller/tainteviction/taint_eviction.go`, `emitCancelPodDeletionEvent`.
_CANCELLED = "Cancelling deletion"
_WORDS = {
    Reason.PREEMPTED: "preempted",
    Reason.DRAINED: "drained",
    Reason.EVICTED: "evicted",
    Reason.NODE_LOST: "lost with its node",
    Reason.START_ERROR: "refused by its node",
}


@dataclass(frozen=True)
class LostAttempt:
    """An attempt that ended before its time.

    Attributes:
        pod: its name.
        reason: None where nobody tells why its pod is gone.
        message: one clause.
        node: where it was, as far as that is known.
        ended: when, RFC 3339; empty where nobody knows.
        events: of its pod, where that is gone.
    """

    pod: str
    reason: Reason | None
    message: str
    node: str = ""
    ended: str = ""
    events: Sequence[Manifest] = field(default=(), compare=False, repr=False)

    @property
    def word(self) -> str:
        """What became of it: `preempted`."""
        return _WORDS.get(self.reason, "ended") if self.reason else "deleted"

    @property
    def text(self) -> str:
        """`preempted: a pod of higher priority took its place`."""
        return f"{self.word}: {self.message}" if self.message else self.word

    def to_json(self) -> dict[str, Any]:
        """All but the events."""
        reason = str(self.reason) if self.reason else None
        named = {"node": self.node or None, "ended_at": self.ended or None}
        return {"pod": self.pod, "reason": reason, "message": self.message, **named}


def is_cut_short(pod: Manifest, *, is_gone: bool = False) -> bool:
    """Whether the pod is over, and its run is not to blame."""
    over = is_gone or is_terminal(pod)
    return over and (disruption_of(pod) is not None or is_refused(pod))


async def lost_attempt(target: Target, pod: Manifest) -> LostAttempt:
    """Of a pod that is cut short; events name who preempted it."""
    disruption = disruption_of(pod)
    reason, message = disruption or why_failed(pod)
    if reason is Reason.PREEMPTED:
        events = await _events(target, f"involvedObject.uid={uid_of(pod)},reason=Preempted")
        message += await _by_whom(target, events[-1]) if events else ""
    return LostAttempt(pod["metadata"]["name"], reason, message, pod["spec"].get("nodeName", ""))


async def gone_attempts(target: Target, job: Manifest, pods: Sequence[Manifest]) -> list[LostAttempt]:
    """Attempts whose pods are gone, in the order of their creation.

    Args:
        target: where the Job is; events of other namespaces than its own aren't read.
        job: of the run.
        pods: those that are there.
    """
    made = await _events(target, f"involvedObject.uid={uid_of(job)},reason=SuccessfulCreate")
    names = [found[1] for event in made if (found := _CREATED.match(str(event.get("message") or "")))]
    there = {pod["metadata"]["name"] for pod in pods}
    gone = [name for name in names if name not in there]
    return list(await asyncio.gather(*(_gone_attempt(target, name) for name in gone)))


async def _gone_attempt(target: Target, pod: str) -> LostAttempt:
    events = await _events(target, f"involvedObject.kind=Pod,involvedObject.name={pod}")
    told = next(filter(_tells, reversed(events)), None)
    killing = [event for event in events if event.get("reason") == "Killing"]
    node = next((host for event in reversed(events) if (host := _host(event))), "")
    ended = str(_moment((told and [told]) or killing or events[-1:]))
    if told is None:
        if killing and await _is_cordoned(target, node):
            return LostAttempt(pod, Reason.DRAINED, f"its node {node} takes no new pods", node, ended, events)
        return LostAttempt(pod, None, "", node, ended, events)
    reason, message = _TELLING[told["reason"]]
    message = message or str(told.get("message") or "its node evicted it")
    if told["reason"] == _BY_TAINT and any(event.get("reason") == _SILENT for event in events):
        reason, message = Reason.NODE_LOST, " ".join(f"its node {node} didn't answer".split())
    return LostAttempt(pod, reason, message + await _by_whom(target, told), node, ended, events)


def _tells(event: Mapping[str, Any]) -> bool:
    return event.get("reason") in _TELLING and not str(event.get("message")).startswith(_CANCELLED)


async def _by_whom(target: Target, event: Mapping[str, Any]) -> str:
    """` (pod team-b/urgent-x)` for an event that tells who preempted: by its name, else by its uid alone, as
    kube-scheduler 1.37 does."""
    related = event.get("related") or {}
    if related.get("name"):
        return f" ({str(related.get('kind', '')).lower()} {related.get('namespace', '')}/{related['name']})"
    told = _PREEMPTED.search(str(event.get("message") or ""))
    if told is None:
        return ""
    for pod in await _pods_on(target, told["node"]):
        if uid_of(pod) == told["uid"]:
            return f" (pod {pod['metadata']['namespace']}/{pod['metadata']['name']})"
    return f" (pod {told['uid']})"


async def _pods_on(target: Target, node: str) -> Sequence[Manifest]:
    """The node's pods of all namespaces, or those of the run's own, as the user may list them."""
    for namespace in (None, target.namespace):
        with contextlib.suppress(errors.Forbidden):
            return (await target.api.list(PODS, namespace, field_selector=f"spec.nodeName={node}")).items
    return ()


def _host(event: Mapping[str, Any]) -> str:
    """The node whose kubelet tells of it."""
    source = event.get("source") or {}
    return str(source.get("host") or "") if source.get("component") == "kubelet" else ""


def _moment(events: Sequence[Mapping[str, Any]]) -> str:
    return next((str(e.get("lastTimestamp") or e.get("eventTime") or "") for e in events[-1:]), "")


async def _is_cordoned(target: Target, node: str) -> bool:
    if not node:
        return False
    try:
        return bool((await target.api.get(NODES, node))["spec"].get("unschedulable"))
    except (errors.Forbidden, errors.NotFound):
        return False


async def _events(target: Target, selector: str) -> list[Manifest]:
    """By time; none where the user may not read them."""
    try:
        found = await target.api.list(EVENTS, target.namespace, field_selector=selector)
    except errors.Forbidden:
        return []
    return sorted(found.items, key=lambda event: (_moment([event]), event["metadata"]["resourceVersion"]))
