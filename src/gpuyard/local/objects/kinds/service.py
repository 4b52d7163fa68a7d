"""Services: with an address of this machine, behind which its pods are, or headless.

Sources: kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/registry/core/service/strategy.go`.
"""

from __future__ import annotations

from datetime import datetime

from gpuyard.kube.objects import SERVICES, Manifest
from gpuyard.local.objects.kinds.cells import AGE, NAME, NONE, joined
from gpuyard.local.objects.kinds.kind import Column, CreateContext, KindSpec, status_subresource
from gpuyard.local.objects.kinds.service_addresses import allocate_address, complete_addresses
from gpuyard.local.objects.kinds.service_rules import validate_service

_AFFINITY_S = 10_800


def _default(service: Manifest) -> None:
    spec = service.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    affinity = spec.setdefault("sessionAffinity", "None")
    if affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    elif affinity == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        seconds = client.get("timeoutSeconds", _AFFINITY_S)
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": seconds}}
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port["targetPort"] = port.get("targetPort") or port.get("port", 0)
    service.setdefault("status", {}).setdefault("loadBalancer", {})


def _prepare_create(service: Manifest, _context: CreateContext) -> None:
    service["status"] = {"loadBalancer": {}}
    complete_addresses(service["spec"], {})


def _prepare_update(service: Manifest, old: Manifest) -> None:
    complete_addresses(service["spec"], old.get("spec") or {})


def _ports(service: Manifest, _now: datetime) -> str:
    ports = (service.get("spec") or {}).get("ports") or ()
    return joined([f"{port.get('port')}/{port.get('protocol')}" for port in ports])


def _selector(service: Manifest, _now: datetime) -> str:
    selector = (service.get("spec") or {}).get("selector") or {}
    return joined([f"{key}={value}" for key, value in sorted(selector.items())])


SERVICE = KindSpec(
    resource=SERVICES,
    short_names=("svc",),
    categories=("all",),
    default=_default,
    validate=validate_service,
    prepare_create=_prepare_create,
    prepare_update=_prepare_update,
    allocate=allocate_address,
    columns=(
        NAME,
        Column("Type", lambda service, _now: (service.get("spec") or {}).get("type", "")),
        Column("Cluster-IP", lambda service, _now: (service.get("spec") or {}).get("clusterIP", NONE)),
        Column("External-IP", lambda _service, _now: NONE),
        Column("Port(s)", _ports),
        AGE,
        Column("Selector", _selector, priority=1),
    ),
    selectable_fields=frozenset(("spec.clusterIP", "spec.type")),
    subresources=(status_subresource(SERVICES),),
    name_is_subdomain=False,
)
