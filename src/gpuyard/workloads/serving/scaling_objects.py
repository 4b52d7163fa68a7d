"""What gives a service as many replicas as its load needs: a HorizontalPodAutoscaler, or KEDA's ScaledObject,
which makes one (pure).

Sources: autoscaling/v2; https://keda.sh/docs/2.21/reference/scaledobject-spec/ and its Prometheus scaler.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gpuyard.kube.objects import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS, Manifest
from gpuyard.kube.wellknown import (
    ANNOTATION_SCALE_TO_ZERO,
    LABEL_RUN,
    METRIC_GPU_UTILIZATION,
    METRIC_IN_FLIGHT,
    METRIC_P99,
    METRIC_REQUESTS_PER_SECOND,
)
from gpuyard.workloads.resolved_run import ResolvedRun, ResolvedService, Scaler
from gpuyard.workloads.spec.service.values import LoadTarget, Measure, ServiceSpec
from gpuyard.workloads.spec.time_spans import format_span

#: What a yard's autoscaler reads, and a metrics adapter may serve for pods under the same names.
POD_METRICS: Mapping[Measure, str] = {
    Measure.INFLIGHT: METRIC_IN_FLIGHT,
    Measure.REQUESTS_PER_SECOND: METRIC_REQUESTS_PER_SECOND,
    Measure.GPU_UTILIZATION: METRIC_GPU_UTILIZATION,
    Measure.P99: METRIC_P99,
}
#: How often KEDA asks Prometheus, as often as Kubernetes looks at metrics.
_POLLING_S = 15


def scaling_object(run: ResolvedRun, service: ServiceSpec, decided: ResolvedService) -> Manifest | None:
    """Of a service whose load decides; None for a fixed number of replicas."""
    if decided.scaler is None or service.target is None:
        return None
    resource = SCALED_OBJECTS if decided.scaler is Scaler.KEDA else AUTOSCALERS
    metadata: dict[str, Any] = {"name": run.name, "namespace": run.namespace, "labels": {LABEL_RUN: run.name}}
    if decided.scaler is Scaler.KEDA:
        spec = _scaled_object(run, service, service.target, decided.prometheus)
    else:
        spec = _autoscaler(run, service, service.target, decided.metric)
        if service.scale_to_zero is not None:
            metadata["annotations"] = {ANNOTATION_SCALE_TO_ZERO: format_span(service.scale_to_zero)}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "spec": spec,
    }


def _scaled(run: ResolvedRun) -> dict[str, str]:
    return {"apiVersion": DEPLOYMENTS.api_version, "kind": DEPLOYMENTS.kind, "name": run.name}


def _least(service: ServiceSpec) -> int:
    return 0 if service.scale_to_zero is not None else service.least


def _autoscaler(run: ResolvedRun, service: ServiceSpec, target: LoadTarget, metric: str) -> dict[str, Any]:
    name = metric or POD_METRICS[target.measure]
    value = {"type": "AverageValue", "averageValue": as_quantity(target.amount)}
    return {
        "scaleTargetRef": _scaled(run),
        "minReplicas": _least(service),
        "maxReplicas": service.most,
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": name}, "target": value}}],
    }


def _scaled_object(
    run: ResolvedRun, service: ServiceSpec, target: LoadTarget, prometheus: str
) -> dict[str, Any]:
    zero = service.scale_to_zero
    per_replica = target.amount
    if target.measure is Measure.GPU_UTILIZATION:
        # The query adds up all GPUs, of which a replica may have several.
        per_replica *= max(run.spec.gpus.count, 1)
    trigger = {
        "type": "prometheus",
        "metadata": {
            "serverAddress": prometheus,
            "query": target.query or gpu_utilization_query(run),
            "threshold": format(per_replica.normalize(), "f"),
        },
    }
    return {
        "scaleTargetRef": _scaled(run),
        "minReplicaCount": _least(service),
        "maxReplicaCount": service.most,
        "pollingInterval": _POLLING_S,
        **({"cooldownPeriod": int(zero.total_seconds())} if zero is not None else {}),
        "triggers": [trigger],
    }


def gpu_utilization_query(run: ResolvedRun) -> str:
    """PromQL for what the GPUs of all replicas do, in percent, added up. The metric is the agent's, which has
    dcgm-exporter's name and labels. A pod's name is its Deployment's with two words behind."""
    pods = re.escape(run.name).replace("\\-", "-") + "-[a-z0-9]+-[a-z0-9]+"
    return f'sum(DCGM_FI_DEV_GPU_UTIL{{namespace="{run.namespace}",pod=~"{pods}"}})'


def as_quantity(amount: Decimal) -> str:
    """As Kubernetes writes it: 4, 800m."""
    whole = amount == amount.to_integral_value()
    return str(int(amount)) if whole else f"{int(amount * 1000)}m"
