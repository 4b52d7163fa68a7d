"""The volumes of a run as Kubernetes objects: claims that are made for it, and what its pods mount (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpuyard.kube.objects import PERSISTENT_VOLUME_CLAIMS, Manifest
from gpuyard.kube.storage import READ_ONLY_MANY, READ_WRITE_MANY, READ_WRITE_ONCE
from gpuyard.workloads.gang import is_gang
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.run_spec import RunSpec


def claims(run: ResolvedRun) -> list[Manifest]:
    """The claims that the run makes where they aren't there. No run owns them: they outlive it."""
    made = {volume.claim: volume for volume in run.spec.volumes if volume.size is not None}
    return [
        {
            "apiVersion": PERSISTENT_VOLUME_CLAIMS.api_version,
            "kind": PERSISTENT_VOLUME_CLAIMS.kind,
            "metadata": {"name": name, "namespace": run.namespace},
            "spec": {
                "accessModes": [_mode(run.spec, name)],
                "resources": {"requests": {"storage": volume.size}},
                **({"storageClassName": volume.storage_class} if volume.storage_class else {}),
            },
        }
        for name, volume in made.items()
    ]


def _mode(spec: RunSpec, claim: str) -> str:
    """Few storage systems let several nodes write, so that is asked for only where they do.

    So may those of a service with one replica: while it is updated it has two.
    """
    if not is_gang(spec) and spec.service is None:
        return READ_WRITE_ONCE
    is_written = any(not volume.read_only for volume in spec.volumes if volume.claim == claim)
    return READ_WRITE_MANY if is_written else READ_ONLY_MANY


def pod_volumes(spec: RunSpec) -> list[dict[str, Any]]:
    """`volumes` of the pod: one for each claim or folder, wherever it is mounted."""
    return [{"name": name, **source} for name, source in _sources(spec)]


def mounts(spec: RunSpec) -> list[dict[str, Any]]:
    """`volumeMounts` of the container."""
    names = {str(source): name for name, source in _sources(spec)}
    return [
        {
            "name": names[str(_source(volume.claim, volume.folder))],
            "mountPath": volume.path,
            **({"readOnly": True} if volume.read_only else {}),
        }
        for volume in spec.volumes
    ]


def _sources(spec: RunSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    found = dict.fromkeys((volume.claim, volume.folder) for volume in spec.volumes)
    for number, (claim, folder) in enumerate(found):
        yield f"volume-{number}", _source(claim, folder)


def _source(claim: str, folder: str) -> dict[str, Any]:
    if claim:
        return {"persistentVolumeClaim": {"claimName": claim}}
    return {"hostPath": {"path": folder, "type": "Directory"}}
