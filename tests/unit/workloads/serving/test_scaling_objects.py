"""What scales a service, by what is there for it."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.objects import Manifest
from gpuyard.kube.quantity import parse_quantity
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun, ResolvedService, Scaler
from gpuyard.workloads.serving.scaling_objects import POD_METRICS, as_quantity, gpu_utilization_query
from gpuyard.workloads.spec.gpu_request import GpuRequest
from gpuyard.workloads.spec.run_spec import RunSpec
from gpuyard.workloads.spec.service.values import LoadTarget, Measure, ServiceSpec

PROMETHEUS = "http://prometheus.monitoring.svc:9090"


def resolved(
    target: LoadTarget, scaler: Scaler, zero: timedelta | None = None, **decided: str
) -> ResolvedRun:
    service = ServiceSpec(8000, 1, 8, target=target, scale_to_zero=zero)
    spec = RunSpec(run="serve.py", image="i", gpus=GpuRequest(2), service=service)
    return ResolvedRun(
        spec, "my-model", "team", image="i", service=ResolvedService(5, scaler=scaler, **decided)
    )


def scaler_of(run: ResolvedRun) -> Manifest:
    kinds = ("HorizontalPodAutoscaler", "ScaledObject")
    [found] = [manifest for manifest in render(run) if manifest["kind"] in kinds]
    return found


@pytest.mark.parametrize("measure", POD_METRICS)
def test_a_yard_scales_by_what_its_proxy_and_its_gpus_say(measure: Measure) -> None:
    spec = scaler_of(resolved(LoadTarget(measure, Decimal("0.5")), Scaler.YARD))["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "my-model"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 8)
    [metric] = spec["metrics"]
    assert metric["pods"] == {
        "metric": {"name": POD_METRICS[measure]},
        "target": {"type": "AverageValue", "averageValue": "500m"},
    }


def test_an_adapter_may_have_a_name_of_its_own() -> None:
    target = LoadTarget(Measure.GPU_UTILIZATION, Decimal(70))
    [metric] = scaler_of(resolved(target, Scaler.ADAPTER, metric="DCGM_FI_DEV_GPU_UTIL"))["spec"]["metrics"]
    assert metric["pods"]["metric"] == {"name": "DCGM_FI_DEV_GPU_UTIL"}


def test_keda_adds_up_all_gpus() -> None:
    target = LoadTarget(Measure.GPU_UTILIZATION, Decimal(70))
    spec = scaler_of(resolved(target, Scaler.KEDA, prometheus=PROMETHEUS))["spec"]
    [trigger] = spec["triggers"]
    assert trigger["metadata"] == {
        "serverAddress": PROMETHEUS,
        "query": 'sum(DCGM_FI_DEV_GPU_UTIL{namespace="team",pod=~"my-model-[a-z0-9]+-[a-z0-9]+"})',
        "threshold": "140",
    }
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 8)
    assert "cooldownPeriod" not in spec


def test_keda_goes_to_zero() -> None:
    target = LoadTarget(Measure.QUERY, Decimal("2.50"), "sum(rate(requests_total[1m]))")
    run = resolved(target, Scaler.KEDA, timedelta(minutes=15), prometheus=PROMETHEUS)
    spec = scaler_of(run)["spec"]
    assert (spec["minReplicaCount"], spec["cooldownPeriod"]) == (0, 900)
    assert spec["triggers"][0]["metadata"]["query"] == "sum(rate(requests_total[1m]))"
    assert spec["triggers"][0]["metadata"]["threshold"] == "2.5"


def test_the_query_is_for_this_service_s_pods_alone() -> None:
    run = resolved(LoadTarget(Measure.GPU_UTILIZATION, Decimal(70)), Scaler.KEDA)
    pattern = re.search(r'pod=~"([^"]+)"', gpu_utilization_query(run))
    assert pattern is not None
    # Prometheus anchors patterns at both ends.
    assert re.fullmatch(pattern[1], "my-model-7c5ddbdf54-x7k2q")
    assert not re.fullmatch(pattern[1], "my-model-two-7c5ddbdf54-x7k2q")


def test_a_fixed_number_needs_nobody() -> None:
    run = resolved(LoadTarget(Measure.INFLIGHT, Decimal(1)), Scaler.YARD)
    assert run.service is not None
    fixed: dict[str, Any] = {"spec": dataclasses.replace(run.spec, service=ServiceSpec(8000, 3, 3))}
    decided = dataclasses.replace(run.service, scaler=None)
    kinds = [one["kind"] for one in render(dataclasses.replace(run, service=decided, **fixed))]
    assert kinds == ["ConfigMap", "Service", "PodDisruptionBudget", "Deployment"]


@given(st.decimals("0.001", 10**9, places=3))
def test_amounts_are_quantities(amount: Decimal) -> None:
    assert parse_quantity(as_quantity(amount)) == amount
