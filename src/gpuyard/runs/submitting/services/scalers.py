"""What gives a service on a cluster as many replicas as its load needs: what there is, and the choice.

Nothing of gpuyard's is in the way of a cluster's requests, so who counts them is the cluster's affair: a
metrics adapter, or Prometheus with KEDA.
Sources: https://github.com/kubernetes/design-proposals-archive/blob/main/instrumentation/custom-metrics-api.md
(the list of resources of `custom.metrics.k8s.io` names `pods/METRIC`);
https://keda.sh/docs/2.21/scalers/prometheus/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.client.server_version import serves
from gpuyard.kube.objects import SCALED_OBJECTS, SERVICES, Manifest
from gpuyard.runs.target import Target
from gpuyard.workloads.resolved_run import Scaler
from gpuyard.workloads.serving.scaling_objects import POD_METRICS
from gpuyard.workloads.spec.service.values import Measure, ServiceSpec

_ADAPTER = "/apis/custom.metrics.k8s.io"
#: What an adapter in front of dcgm-exporter or of gpuyard's agent serves for pods, without further rules.
_DCGM_UTILIZATION = "DCGM_FI_DEV_GPU_UTIL"
#: How charts and operators mark the Service of a Prometheus; the first that finds one counts.
_PROMETHEUS_LABELS = (
    "app.kubernetes.io/name=prometheus",
    "app=kube-prometheus-stack-prometheus",
    "operated-prometheus=true",
)
_PROMETHEUS_PORT = 9090
_PORT_NAMES = ("web", "http-web", "http")


@dataclass(frozen=True)
class ScalersThere:
    """What a cluster has.

    Attributes:
        pod_metrics: names that an adapter serves for pods.
        has_keda: whether ScaledObjects are known.
        prometheus: addresses where one seems to answer.
    """

    pod_metrics: frozenset[str] = frozenset()
    has_keda: bool = False
    prometheus: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScalerChoice:
    """Who scales a service: see the fields of `ResolvedService`; `said` is what its user is told."""

    scaler: Scaler
    metric: str = ""
    prometheus: str = ""
    said: str = field(default="", compare=False)


async def find_scalers(target: Target, prometheus: str) -> ScalersThere:
    """Asks the cluster.

    Args:
        target: no yard.
        prometheus: the address that its user gave; empty to look for one.
    """
    metrics, has_keda = await asyncio.gather(_pod_metrics(target), serves(target.api, SCALED_OBJECTS))
    found = (prometheus,) if prometheus else await _prometheus(target) if has_keda else ()
    return ScalersThere(metrics, has_keda, tuple(found))


async def _pod_metrics(target: Target) -> frozenset[str]:
    """None where no adapter is registered, or the one that is doesn't answer."""
    try:
        group = await target.api.get_path(_ADAPTER)
        version = (group.get("preferredVersion") or {})["version"]
        listed = await target.api.get_path(f"{_ADAPTER}/{version}")
    except (errors.ApiError, KeyError):
        return frozenset()
    names = [str(resource.get("name", "")) for resource in listed.get("resources") or ()]
    return frozenset(name.removeprefix("pods/") for name in names if name.startswith("pods/"))


async def _prometheus(target: Target) -> list[str]:
    for selector in _PROMETHEUS_LABELS:
        try:
            services = (await target.api.list(SERVICES, label_selector=selector)).items
        except errors.Forbidden:
            return []
        if addresses := prometheus_addresses(services):
            return addresses
    return []


def prometheus_addresses(services: Iterable[Manifest]) -> list[str]:
    """Of the Services that may be one; a headless one counts where there is no other."""
    found = [(s, address) for s in services if (address := _address(s))]
    whole = [address for service, address in found if service["spec"].get("clusterIP") != "None"]
    return sorted(whole or [address for _, address in found])


def _address(service: Manifest) -> str:
    ports: list[Mapping[str, object]] = service["spec"].get("ports") or []
    by_number = [port for port in ports if port.get("port") == _PROMETHEUS_PORT]
    by_name = [port for port in ports if port.get("name") in _PORT_NAMES]
    chosen = next(iter([*by_number, *by_name]), None)
    if chosen is None:
        return ""
    metadata = service["metadata"]
    return f"http://{metadata['name']}.{metadata['namespace']}.svc:{chosen['port']}"


def choose_scaler(service: ServiceSpec, there: ScalersThere) -> ScalerChoice:
    """Who is to scale it.

    Raises:
        UsageError: nobody there can.
    """
    assert service.target is not None
    measure, to_zero = service.target.measure, service.scale_to_zero is not None
    names = [POD_METRICS[measure]] if measure in POD_METRICS else []
    names += [_DCGM_UTILIZATION] if measure is Measure.GPU_UTILIZATION else []
    served = next((name for name in names if name in there.pod_metrics), "")
    if served and not to_zero:
        said = f"a HorizontalPodAutoscaler scales it by {served}, which the cluster's metrics adapter serves"
        return ScalerChoice(Scaler.ADAPTER, metric=served, said=said)
    if measure not in (Measure.QUERY, Measure.GPU_UTILIZATION):
        raise _nobody_counts(measure, to_zero=bool(served))
    if not there.has_keda:
        raise errors.UsageError(
            "nothing on this cluster can scale a service by Prometheus: KEDA isn't installed"
            + (f", and no metrics adapter serves {' or '.join(names)} for pods" if names else ""),
            remedy="install KEDA (https://keda.sh); " + advice("or say how many replicas: --replicas 3"),
        )
    if len(there.prometheus) != 1:
        several = ", ".join(there.prometheus)
        raise errors.UsageError(
            f"several Services look like Prometheus: {several}"
            if several
            else "KEDA asks Prometheus, and no Service that you may see looks like one",
            remedy=advice(
                "say its address, as the cluster reaches it: --prometheus http://NAME.NAMESPACE.svc:9090"
            ),
        )
    [address] = there.prometheus
    said = f"KEDA scales it by what Prometheus at {address} answers"
    return ScalerChoice(Scaler.KEDA, prometheus=address, said=said)


def _nobody_counts(measure: Measure, *, to_zero: bool) -> errors.UsageError:
    remedy = advice(
        "have Prometheus count them where they pass, and write target.query with value: "
        "--target-query 'sum(…)' --target-value 4; or say how many replicas: --replicas 3"
    )
    if to_zero:
        said = "a HorizontalPodAutoscaler takes no service to zero; only KEDA does, by a query of Prometheus"
        return errors.UsageError(said, remedy=remedy)
    name = POD_METRICS[measure]
    return errors.UsageError(
        f"nobody on this cluster counts the requests of a service: no metrics adapter serves {name} for pods",
        remedy=remedy,
    )
