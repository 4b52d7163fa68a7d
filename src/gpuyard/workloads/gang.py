"""A run of several pods: how they are numbered, find one another and are wired for torchrun (pure).

An Indexed Job gives each pod its number, and a headless Service gives it a name that the others resolve.
Sources: https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode and torchrun's
`PET_…` variables, one for each of its options (torch `torch/distributed/argparse_util.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard.kube.objects import POD_GROUPS, Manifest
from gpuyard.kube.wellknown import (
    ANNOTATION_COMPLETION_INDEX,
    ANNOTATION_GANG_SIZE,
    ANNOTATION_NODES,
    ENV_GANG,
    ENV_GANG_RANK,
    ENV_GANG_UID,
    LABEL_JOB_UID,
    LABEL_RUN,
)
from gpuyard.workloads.command import is_script, split_run
from gpuyard.workloads.spec.run_spec import RunSpec

#: Outside of the ports that Linux gives to clients (32768 and up), and of what services usually have. The odd
#: ones are for torchrun in elastic runs, whose launchers go on listening.
_FIRST_PORT, _PORTS = 20_000, 5_000


def is_gang(spec: RunSpec) -> bool:
    """Whether the run has several pods, which start together or not at all."""
    return spec.nodes > 1


def is_elastic(spec: RunSpec) -> bool:
    """Whether pods may come and go while it runs."""
    return spec.least_nodes is not None


def least_nodes(spec: RunSpec) -> int:
    """Without so many pods it doesn't start."""
    return spec.nodes if spec.least_nodes is None else spec.least_nodes


def job_fields(spec: RunSpec) -> dict[str, Any]:
    """The fields of the Job that number its pods; none for a run of one pod."""
    if not is_gang(spec):
        return {}
    fields = {"completions": spec.nodes, "parallelism": spec.nodes, "completionMode": "Indexed"}
    if is_elastic(spec):
        # A pod that comes when the others are through finds nobody. The first one ends last.
        fields["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    return fields


def job_annotations(spec: RunSpec) -> dict[str, str]:
    """Between which numbers its pods may be scaled."""
    return {ANNOTATION_NODES: f"{spec.least_nodes}..{spec.nodes}"} if is_elastic(spec) else {}


def template_annotations(spec: RunSpec) -> dict[str, str]:
    """What a scheduler that places whole gangs reads on each pod."""
    return {ANNOTATION_GANG_SIZE: str(least_nodes(spec))} if is_gang(spec) else {}


def subdomain(name: str) -> str:
    """The name of the run's Service. Before Kubernetes 1.36 it has to begin with a letter."""
    return name if name[:1].isalpha() else f"run-{name}"


def service(name: str, namespace: str) -> Manifest:
    """The headless Service below which the pods have their names, as soon as they have addresses."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": subdomain(name), "namespace": namespace, "labels": {LABEL_RUN: name}},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {LABEL_RUN: name},
        },
    }


def pod_group(name: str, namespace: str, spec: RunSpec) -> Manifest:
    """By which a cluster's scheduler starts the pods together or not at all, where it does such things.

    It takes no pods of another priority than their group's.
    Source: kubernetes `pkg/scheduler/schedule_one_podgroup.go` (v1.37.2).
    """
    priority = {"priorityClassName": spec.priority} if spec.priority else {}
    return {
        "apiVersion": POD_GROUPS.api_version,
        "kind": POD_GROUPS.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_RUN: name}},
        "spec": {"schedulingPolicy": {"gang": {"minCount": least_nodes(spec)}}, **priority},
    }


def processes_per_pod(spec: RunSpec) -> int:
    """One for each GPU; one without."""
    return spec.gpus.count or 1


def with_torchrun(argv: Sequence[str], spec: RunSpec) -> list[str]:
    """The argv of a bare script with torchrun before it, where each of several pods is to be several
    processes; any other command starts its processes itself."""
    by_torchrun = is_gang(spec) and processes_per_pod(spec) > 1 and is_script(split_run(spec.run, spec.shell))
    return [argv[0], "-m", "torch.distributed.run", *argv[1:]] if by_torchrun else list(argv)


def environment(name: str, namespace: str, spec: RunSpec) -> list[dict[str, Any]]:
    """The variables that tell a pod who it is and where the first pod is; none for a run of one pod.

    On a yard pods share the host's network, so that each run needs a port of its own: it comes of the name.
    """
    if not is_gang(spec):
        return []
    processes = processes_per_pod(spec)
    address = f"{name}-0.{subdomain(name)}"
    port = _FIRST_PORT + 2 * (zlib.crc32(f"{namespace}/{name}".encode()) % _PORTS)
    sizes = f"{spec.least_nodes}..{spec.nodes}" if is_elastic(spec) else str(spec.nodes)
    meeting = str(port + 1 if is_elastic(spec) else port)
    values = {
        "PET_NNODES": sizes.replace("..", ":"),
        "PET_NPROC_PER_NODE": str(processes),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": meeting,
        "MASTER_ADDR": address,
        "MASTER_PORT": meeting,
        ENV_GANG: f"{sizes} {address} {port} {int(spec.start_within.total_seconds())}",
    }
    index = f"metadata.annotations['{ANNOTATION_COMPLETION_INDEX}']"
    uid = f"metadata.labels['{LABEL_JOB_UID}']"
    # The launcher of an elastic run says at each start how many there are.
    fields = {} if is_elastic(spec) else {"PET_NODE_RANK": index}
    fields |= {ENV_GANG_RANK: index, ENV_GANG_UID: uid}
    if processes == 1 and not is_elastic(spec):
        values |= {"WORLD_SIZE": str(spec.nodes), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        fields["RANK"] = index
    return [
        *({"name": name, "value": value} for name, value in values.items()),
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
    ]


def with_own(wiring: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Both, where the run's own variables win over the wiring's of the same name."""
    named = {variable["name"] for variable in own}
    return [dict(v) for v in (*(v for v in wiring if v["name"] not in named), *own)]
