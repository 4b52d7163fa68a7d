"""Services: headless ones, which give pods their names. This yard has no virtual addresses.

Sources: kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation` (ValidateService),
`pkg/registry/core/service/storage` (the families of addresses).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import SERVICES, Manifest
from gpuyard.local.objects.kinds.cells import AGE, NAME, NONE, joined
from gpuyard.local.objects.kinds.fields import check_one_of, duplicate, forbidden, invalid, required
from gpuyard.local.objects.kinds.kind import Column, FieldError, KindSpec, status_subresource

_HEADLESS = "None"
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MAX_PORT = 65_535


def _default(service: Manifest) -> None:
    spec = service.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port", 0))
    if spec.get("clusterIP") == _HEADLESS:
        spec.setdefault("clusterIPs", [_HEADLESS])
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    service.setdefault("status", {}).setdefault("loadBalancer", {})


def _validate(service: Manifest, old: Manifest | None) -> list[FieldError]:
    spec: Mapping[str, Any] = service.get("spec") or {}
    found = check_one_of("spec.type", spec.get("type", ""), _TYPES)
    found += check_one_of("spec.sessionAffinity", spec.get("sessionAffinity", ""), ("ClientIP", "None"))
    names: set[str] = set()
    ports = spec.get("ports") or ()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        number, name = port.get("port", 0), port.get("name", "")
        if not 1 <= number <= _MAX_PORT:
            found.append(invalid(f"{path}.port", number, "must be between 1 and 65535, inclusive"))
        found += check_one_of(f"{path}.protocol", port.get("protocol", ""), _PROTOCOLS)
        if len(ports) > 1 and not name:
            found.append(required(f"{path}.name"))
        if name and name in names:
            found.append(duplicate(f"{path}.name", name))
        names.add(name)
    if old is not None and (old.get("spec") or {}).get("clusterIP") != spec.get("clusterIP"):
        found.append(invalid("spec.clusterIPs[0]", spec.get("clusterIPs"), "may not change once set"))
    if not found and (spec.get("type") != "ClusterIP" or spec.get("clusterIP") != _HEADLESS):
        detail = "this yard serves headless Services (clusterIP: None), by which pods find one another"
        found.append(forbidden("spec.clusterIP", detail))
    return found


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
    validate=_validate,
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
