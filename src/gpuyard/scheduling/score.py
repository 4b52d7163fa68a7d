"""Which of the nodes that fit is the best: wishes first, then whole nodes kept free."""

from __future__ import annotations

from typing import NamedTuple

from gpuyard.gpus.resources import gpus_in
from gpuyard.kube.requests import CPU
from gpuyard.scheduling.fit import tolerated
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState


class Score(NamedTuple):
    """Compared field by field; the least is the best, and the name makes it one.

    Attributes:
        unmet_wishes: weight of preferred node affinity that the node doesn't meet.
        soft_taints: PreferNoSchedule taints that aren't tolerated.
        spare_gpus: free GPUs afterwards: the tightest fit leaves room for the large requests. For a
            pod without GPUs all GPUs that the node has, so that it stays away from them.
        breaks_into: an empty GPU node would no longer be whole.
        used_cpu: share of the CPU in use afterwards, in 1/1000: CPU work spreads.
        name: the node.
    """

    unmet_wishes: int
    soft_taints: int
    spare_gpus: int
    breaks_into: bool
    used_cpu: int
    name: str


def score(request: PodRequest, node: NodeState) -> Score:
    """How well a node that fits suits the pod."""
    gpus = gpus_in(request.resources)
    there, held = gpus_in(node.allocatable), gpus_in(node.allotted)
    cpu = node.allotted.get(CPU, 0) + request.resources.get(CPU, 0)
    return Score(
        unmet_wishes=sum(w for w, term in request.preferred if not term.matches(node.name, node.labels)),
        soft_taints=sum(
            taint.get("effect") == "PreferNoSchedule" and not tolerated(taint, request)
            for taint in node.taints
        ),
        spare_gpus=there - held - gpus if gpus else there,
        breaks_into=bool(there) and not held,
        used_cpu=cpu * 1000 // max(node.allocatable.get(CPU, 0), 1),
        name=node.name,
    )
