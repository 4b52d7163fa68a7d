"""A service as Kubernetes objects: a Deployment of its replicas, a Service before them, a budget that keeps
them from being drained all at once, and what scales them where their load decides (pure).

All have the service's name. The Deployment owns the others, so that they go with it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gpuyard.kube.objects import DEPLOYMENTS, DISRUPTION_BUDGETS, SERVICES, Manifest
from gpuyard.kube.wellknown import ANNOTATION_SPEC, ENV_PORT, LABEL_RUN
from gpuyard.workloads.pods.pod import PodRole, RenderedPod, render_pod
from gpuyard.workloads.pods.provenance import provenance
from gpuyard.workloads.resolved_run import ResolvedRun, ResolvedService, Scaler
from gpuyard.workloads.serving.probes import PORT_NAME, lifecycle, probes
from gpuyard.workloads.serving.scaling_objects import scaling_object
from gpuyard.workloads.spec.service.stored import StoredSpec
from gpuyard.workloads.spec.service.values import DEFAULT_DRAIN, Measure, ServiceSpec

#: How long an update's replicas may take to become ready, one after another, before it has stalled.
PROGRESS_DEADLINE_S = 600
#: Earlier templates that `rollback` can go back to.
REVISIONS = 10
#: How long a replica goes on after it was told to end. A cluster has many proxies that have to hear of it, a
#: yard one.
LEAVE_S, YARD_LEAVE_S = 5, 1


def render_service(run: ResolvedRun) -> list[Manifest]:
    """The objects in the order of creation; the last one is the Deployment, which owns those before it, but
    for the claims."""
    service = run.spec.service
    assert service is not None
    decided = run.service or _undecided(run, service)
    pod = _replica(run, service, decided)
    scaling = scaling_object(run, service, decided)
    return [
        *_claims(run),
        *([pod.config_map] if pod.config_map else []),
        _cluster_service(run, service),
        _budget(run),
        *([scaling] if scaling else []),
        _deployment(run, service, decided, pod),
    ]


def _undecided(run: ResolvedRun, service: ServiceSpec) -> ResolvedService:
    """What holds where nobody has been asked: a process is a yard's, and a yard scales by itself."""
    scales = service.is_scaled and service.target is not None and service.target.measure is not Measure.QUERY
    return ResolvedService(
        leave_s=YARD_LEAVE_S if run.host else LEAVE_S,
        max_surge=1 if service.max_surge is None else service.max_surge,
        max_unavailable=0 if service.max_unavailable is None else service.max_unavailable,
        scaler=Scaler.YARD if scales else None,
    )


def _replica(run: ResolvedRun, service: ServiceSpec, decided: ResolvedService) -> RenderedPod:
    # For its processes what a replica has to drain is what a run's pod has to end.
    ended = dataclasses.replace(run, spec=dataclasses.replace(run.spec, grace=service.drain))
    drain_s = int((service.drain or DEFAULT_DRAIN).total_seconds())
    role = PodRole(
        fields={
            "restartPolicy": "Always",
            # The node counts the time in which it goes on as ever too.
            "terminationGracePeriodSeconds": drain_s + decided.leave_s,
        },
        container={
            "ports": [{"name": PORT_NAME, "containerPort": service.port}],
            **probes(service),
            **lifecycle(decided.leave_s),
        },
        wiring=[{"name": ENV_PORT, "value": str(service.port)}],
    )
    return render_pod(ended, role)


def _metadata(run: ResolvedRun) -> dict[str, Any]:
    return {"name": run.name, "namespace": run.namespace, "labels": {LABEL_RUN: run.name}}


def _deployment(
    run: ResolvedRun, service: ServiceSpec, decided: ResolvedService, pod: RenderedPod
) -> Manifest:
    annotations = provenance(run)
    if run.spec.written:
        annotations[ANNOTATION_SPEC] = StoredSpec(run.spec.written, run.spec_folder).annotation
    rolling = {"maxSurge": decided.max_surge, "maxUnavailable": decided.max_unavailable}
    return {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {**_metadata(run), "annotations": annotations},
        "spec": {
            "replicas": service.least,
            "revisionHistoryLimit": REVISIONS,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_S,
            "selector": {"matchLabels": {LABEL_RUN: run.name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": {LABEL_RUN: run.name}}, "spec": pod.spec},
        },
    }


def _cluster_service(run: ResolvedRun, service: ServiceSpec) -> Manifest:
    port = {"name": PORT_NAME, "port": service.port, "targetPort": PORT_NAME, "protocol": "TCP"}
    return {
        "apiVersion": SERVICES.api_version,
        "kind": SERVICES.kind,
        "metadata": _metadata(run),
        "spec": {"selector": {LABEL_RUN: run.name}, "ports": [port]},
    }


def _budget(run: ResolvedRun) -> Manifest:
    """Nodes may be drained, one replica at a time; with `minAvailable` that of a single one never could."""
    return {
        "apiVersion": DISRUPTION_BUDGETS.api_version,
        "kind": DISRUPTION_BUDGETS.kind,
        "metadata": _metadata(run),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {LABEL_RUN: run.name}}},
    }


def _claims(run: ResolvedRun) -> list[Manifest]:
    if not run.spec.volumes:
        return []
    from gpuyard.workloads.volumes import claims  # Few services have any, and imports cost start-up time.

    return claims(run)
