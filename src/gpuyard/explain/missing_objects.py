"""Objects that a pod names and that are missing, and the nearest name that there is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from gpuyard.explain.finding import Finding, Owner, Remedy, Step
from gpuyard.explain.run_objects import RunObjects

#: As a kubelet says it of what a container or a volume needs.
_ABSENT = re.compile(
    r'(?P<kind>configmap|secret) "(?P<name>[^"]+)" not found|'
    r'object "[^"]*"/"(?P<object>[^"]+)" not registered'
)
_KINDS = {"configmap": "ConfigMap", "secret": "Secret"}
_CAUSES = {"ConfigMap": "no_config_map", "Secret": "no_secret"}


def find_absent(objects: RunObjects, step: Step, said: str, evidence: str) -> Finding | None:
    """The ConfigMap or Secret that a kubelet finds missing, if that is what it says."""
    match = _ABSENT.search(said)
    if match is None:
        return None
    kind, name = _KINDS.get(match["kind"] or "", "object"), match["name"] or match["object"]
    known = objects.names.get(kind, ())
    make = {
        "ConfigMap": f"kubectl create configmap {name} -n {objects.namespace} --from-file=…",
        "Secret": f"kubectl create secret generic {name} -n {objects.namespace} --from-literal=…",
    }
    remedies = [Remedy("make it, and the run goes on by itself", command=make.get(kind, ""))]
    if usage := nearest(name, known, ""):
        remedies.insert(0, Remedy(usage))
    return Finding(
        step,
        _CAUSES.get(kind, "no_object"),
        f"there is no {kind} {name} in namespace {objects.namespace}",
        Owner(kind, name, objects.namespace),
        (evidence,),
        tuple(remedies),
    )


def nearest(name: str, known: Sequence[str], otherwise: str) -> str:
    """`use NAME instead of …` where one is nearly spelt so."""
    near = get_close_matches(name, known, n=1)
    return f"use {near[0]} instead of {name}" if near else otherwise
