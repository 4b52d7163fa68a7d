"""Volumes: claims that aren't there or aren't bound, and what a node can't mount.

Sources: kubernetes `pkg/scheduler/framework/plugins/volumebinding`, `pkg/controller/volume/persistentvolume`,
`pkg/volume/{configmap,secret,projected}` and `pkg/volume/util/operationexecutor` for the messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.missing_objects import find_missing_object, nearest
from gpuyard.explain.run_objects import RunObjects, event_text
from gpuyard.explain.steps.nodes import scheduler_message
from gpuyard.kube.objects import Manifest, key_of
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.storage import DEFAULT_CLASS, claims_of, is_default_class
from gpuyard.scheduling.requests import NodeTerm

_WAITS = "WaitForFirstConsumer"
_NO_PROVISIONER = "kubernetes.io/no-provisioner"
_NONE_TO_BIND = "didn't find available persistent volumes to bind"
_MISSING_KEY = re.compile(r"references non-existent (?P<kind>config|secret) key: (?P<name>\S+)")
_MULTI_ATTACH = re.compile(
    r'Multi-Attach error for volume "(?P<name>[^"]+)"\s*Volume is already (?P<how>.*)', re.DOTALL
)
_LONGEST = 400


def find_volumes(objects: RunObjects, *, elsewhere: bool = False) -> Finding | None:
    """What about its volumes holds the run.

    Args:
        objects: what is known.
        elsewhere: nothing keeps it off the nodes but that they can't mount a volume of its.
    """
    pod = objects.pod
    if pod is not None and pod["spec"].get("nodeName"):
        return _mounting(objects, pod)
    for name in claims_of(objects.spec, key_of(pod).name if pod else ""):
        if finding := _claim(objects, name):
            return finding
    said = scheduler_message(pod)
    if elsewhere or "PersistentVolume's node affinity" in said or "volume node affinity conflict" in said:
        return _elsewhere(objects, said)
    return None


def required_places(objects: RunObjects) -> tuple[tuple[str, tuple[NodeTerm, ...]], ...]:
    """The bound volumes that are tied to nodes, and to which."""
    used = set(claims_of(objects.spec, key_of(objects.pod).name if objects.pod else ""))
    bound = {c["spec"].get("volumeName") for c in objects.claims if key_of(c).name in used}
    return tuple(
        (key_of(volume).name, tuple(map(NodeTerm.of, terms)))
        for volume in objects.volumes
        if key_of(volume).name in bound and (terms := _terms(volume))
    )


def _terms(volume: Manifest) -> Sequence[Mapping[str, Any]]:
    required = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    terms: Sequence[Mapping[str, Any]] = required.get("nodeSelectorTerms") or ()
    return terms


def _claim(objects: RunObjects, name: str) -> Finding | None:
    owner = Owner("PersistentVolumeClaim", name, objects.namespace)
    claim = next((claim for claim in objects.claims if key_of(claim).name == name), None)
    if claim is None:
        said = scheduler_message(objects.pod)
        if (
            "persistentvolumeclaims" in objects.unreadable
            and f'persistentvolumeclaim "{name}" not' not in said
        ):
            return None
        known = [key_of(each).name for each in objects.claims]
        return Finding(
            Step.VOLUMES,
            Cause.NO_CLAIM,
            f"there is no PersistentVolumeClaim {name} in namespace {objects.namespace}",
            owner,
            (f"there are: {', '.join(sorted(known)[:10])}",) if known else (),
            (Remedy(nearest(name, known, f"make the claim {name}")),),
        )
    phase = (claim.get("status") or {}).get("phase")
    if phase == "Lost":
        volume = claim["spec"].get("volumeName")
        return Finding(
            Step.VOLUMES,
            Cause.CLAIM_LOST,
            f"the volume {volume} of claim {name} is gone",
            owner,
            remedies=(Remedy(f"bring the volume {volume} back, or make the claim anew", By.OPERATOR),),
        )
    return _unbound(objects, claim) if phase != "Bound" else None


def _unbound(objects: RunObjects, claim: Manifest) -> Finding | None:
    wanted = claim["spec"].get("storageClassName")
    names = [key_of(item).name for item in objects.classes]
    readable = "all storageclasses" not in objects.unreadable
    if wanted is None and readable and not any(map(is_default_class, objects.classes)):
        command = f"kubectl annotate storageclass {names[0] if names else 'NAME'} {DEFAULT_CLASS}=true"
        return _not_bound(
            objects,
            claim,
            Cause.NO_DEFAULT_CLASS,
            "it names no StorageClass, and the cluster has no default one",
            Remedy(_name_a_class(names)),
            Remedy("mark one as default", By.OPERATOR, command),
        )
    if wanted == "":
        why = "it wants a PersistentVolume without a class, and none matches its size and access modes"
        remedy = Remedy("make such a PersistentVolume", By.OPERATOR)
        return _not_bound(objects, claim, Cause.NO_VOLUME, why, remedy)
    if wanted is not None and readable and wanted not in names:
        remedy = Remedy(nearest(wanted, names, _name_a_class(names)))
        return _not_bound(objects, claim, Cause.NO_CLASS, f"there is no StorageClass {wanted}", remedy)
    return _unprovisioned(objects, claim)


def _unprovisioned(objects: RunObjects, claim: Manifest) -> Finding | None:
    wanted = claim["spec"].get("storageClassName")
    class_ = next((item for item in objects.classes if key_of(item).name == wanted), {})
    provisioner = str(class_.get("provisioner", ""))
    waits = class_.get("volumeBindingMode") == _WAITS
    if waits and _NONE_TO_BIND not in scheduler_message(objects.pod):
        # It is bound once the pod has a node: the other steps say what that waits for.
        return None
    if waits or provisioner == _NO_PROVISIONER:
        why = f"class {wanted} makes no volumes itself, and no PersistentVolume of it is free on a node"
        remedy = Remedy(f"make a PersistentVolume of class {wanted}", By.OPERATOR)
        return _not_bound(objects, claim, Cause.NO_VOLUME, why, remedy)
    who = provisioner or "its provisioner"
    failed = objects.last_event("ProvisioningFailed", of=claim) is not None
    why = f"{who} failed to make the volume" if failed else f"{who} hasn't made the volume yet"
    command = f"kubectl describe pvc {key_of(claim).name} -n {objects.namespace}"
    remedy = Remedy(f"see whether {who} runs", By.OPERATOR, command)
    return _not_bound(objects, claim, Cause.PROVISIONING, why, remedy)


def _not_bound(objects: RunObjects, claim: Manifest, cause: Cause, why: str, *remedies: Remedy) -> Finding:
    event = objects.last_event("ProvisioningFailed", "FailedBinding", "ExternalProvisioning", of=claim)
    evidence = (f"{event['reason']}: {event_text(event)[:_LONGEST]}",) if event else ()
    owner = Owner("PersistentVolumeClaim", key_of(claim).name, objects.namespace)
    return Finding(Step.VOLUMES, cause, f"claim {owner.name} isn't bound: {why}", owner, evidence, remedies)


def _name_a_class(names: Sequence[str]) -> str:
    there = f": {', '.join(sorted(names)[:5])}" if names else ", once there is one"
    return f"make the claim anew with a storageClassName that is there{there}"


def _elsewhere(objects: RunObjects, said: str) -> Finding:
    places = dict(required_places(objects))
    name = next(iter(places), "")
    where = " or ".join(
        " and ".join(f"{r.key} {r.operator} {', '.join(r.values)}".strip() for r in (*t.labels, *t.fields))
        for t in places.get(name, ())
    )
    tied = f": it is tied to nodes with {where}" if where else ""
    return Finding(
        Step.VOLUMES,
        Cause.VOLUME_ELSEWHERE,
        f"no node that would take the pod can mount {f'volume {name}' if name else 'its volume'}{tied}",
        Owner("PersistentVolume", name) if name else None,
        (f"the scheduler says: {said[:_LONGEST]}",) if said else (),
        (
            Remedy("run it on the volume's nodes: see what keeps it off those"),
            Remedy("use a claim whose volume these nodes can mount"),
        ),
    )


def _mounting(objects: RunObjects, pod: Manifest) -> Finding | None:
    """On a node already, whose kubelet can't mount what it needs."""
    if (pod.get("status") or {}).get("phase") not in (None, "Pending") or _has_started(pod):
        return None
    event = objects.last_event("FailedMount", "FailedAttachVolume", of=pod)
    if event is None:
        return None
    said = event_text(event)
    node = pod["spec"]["nodeName"]
    evidence = (f"node {node} says: {said[:_LONGEST]}",)
    if finding := find_missing_object(objects, Step.VOLUMES, said, evidence[0]):
        return finding
    if match := _MISSING_KEY.search(said):
        return Finding(
            Step.VOLUMES,
            Cause.NO_KEY,
            f"a volume names key {match['name']}, which its {match['kind']} hasn't",
            evidence=evidence,
            remedies=(Remedy(f"add the key {match['name']}, or leave the item out"),),
        )
    if match := _MULTI_ATTACH.search(said):
        return Finding(
            Step.VOLUMES,
            Cause.ATTACHED_ELSEWHERE,
            f"volume {match['name']} is attached to another node: {match['how'][:200]}",
            Owner("PersistentVolume", match["name"]),
            evidence,
            (
                Remedy("wait for the pod that uses it there to end, or stop it"),
                Remedy("use a volume with access mode ReadWriteMany"),
            ),
        )
    return Finding(
        Step.VOLUMES,
        Cause.MOUNT,
        f"node {node} can't mount a volume",
        Owner("Node", node),
        evidence,
        (Remedy("see to what the node says", By.OPERATOR),),
    )


def _has_started(pod: Manifest) -> bool:
    return any("waiting" not in (status.get("state") or {}) for status in container_statuses(pod))
