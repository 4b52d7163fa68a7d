"""Topology spread: a label that a pod is to be spread over, and that no node has.

Source: kubernetes `pkg/scheduler/framework/plugins/podtopologyspread/common.go` for the message.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Remedy, Step
from gpuyard.explain.missing_objects import nearest
from gpuyard.explain.run_objects import RunObjects
from gpuyard.kube.objects import labels_of

_MISSING = "pod topology spread constraints (missing required label)"


def find_spread_label(objects: RunObjects, said: str, evidence: str) -> Finding | None:
    """The labels that no node has, if the scheduler misses one of them.

    Args:
        objects: with the nodes, as far as they can be read.
        said: the scheduler's message.
        evidence: the same, and who says it.
    """
    there = sorted({key for node in objects.nodes for key in labels_of(node)})
    missing = [key for key in _keys(objects) if key not in there]
    if _MISSING not in said or not missing:
        return None
    key = missing[0]
    instead = [text] if (text := nearest(key, there, "")) else []
    return Finding(
        Step.NODES,
        Cause.SPREAD_LABEL,
        f"no node has the label {', nor '.join(missing)}, over which topologySpreadConstraints spread it",
        None,
        (evidence,),
        (
            *map(Remedy, instead),
            Remedy("leave that constraint out, or use whenUnsatisfiable: ScheduleAnyway"),
            Remedy("label the nodes", By.OPERATOR, f"kubectl label node NODE {shlex.quote(key)}=VALUE"),
        ),
    )


def _keys(objects: RunObjects) -> Iterator[str]:
    for constraint in objects.spec.get("topologySpreadConstraints") or ():
        if constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule":
            yield str(constraint["topologyKey"])
