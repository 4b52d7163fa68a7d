"""Who scales a service, by what clusters say they have."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from gpuyard import errors
from gpuyard.client.api import ObjectList
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import Manifest, Resource
from gpuyard.runs.submitting.services.scalers import (
    ScalerChoice,
    ScalersThere,
    choose_scaler,
    find_scalers,
    prometheus_addresses,
)
from gpuyard.runs.target import Target
from gpuyard.workloads.resolved_run import Scaler
from gpuyard.workloads.serving.scaling_objects import POD_METRICS
from gpuyard.workloads.spec.service.values import LoadTarget, Measure, ServiceSpec

URL = "http://prometheus-server.monitoring.svc:80"
KEDA = ScalersThere(has_keda=True, prometheus=(URL,))


def wanted(measure: Measure, zero: bool = False) -> ServiceSpec:
    query = "up" if measure is Measure.QUERY else ""
    target = LoadTarget(measure, Decimal(4), query)
    return ServiceSpec(80, 1, 8, target=target, scale_to_zero=timedelta(minutes=5) if zero else None)


class Cluster:
    """Says what it serves."""

    def __init__(
        self, paths: dict[str, Any], services: dict[str, list[Manifest]], *, secret: bool = False
    ) -> None:
        self.paths, self.services, self.secret = paths, services, secret

    async def get_path(self, path: str) -> Manifest:
        if path not in self.paths:
            raise errors.NotFound(f"{path} not found")
        found: Manifest = self.paths[path]
        return found

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str
    ) -> ObjectList:
        if self.secret:
            raise errors.Forbidden("not for you")
        return ObjectList(self.services.get(label_selector, []), "1")


def prometheus(
    service: str = "prometheus-server", ip: str = "10.0.0.1", *, name: str = "http", port: int = 80
) -> Manifest:
    return {
        "metadata": {"name": service, "namespace": "monitoring"},
        "spec": {"clusterIP": ip, "ports": [{"name": name, "port": port}]},
    }


ADAPTER = {
    "/apis/custom.metrics.k8s.io": {"preferredVersion": {"version": "v1beta1"}},
    "/apis/custom.metrics.k8s.io/v1beta1": {
        "resources": [{"name": "pods/DCGM_FI_DEV_GPU_UTIL"}, {"name": "namespaces/x"}, {}]
    },
}
KNOWS_KEDA = {"/apis/keda.sh/v1alpha1": {"resources": [{"name": "scaledobjects"}]}}


async def found(cluster: Cluster, url: str = "") -> ScalersThere:
    return await find_scalers(Target(cast("RestApi", cluster), "team", is_yard=False), url)


async def test_a_bare_cluster_has_nothing() -> None:
    assert await found(Cluster({}, {})) == ScalersThere()


async def test_an_adapter_says_what_it_serves_for_pods() -> None:
    assert (await found(Cluster(ADAPTER, {}))).pod_metrics == {"DCGM_FI_DEV_GPU_UTIL"}


@pytest.mark.parametrize("answer", [{}, {"preferredVersion": {"version": "v1"}}])
async def test_an_adapter_that_is_broken_is_none(answer: Any) -> None:
    assert (await found(Cluster({"/apis/custom.metrics.k8s.io": answer}, {}))).pod_metrics == frozenset()


async def test_prometheus_is_looked_for_where_keda_is() -> None:
    services = {"app.kubernetes.io/name=prometheus": [prometheus()]}
    assert await found(Cluster(KNOWS_KEDA, services)) == KEDA
    assert (await found(Cluster({}, services))).prometheus == ()
    assert (await found(Cluster(KNOWS_KEDA, services), "http://mine")).prometheus == ("http://mine",)
    assert (await found(Cluster(KNOWS_KEDA, services, secret=True))).prometheus == ()


def test_a_headless_service_counts_where_there_is_no_other() -> None:
    operated = prometheus("prometheus-operated", "None", name="web", port=9090)
    whole = prometheus("prometheus-k8s", name="web", port=9090)
    without_port = prometheus("x", name="grpc", port=1)
    assert prometheus_addresses([operated]) == ["http://prometheus-operated.monitoring.svc:9090"]
    assert prometheus_addresses([operated, whole, without_port]) == [
        "http://prometheus-k8s.monitoring.svc:9090"
    ]


@pytest.mark.parametrize("measure", [Measure.QUERY, Measure.GPU_UTILIZATION])
def test_keda_asks_prometheus(measure: Measure) -> None:
    assert choose_scaler(wanted(measure), KEDA) == ScalerChoice(Scaler.KEDA, prometheus=URL)


@pytest.mark.parametrize("measure", POD_METRICS)
def test_an_adapter_is_asked_for_the_yard_s_names(measure: Measure) -> None:
    there = ScalersThere(frozenset({POD_METRICS[measure]}))
    assert choose_scaler(wanted(measure), there) == ScalerChoice(Scaler.ADAPTER, metric=POD_METRICS[measure])


def test_an_adapter_may_serve_dcgm_s_name() -> None:
    there = ScalersThere(frozenset({"DCGM_FI_DEV_GPU_UTIL"}), has_keda=True, prometheus=(URL,))
    assert choose_scaler(wanted(Measure.GPU_UTILIZATION), there).metric == "DCGM_FI_DEV_GPU_UTIL"


@pytest.mark.parametrize(
    ("service", "there", "said"),
    [
        (wanted(Measure.INFLIGHT), KEDA, "nobody on this cluster counts the requests"),
        (wanted(Measure.P99), ScalersThere(), "gpuyard_service_p99_seconds"),
        (wanted(Measure.QUERY), ScalersThere(), "KEDA isn't installed"),
        (wanted(Measure.GPU_UTILIZATION), ScalersThere(), "gpuyard_gpu_utilization or DCGM_FI_DEV_GPU_UTIL"),
        (wanted(Measure.QUERY), ScalersThere(has_keda=True), "no Service that you may see looks like one"),
        (wanted(Measure.QUERY), ScalersThere(has_keda=True, prometheus=("a", "b")), "Prometheus: a, b"),
        (wanted(Measure.P99, zero=True), ScalersThere(frozenset(POD_METRICS.values())), "no service to zero"),
    ],
)  # fmt: skip
def test_where_nobody_can_it_is_refused_with_a_remedy(
    service: ServiceSpec, there: ScalersThere, said: str
) -> None:
    with pytest.raises(errors.UsageError) as raised:
        choose_scaler(service, there)
    assert said in raised.value.message
    assert "--" in raised.value.remedy


def test_a_query_takes_it_to_zero() -> None:
    assert choose_scaler(wanted(Measure.QUERY, zero=True), KEDA).scaler is Scaler.KEDA
