"""Objects that a pod names and that are missing, and the nearest name that there is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Finding, Owner, Remedy, Step
from gpuyard.explain.run_objects import RunObjects

#: As a kubelet says it of what a container or a volume needs.
_MISSING = re.compile(
    r'(?P<kind>configmap|secret) "(?P<name>[^"]+)" not found|'
    r'object "[^"]*"/"(?P<object>[^"]+)" not registered'
)
_KINDS = {"configmap": "ConfigMap", "secret": "Secret"}
_CAUSES = {"ConfigMap": Cause.NO_CONFIG_MAP, "Secret": Cause.NO_SECRET}
#: Kinds of which the names that there are help, by the cause that one of them is missing. Not Secrets: with
#: their names their values would be read, too.
KIND_TO_LIST = {
    Cause.NO_SERVICE_ACCOUNT: "ServiceAccount",
    Cause.NO_PRIORITY_CLASS: "PriorityClass",
    Cause.NO_RUNTIME_CLASS: "RuntimeClass",
    Cause.NO_CONFIG_MAP: "ConfigMap",
}


def find_missing_object(objects: RunObjects, step: Step, said: str, evidence: str) -> Finding | None:
    """The ConfigMap or Secret that a kubelet finds missing, if that is what it says."""
    match = _MISSING.search(said)
    if match is None:
        return None
    kind, name = _KINDS.get(match["kind"] or "", "object"), match["name"] or match["object"]
    known = objects.names.get(kind, ())
    # A pod may name anything.
    word = shlex.quote(name)
    make = {
        "ConfigMap": f"kubectl create configmap {word} -n {objects.namespace} --from-file=…",
        "Secret": f"kubectl create secret generic {word} -n {objects.namespace} --from-literal=…",
    }
    remedies = [Remedy("make it, and the run goes on by itself", command=make.get(kind, ""))]
    if usage := nearest(name, known, ""):
        remedies.insert(0, Remedy(usage))
    return Finding(
        step,
        _CAUSES.get(kind, Cause.NO_OBJECT),
        f"there is no {kind} {name} in namespace {objects.namespace}",
        Owner(kind, name, objects.namespace),
        (evidence,),
        tuple(remedies),
    )


def nearest(name: str, known: Sequence[str], otherwise: str) -> str:
    """`use NAME instead of …` where one is nearly spelt so."""
    near = get_close_matches(name, known, n=1)
    return f"use {near[0]} instead of {name}" if near else otherwise
