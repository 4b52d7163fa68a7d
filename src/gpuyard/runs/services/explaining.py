"""Why a replica of a service isn't ready, and why there are not more or fewer of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gpuyard import errors
from gpuyard.autoscaling.reason import ScalingReason
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import EVENTS, Manifest, key_of, uid_of
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.timestamps import parse_time
from gpuyard.runs.explaining.explanation import Answer, explain_with_output
from gpuyard.runs.object_events import in_order, last_seen
from gpuyard.runs.run import run_of_pod, simulated_nodes
from gpuyard.runs.services.service import Service
from gpuyard.runs.services.traffic import Traffic, read_traffic
from gpuyard.runs.target import Target
from gpuyard.workloads.serving.service_state import replica_text, unready_pods

#: Of a kubelet: a probe failed. Its message has the probe's last answer.
_UNHEALTHY = "Unhealthy"
_MAX_LINE_LENGTH = 200
_MAX_OTHERS = 5
#: Longer than a proxy pauses between two tries to listen.
_SAID_AGAIN_WITHIN = timedelta(seconds=40)


@dataclass(frozen=True)
class UnreadyReplica:
    """A replica that gets no requests.

    Attributes:
        answer: the ladder of its pod.
        probe: what its probe was answered last; empty where none failed.
        restarts: how often its container was started again.
        last_line: of its log; empty while there is none.
    """

    pod: str
    answer: Answer
    probe: str
    restarts: int
    last_line: str

    def lines(self) -> list[str]:
        """For people."""
        runs = self.answer.run.state.state == "running"
        said = [] if runs else self.answer.lines()
        if runs:
            again = f", started again {self.restarts} times" if self.restarts else ""
            said = [f"{self.pod} runs and isn't ready{again}"]
        if self.probe:
            said.append(f"  the last answer: {self.probe}")
        elif runs:
            said.append("  no probe has failed yet: it may need longer to start")
        if self.last_line and runs:
            said.append(f"  its last line: {self.last_line}")
        return said

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "pod": self.pod,
            "probe": self.probe or None,
            "restarts": self.restarts,
            "last_line": self.last_line or None,
            **self.answer.to_json(),
        }


@dataclass(frozen=True)
class ServiceAnswer:
    """What is to be said of a service's replicas.

    Attributes:
        scaling: why there are as many as there are, one sentence each; empty where their number is fixed.
        unready: the first that isn't ready; None where all are.
        others: what keeps the rest that aren't, one sentence each.
        refused: why the API takes no pod of it; empty where it does.
        deaf: why nobody listens at its address; empty where somebody does, as far as is known.
    """

    service: Service
    traffic: Traffic | None
    scaling: Sequence[str]
    unready: UnreadyReplica | None
    others: Sequence[str]
    refused: str
    deaf: str = ""

    def lines(self) -> list[str]:
        """For people: its state, what scales it, and the replica to look at."""
        state = self.service.state
        said = [f"{state.name}: {state.phase}: {state.replicas_text} replicas ready"]
        if self.refused:
            said.append(f"no replica can be made: {self.refused}")
        if self.deaf:
            said.append(f"nobody listens at {state.address}: {self.deaf}")
        said += self.scaling
        if self.unready:
            said += self.unready.lines()
            said += self.others[:_MAX_OTHERS]
            if (more := len(self.others) - _MAX_OTHERS) > 0:
                said.append(f"… and {more} more that aren't ready")
        elif state.message:
            said.append(state.message)
        return said

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `explain -o json` of a service."""
        return {
            "service": self.service.state.to_json(),
            "traffic": self.traffic.to_json() if self.traffic else None,
            "scaling": list(self.scaling),
            "unready": self.unready.to_json() if self.unready else None,
            "unready_others": list(self.others),
            "refused": self.refused or None,
            "deaf": self.deaf or None,
        }


async def explain_service(
    target: Target, service: Service, environ: Mapping[str, str] = os.environ
) -> ServiceAnswer:
    """Looks at its replicas, its autoscaler and its traffic.

    Raises:
        ConnectionFailed, ApiError: the API doesn't answer.
    """
    waiting = unready_pods(service.pods)
    traffic, unready, deaf = await asyncio.gather(
        read_traffic(target),
        _look_at(target, waiting[0], environ) if waiting else _nothing(),
        why_deaf(target, service),
    )
    failure = find_condition(service.deployment, "ReplicaFailure") or {}
    return ServiceAnswer(
        service,
        traffic.get((service.namespace, service.name)),
        scaling_lines(service),
        unready,
        list(map(replica_text, waiting[1:])),
        str(failure.get("message", "")) if failure.get("status") == "True" else "",
        deaf,
    )


async def why_deaf(target: Target, service: Service) -> str:
    """Why a yard's proxy can't listen at the service's address: it says so again and again, as long as that
    lasts."""
    if service.front is None:
        return ""
    problems = [event for event in await _events_of(target, service.front) if event.get("type") == "Warning"]
    if not problems or not (seen := last_seen(problems[-1])):
        return ""
    is_new = datetime.now(UTC) - parse_time(seen) < _SAID_AGAIN_WITHIN
    return str(problems[-1].get("message", "")) if is_new else ""


def scaling_lines(service: Service) -> list[str]:
    """What a service's autoscaler says of its last decision, and how many replicas have found a place."""
    autoscaler = service.autoscaler
    if autoscaler is None:
        return []
    if reason := ScalingReason.read(autoscaler):
        placed = sum(bool(pod["spec"].get("nodeName")) for pod in service.alive)
        waiting = len(service.alive) - placed
        found = f"; {placed} fit, {waiting} wait{'s' if waiting == 1 else ''} for a place" if waiting else ""
        return [reason.sentence + found]
    said = []
    for type_, tells in (("AbleToScale", "False"), ("ScalingActive", "False"), ("ScalingLimited", "True")):
        condition = find_condition(autoscaler, type_) or {}
        if condition.get("status") == tells:
            said.append(str(condition.get("message", "")))
    return said


async def _look_at(target: Target, pod: Manifest, environ: Mapping[str, str]) -> UnreadyReplica:
    run = run_of_pod(pod, await simulated_nodes(target))
    answer, probe, line = await asyncio.gather(
        explain_with_output(target, run, environ), _last_probe(target, pod), _last_line(target, pod)
    )
    restarts = max((int(status.get("restartCount") or 0) for status in container_statuses(pod)), default=0)
    return UnreadyReplica(run.name, answer, probe, restarts, line)


async def _nothing() -> None:
    return None


async def _last_probe(target: Target, pod: Manifest) -> str:
    """Of its newest failed probe."""
    failed = [event for event in await _events_of(target, pod) if event.get("reason") == _UNHEALTHY]
    return str(failed[-1].get("message", "")).strip() if failed else ""


async def _events_of(target: Target, about: Manifest) -> list[Manifest]:
    """The last one last; none where the user may not see them."""
    selector = f"involvedObject.uid={uid_of(about)}"
    try:
        return in_order((await target.api.list(EVENTS, target.namespace, field_selector=selector)).items)
    except errors.Forbidden:
        return []


async def _last_line(target: Target, pod: Manifest) -> str:
    key = key_of(pod)
    log = target.api.stream_log(key.namespace, key.name, follow=False, tail_lines=3)
    try:
        text = b"".join([piece async for piece in log]).decode(errors="replace")
    except errors.GpuyardError:  # it hasn't started, or its node is away
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:_MAX_LINE_LENGTH] if lines else ""
