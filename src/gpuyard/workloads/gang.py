"""A run of several pods: how they are numbered, find one another and are wired for torchrun (pure).

An Indexed Job gives each pod its number, and a headless Service gives it a name that the others resolve.
Sources: https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode and torchrun's
`PET_…` variables, one for each of its options (torch `torch/distributed/argparse_util.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import (
    ANNOTATION_COMPLETION_INDEX,
    ANNOTATION_GANG_SIZE,
    ENV_GANG,
    ENV_GANG_RANK,
    ENV_GANG_UID,
    LABEL_JOB_UID,
    LABEL_RUN,
)
from gpuyard.workloads.command import is_script, split_run
from gpuyard.workloads.spec.run_spec import RunSpec

#: Outside of the ports that Linux gives to clients (32768 and up), and of what services usually have.
_FIRST_PORT, _PORTS = 20_000, 10_000


def is_gang(spec: RunSpec) -> bool:
    """Whether the run has several pods, which start together or not at all."""
    return spec.nodes > 1


def job_fields(spec: RunSpec) -> dict[str, Any]:
    """The fields of the Job that number its pods; none for a run of one pod."""
    if not is_gang(spec):
        return {}
    return {"completions": spec.nodes, "parallelism": spec.nodes, "completionMode": "Indexed"}


def template_annotations(spec: RunSpec) -> dict[str, str]:
    """What a scheduler that places whole gangs reads on each pod."""
    return {ANNOTATION_GANG_SIZE: str(spec.nodes)} if is_gang(spec) else {}


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
    port = str(_FIRST_PORT + zlib.crc32(f"{namespace}/{name}".encode()) % _PORTS)
    values = {
        "PET_NNODES": str(spec.nodes),
        "PET_NPROC_PER_NODE": str(processes),
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": port,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        ENV_GANG: f"{spec.nodes} {address} {port} {int(spec.start_within.total_seconds())}",
    }
    index = f"metadata.annotations['{ANNOTATION_COMPLETION_INDEX}']"
    uid = f"metadata.labels['{LABEL_JOB_UID}']"
    fields = {"PET_NODE_RANK": index, ENV_GANG_RANK: index, ENV_GANG_UID: uid}
    if processes == 1:
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
