"""Nodes: whether one takes the pod, from our own arithmetic and from what the scheduler says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from gpuyard.explain.causes import Cause
from gpuyard.explain.changes import Mend, Release
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.messages import find_meaning, meaning
from gpuyard.explain.missing_objects import nearest
from gpuyard.explain.placement import Blocker, Explanation
from gpuyard.explain.plans import ChangeSet
from gpuyard.explain.run_objects import RunObjects
from gpuyard.explain.steps.devices import SEE_PLUGIN, mend
from gpuyard.explain.steps.pod_group import find_pod_group, pod_group_line
from gpuyard.explain.steps.spread import find_spread_label
from gpuyard.gpus.faults import no_gpus_text, says_health, without_gpus_remedy
from gpuyard.kube.conditions import find_condition, without_preemption
from gpuyard.kube.nodes import not_ready_text
from gpuyard.kube.objects import Manifest, key_of, labels_of
from gpuyard.kube.pods import container_statuses, is_terminal
from gpuyard.kube.wellknown import TAINT_UNREACHABLE
from gpuyard.scheduling.fit import Cordoned, NotReady
from gpuyard.tenancy.names import CAPACITY_ROLE

_MAX_MENDS = 3
DEFAULT_SCHEDULER = "default-scheduler"
GATED = "SchedulingGated"
_RESTART_YARD = (
    "see what is wrong (`gpuyard doctor`), or restart the yard: `gpuyard down --keep && gpuyard up`"
)
_SIMULATE = replace(
    SEE_PLUGIN,
    yard_text="simulate some: `gpuyard down --keep && gpuyard up --simulate H100:8`; "
    "`gpuyard doctor` says why it has none",
)
_BIND = f"kubectl create clusterrolebinding NAME --clusterrole={CAPACITY_ROLE} --user=YOU"
_UNAVAILABLE = re.compile(r"(?P<free>\d+)/(?P<all>\d+) nodes are available: (?P<reasons>.*)", re.DOTALL)


#: As the API spells what holds GPUs; a run is a Job of its name.
_KINDS = {
    "run": "Job",
    "service": "Deployment",
    "job": "Job",
    "pod": "Pod",
    "deployment": "Deployment",
    "replicaset": "ReplicaSet",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
}


#: What the scheduler finds that our arithmetic doesn't look at.
_MEANINGS = (
    meaning(
        Cause.PORTS,
        "didn't have free ports",
        "another pod of each node has the hostPort that it asks for",
        Remedy("leave hostPort out, or wait for that pod to end"),
    ),
    meaning(
        Cause.POD_AFFINITY,
        "pod affinity rules|pod anti-affinity rules|existing pods anti-affinity",
        "affinity to other pods, or of theirs to it, leaves no node",
        Remedy("mend podAffinity and podAntiAffinity in `affinity`"),
    ),
    meaning(
        Cause.CLAIM_UNMET,
        "cannot allocate all claims|device class .* does not exist",
        "no node has the devices that its ResourceClaims ask for, free",
        Remedy("ask for other devices in the ResourceClaim, or wait for others to end"),
        Remedy("see what the nodes offer", command="kubectl get resourceslices,deviceclasses"),
    ),
    meaning(
        Cause.SPREAD,
        "topology spread constraints",
        "its topologySpreadConstraints leave no node",
        Remedy("raise maxSkew, or use whenUnsatisfiable: ScheduleAnyway"),
    ),
    meaning(
        Cause.VOLUME_COUNT,
        "exceed max volume count",
        "each node has as many volumes attached as it can",
        Remedy("use fewer claims, or wait for others to end"),
    ),
)


def scheduler_message(pod: Manifest | None) -> str:
    """Why the scheduler says that it found no node; empty when it hasn't said so.

    Also why it hasn't looked for one: where a server writes what its PreEnqueue plugins say (KEP-5501), and
    where a request can't be read (`SchedulerError`).
    """
    condition = (pod and find_condition(pod, "PodScheduled")) or {}
    if condition.get("status") == "True" or condition.get("reason") == GATED:
        return ""
    return without_preemption(str(condition.get("message") or ""))


def find_nodes(objects: RunObjects, explanation: Explanation | None) -> Finding | None:
    """What about the nodes holds a pod that has none.

    Args:
        objects: what else is known.
        explanation: None where the user may not read nodes.
    """
    finding = find_pod_group(objects) or _find_nodes(objects, explanation)
    if finding and (line := pod_group_line(objects)):
        return replace(finding, evidence=(*finding.evidence, line))
    return finding


def _find_nodes(objects: RunObjects, explanation: Explanation | None) -> Finding | None:
    if objects.pod is not None and objects.pod["spec"].get("nodeName"):
        return _lost_node(objects.pod, objects.node)
    said = scheduler_message(objects.pod)
    if found := _unseen(objects) or _not_tried(objects.pod, said):
        return found
    if explanation is None:
        return _from_message(said) if said and not _about_volumes(said) else None
    if explanation.blocker is None:
        return _against(objects, explanation, said)
    if explanation.blocker is Blocker.VOLUMES:
        return None  # the next step's
    step = Step.DEVICES if explanation.blocker in (Blocker.UNHEALTHY, Blocker.NO_GPUS) else Step.NODES
    remedies = tuple(_remedies(explanation, objects.nodes))
    evidence = [*explanation.node_lines(), *_agent_lines(objects, explanation), *_incomplete(explanation)]
    if objects.pod is None:
        evidence.append("its Job has no pod yet: what the API server adds to pods isn't looked at")
    if not remedies:
        now = "" if explanation.never else " now"
        evidence.append(f"no change of this request alone would let it run{now}")
    return Finding(
        step,
        Cause(explanation.blocker.value),
        explanation.headline,
        _owner(explanation),
        tuple(evidence),
        remedies,
        "what could run" if explanation.never else "what would run now",
    )


def _unseen(objects: RunObjects) -> Finding | None:
    """A pod of which the scheduler that it names has said nothing, if it isn't the usual one."""
    pod = objects.pod
    name = str(objects.spec.get("schedulerName") or DEFAULT_SCHEDULER)
    if pod is None or name == DEFAULT_SCHEDULER or find_condition(pod, "PodScheduled"):
        return None
    if objects.last_event("FailedScheduling", of=pod):
        return None
    placed = {str(p["spec"].get("schedulerName")) for p in objects.neighbours if p["spec"].get("nodeName")}
    known = sorted(placed | {DEFAULT_SCHEDULER})
    before = name in placed
    return Finding(
        Step.NODES,
        Cause.NO_SCHEDULER,
        f"its schedulerName is {name}, and no scheduler of that name has said anything of it"
        + (", though one has placed other pods here" if before else ""),
        Owner("Pod", key_of(pod).name, objects.namespace),
        (f"pods of this namespace were placed by {', '.join(sorted(placed))}",) if placed else (),
        (
            *(() if before else (Remedy(nearest(name, known, "leave schedulerName out of its pod's spec")),)),
            Remedy(f"see that the scheduler {name} runs", By.OPERATOR),
        ),
    )


def _not_yet(objects: RunObjects, explanation: Explanation) -> Finding | None:
    """A pod that fits, and of which the scheduler has said nothing yet."""
    if objects.pod is None or find_condition(objects.pod, "PodScheduled"):
        return None
    claims = objects.spec.get("resourceClaims") and "resourceclaims" in objects.unreadable
    runs = "kubectl get pods -n kube-system -l component=kube-scheduler"
    return Finding(
        Step.NODES,
        Cause.SCHEDULER,
        f"it {explanation.headline}, and the scheduler hasn't looked at it yet",
        evidence=("one of its ResourceClaims may be missing: you may not list them",) if claims else (),
        remedies=(
            Remedy("wait: a scheduler that runs does so within seconds"),
            Remedy("see that it runs", By.OPERATOR, runs, yard_text=_RESTART_YARD),
        ),
    )


def _not_tried(pod: Manifest | None, said: str) -> Finding | None:
    """The scheduler's own reason for which it doesn't even look for a node."""
    condition = (pod and find_condition(pod, "PodScheduled")) or {}
    if not said or condition.get("reason") in ("Unschedulable", None):
        return None
    return Finding(
        Step.NODES,
        Cause.SCHEDULER,
        f"the scheduler doesn't look for a node: {said}",
        evidence=(f"the scheduler says: {condition['reason']}: {said}",),
        remedies=(Remedy("mend what it says; it then tries again by itself"),),
    )


def _lost_node(pod: Manifest, node: Manifest | None) -> Finding | None:
    """The node that it is on, where that is away: what becomes of the pod nobody can say."""
    if node is None or is_terminal(pod) or find_condition(node, "Ready") is None:
        return None
    if not (why := not_ready_text(node)):
        return None
    name = key_of(node).name
    command = f"kubectl describe node {name}"
    wait = Remedy(f"wait until the node is back; {_given_up(pod)}")
    back = Remedy(f"bring node {name} back", By.OPERATOR, command, yard_text=_RESTART_YARD)
    owner = Owner("Node", name)
    return Finding(Step.NODES, Cause.NODE, f"its node {name} is {why}", owner, (), (wait, back))


def _given_up(pod: Manifest) -> str:
    """What the control plane does about a pod of a node that stays away."""
    if pod["metadata"].get("deletionTimestamp"):
        return "its pod is given up already, and stays until the node says that it has ended"
    waits = [
        str(each["tolerationSeconds"])
        for each in pod["spec"].get("tolerations") or ()
        if each.get("key") == TAINT_UNREACHABLE and each.get("tolerationSeconds") is not None
    ]
    return f"its pod is given up {waits[0]} s after the node fell silent" if waits else "its pod stays there"


def _incomplete(explanation: Explanation) -> tuple[str, ...]:
    if not explanation.incomplete:
        return ()
    return ("these numbers are incomplete: you may not list the pods of other namespaces",)


def _owner(explanation: Explanation) -> Owner | None:
    nearest = explanation.nodes[0] if explanation.nodes else None
    if nearest is None:
        return None
    held = next((node.holders for node in explanation.nodes if node.holders), ())
    if explanation.blocker is Blocker.BUSY and held:
        first = held[0]
        return Owner(_KINDS.get(first.kind, first.kind), first.name, first.namespace)
    return Owner("Node", nearest.name)


def _remedies(explanation: Explanation, known: Sequence[Manifest]) -> list[Remedy]:
    remedies = [_remedy(plan) for plan in explanation.plans]
    for node in explanation.nodes:
        if len(node.misfits) == 1 and isinstance(node.misfits[0], Cordoned):
            command = f"kubectl uncordon {node.name}"
            remedies.append(Remedy(f"let node {node.name} take pods again", By.OPERATOR, command))
            break
        if len(node.misfits) == 1 and isinstance(node.misfits[0], NotReady):
            command = f"kubectl describe node {node.name}"
            back = f"bring node {node.name} back"
            remedies.append(Remedy(back, By.OPERATOR, command, yard_text=_RESTART_YARD))
            break
    if explanation.blocker is Blocker.NO_GPUS:
        split = next((node for node in known if no_gpus_text(node) and says_health(labels_of(node))), None)
        remedies.append(replace(SEE_PLUGIN, yard_text=without_gpus_remedy(split)) if split else _SIMULATE)
    elif explanation.blocker is Blocker.UNHEALTHY and not any(
        node.faults or node.occupants for node in explanation.nodes
    ):
        remedies.append(SEE_PLUGIN)
    return remedies


def _remedy(plan: ChangeSet) -> Remedy:
    """The plan, with what mends the GPUs that it wants mended."""
    faults = [fault for change in plan.changes if isinstance(change, Mend) for fault in change.faults]
    if not faults:
        others = [h for c in plan.changes if isinstance(c, Release) for h in c.holders if not h.is_near]
        return Remedy(str(plan), By.OPERATOR if others else By.YOU)
    # Of those of one kind, one: the same mends each.
    mends = list(dict.fromkeys(map(mend, faults)))[:_MAX_MENDS]
    text, yard_text = (
        "; ".join(texts) for texts in zip(*((m.text, m.yard_text) for m in mends), strict=True)
    )
    return Remedy(f"{plan}: {text}", By.OPERATOR, yard_text=f"{plan}: {yard_text}")


def _agent_lines(objects: RunObjects, explanation: Explanation) -> list[str]:
    """Of a node whose GPUs nobody serves: what became of our agent there, which on a yard is no pod."""
    unserved = explanation.blocker in (Blocker.UNHEALTHY, Blocker.NO_GPUS)
    if objects.is_yard or not unserved or not explanation.nodes:
        return []
    name = explanation.nodes[0].name
    agents = [pod for pod in objects.agents if pod["spec"].get("nodeName") == name]
    if not agents:
        unseen = (
            "you may not see gpuyard's agents"
            if "all pods" in objects.unreadable
            else "no agent of gpuyard runs there"
        )
        return [f"node {name}: {unseen}"]
    return [f"node {name}: agent {key_of(pod)} {_agent_state(pod)}" for pod in agents[:2]]


def _agent_state(pod: Manifest) -> str:
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting")
        if waiting:
            return f"doesn't run: {waiting.get('reason', '')} of container {status['name']}"
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted"
    return f"is {(pod.get('status') or {}).get('phase', 'Pending')}"


def _about_volumes(said: str) -> bool:
    return bool(re.search(r"(?i)persistent ?volume|volume node affinity", said))


def _from_message(said: str) -> Finding:
    """The scheduler's own account, where the user may not read nodes."""
    match = _UNAVAILABLE.search(said)
    reasons = match["reasons"].rstrip(". ") if match else said
    count = f"none of {match['all']} nodes takes it" if match else "no node takes it"
    return Finding(
        Step.NODES,
        Cause.SCHEDULER,
        f"{count}: {reasons}",
        evidence=("you may not list nodes, so these are the scheduler's words alone",),
        remedies=(
            Remedy("ask for less, or for other nodes, or wait"),
            Remedy(f"let you see nodes, and what pods ask for: role {CAPACITY_ROLE}", By.OPERATOR, _BIND),
        ),
    )


def _against(objects: RunObjects, explanation: Explanation, said: str) -> Finding | None:
    """Our arithmetic finds a node, and the scheduler none: it looks at more, or sees more, or is late."""
    if not said:
        return _not_yet(objects, explanation)
    if _about_volumes(said):
        return None
    quoted = f"the scheduler says: {said}"
    if finding := find_spread_label(objects, said, quoted):
        return finding
    if found := find_meaning(_MEANINGS, said):
        return found[0].finding(Step.NODES, quoted, {})
    if "Insufficient" in said and explanation.incomplete:
        return Finding(
            Step.NODES,
            Cause.BUSY,
            "pods of other namespaces, which you may not list, hold what it needs",
            None,
            (quoted, *explanation.node_lines(8), *_incomplete(explanation)),
            (
                Remedy("ask for less, or wait"),
                Remedy(f"let you see what others' pods ask for: role {CAPACITY_ROLE}", By.OPERATOR, _BIND),
            ),
        )
    return Finding(
        Step.NODES,
        Cause.SCHEDULER,
        f"it {explanation.headline}, and the scheduler hasn't put it there",
        None,
        (quoted,),
        (Remedy("wait: the scheduler tries again when something changes, and every five minutes"),),
    )
