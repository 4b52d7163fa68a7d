"""All steps, one after the other: the first that holds the run is the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Finding, Remedy, Step
from gpuyard.explain.output.diagnosis import Diagnosis
from gpuyard.explain.placement import Blocker, Explanation
from gpuyard.explain.run_objects import RunEnd, RunObjects
from gpuyard.explain.steps.admission import find_admission
from gpuyard.explain.steps.claims import find_claims
from gpuyard.explain.steps.devices import find_devices
from gpuyard.explain.steps.disk import find_disk
from gpuyard.explain.steps.image import find_image
from gpuyard.explain.steps.job import find_job
from gpuyard.explain.steps.nodes import find_nodes
from gpuyard.explain.steps.process import find_process
from gpuyard.explain.steps.quota import find_quota
from gpuyard.explain.steps.start import find_start
from gpuyard.explain.steps.volumes import find_volumes
from gpuyard.kube.pods import container_statuses, is_terminal

#: More is no evidence, but a dump.
_MOST_LINES = 15


@dataclass(frozen=True)
class Ladder:
    """What each step says.

    Attributes:
        findings: what holds the run or threatens it, in the order of the steps.
        reached: the step that it is at.
        over: nothing of it goes on any more.
        runs: a process of it runs.
    """

    findings: tuple[Finding, ...]
    reached: Step
    over: bool = False
    runs: bool = False

    @property
    def blocking(self) -> Finding | None:
        """The first that holds it: the answer."""
        return None if self.threat or not self.findings else self.findings[0]

    @property
    def threat(self) -> Finding | None:
        """The first where the run may go on: a GPU became unhealthy under it, or its node is away."""
        endangered = bool(self.findings) and self.findings[0].cause in (Cause.UNHEALTHY_DEVICE, Cause.NODE)
        return self.findings[0] if self.runs and endangered else None

    def lines(self) -> list[str]:
        """For people: the step that holds it, the evidence, what would help, and what comes after."""
        if not self.findings:
            return []
        first, *further = self.findings
        evidence = first.evidence
        if len(evidence) > _MOST_LINES:
            evidence = (*evidence[: _MOST_LINES - 1], f"… and {len(evidence) - _MOST_LINES + 1} more lines")
        where = f"{'failed' if self.over else 'held'} at {first.step}: "
        said = [f"{'it runs, but ' if self.threat else where}{first.headline}", *evidence]
        for number, remedy in enumerate(first.remedies):
            said.append(f"{'or' if number else first.lead}: {remedy}")
        return said + [f"after that, {finding.step}: {finding.headline}" for finding in further]

    def to_json(self) -> list[dict[str, Any]]:
        """Each step with `step`, `state` (passed, blocked, under_way, not_reached) and `headline`."""
        headlines = {finding.step: finding.headline for finding in reversed(self.findings)}
        return [
            {"step": step.value, "state": self._state(step), "headline": headlines.get(step)} for step in Step
        ]

    def _state(self, step: Step) -> str:
        order = list(Step)
        if any(finding.step is step for finding in self.findings if finding is not self.threat):
            return "blocked"
        if order.index(step) < order.index(self.reached) or (self.over and not self.findings):
            return "passed"
        # On its node several things happen at once.
        placed = self.reached is Step.VOLUMES and not self.findings and step is not Step.PROCESS
        return "under_way" if placed or step is self.reached else "not_reached"


def climb(
    objects: RunObjects,
    explanation: Explanation | None,
    *,
    ended: RunEnd | None = None,
    causes: Sequence[Diagnosis] = (),
    over: bool = False,
) -> Ladder:
    """Looks at every step.

    Args:
        objects: what has been read.
        explanation: the nodes' arithmetic, for a run that waits for a node; None also where they can't be
            read.
        ended: how it failed; None while it hasn't.
        causes: what its output, and the messages of its containers, are known to mean.
        over: nothing of it goes on any more.
    """
    found = sorted(_findings(objects, explanation, ended, causes), key=lambda f: list(Step).index(f.step))
    if objects.is_yard:
        found = [replace(f, remedies=tuple(remedy.on_yard() for remedy in f.remedies)) for f in found]
    return Ladder(tuple(found), _reached(objects), over, runs=not over and _runs(objects))


def _findings(
    objects: RunObjects, explanation: Explanation | None, ended: RunEnd | None, causes: Sequence[Diagnosis]
) -> Iterator[Finding]:
    if ended is not None:
        # What came before the end is past; the end of a container that never began is its start's.
        finding = find_devices(objects) or _told(find_start(objects), causes)
        if finding is None or finding.cause is Cause.CRASH_LOOP:
            finding = find_process(objects, ended, causes)
        elif finding.cause is Cause.UNHEALTHY_DEVICE and ended.message:
            finding = replace(finding, evidence=(*finding.evidence, f"it ended: {ended.message}"))
        if finding is not None:
            yield finding
        return
    if disk := find_disk(objects, told=True):
        yield disk
        return
    elsewhere = explanation is not None and explanation.blocker is Blocker.VOLUMES
    claims, nodes = find_claims(objects), find_nodes(objects, explanation)
    if claims and nodes and nodes.cause is Cause.SCHEDULER:
        nodes = None  # The scheduler looks at no pod without its claims.
    found = (
        find_job(objects),
        find_quota(objects),
        find_admission(objects),
        claims,
        nodes,
        find_volumes(objects, elsewhere=elsewhere),
        find_image(objects),
        find_devices(objects),
    )
    yield from filter(None, found)
    # A device that CDI doesn't know is a container that isn't created, too.
    if not any(finding and finding.step is Step.DEVICES for finding in found):
        start = _told(find_start(objects), causes)
        if start is None and not any(found):
            start = find_disk(objects, told=False)
        if start is not None:
            yield start


def _told(finding: Finding | None, causes: Sequence[Diagnosis]) -> Finding | None:
    """With what is known of the runtime's words, where we have none of our own for them."""
    if finding is None or finding.cause not in (Cause.START, Cause.CRASH_LOOP) or not causes:
        return finding
    first = causes[0]
    lines = tuple(f"its output says: {cause.line[:300]}" for cause in causes)
    return replace(
        finding,
        cause=first.key,
        headline=f"{finding.headline}: {first.cause}",
        evidence=(*finding.evidence, *lines),
        remedies=tuple(Remedy(cause.remedy) for cause in causes),
    )


def _runs(objects: RunObjects) -> bool:
    return objects.pod is not None and any(
        "running" in (status.get("state") or {}) for status in container_statuses(objects.pod)
    )


def _reached(objects: RunObjects) -> Step:
    pod = objects.pod
    if pod is None:
        return Step.JOB if objects.job["spec"].get("suspend") else Step.QUOTA
    if not pod["spec"].get("nodeName"):
        return Step.NODES
    for status in container_statuses(pod):
        if "waiting" not in (status.get("state") or {}) or status.get("lastState"):
            return Step.PROCESS
    return Step.PROCESS if is_terminal(pod) else Step.VOLUMES
