"""Rules of Services: Kubernetes' own, and what a yard doesn't serve.

Sources: kubernetes `pkg/apis/core/validation/validation.go` (validateService, ValidateServiceUpdate),
`pkg/registry/core/service/storage/alloc.go` (initIPFamilyFields).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.local.objects.kinds.fields import (
    check_key,
    check_label_name,
    check_labels,
    check_one_of,
    check_port,
    check_port_number,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import FieldError
from gpuyard.local.objects.kinds.service_addresses import (
    HEADLESS,
    IPV4,
    IPV6,
    SINGLE_STACK,
    check_range,
    family_of,
    is_headless,
)

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_FAMILIES = (IPV4, IPV6)
_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_MAX_AFFINITY_S = 86_400
_FOR_LOAD_BALANCERS = "may only be used when `type` is 'LoadBalancer'"
_HEALTH_CHECK_RULE = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"


def validate_service(service: Manifest, old: Manifest | None) -> list[FieldError]:
    """Broken rules of a Service, against the one that it replaces when that isn't None."""
    spec: Mapping[str, Any] = service.get("spec") or {}
    found = check_one_of("spec.type", spec.get("type", ""), _TYPES)
    if not found and spec["type"] != "ClusterIP":
        return [forbidden("spec.type", _ONLY_CLUSTER_IP)]
    found += _validate_ports(spec) + check_labels("spec.selector", spec.get("selector") or {})
    found += _validate_affinity(spec) + _validate_traffic(spec)
    wrong = _validate_addresses(spec)
    if old is not None:
        wrong += _validate_change(spec, old.get("spec") or {})
    elif not wrong:
        wrong += check_range(spec)
    found += wrong
    return found or _not_served(spec)


def _validate_ports(spec: Mapping[str, Any]) -> list[FieldError]:
    ports: Sequence[Mapping[str, Any]] = spec.get("ports") or ()
    if not ports and not is_headless(spec):
        return [required("spec.ports")]
    found: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        found += _validate_port(f"spec.ports[{index}]", port, names, needs_name=len(ports) > 1)
    for index, port in enumerate(ports):
        if port.get("nodePort"):
            detail = "may not be used when `type` is 'ClusterIP'"
            found.append(forbidden(f"spec.ports[{index}].nodePort", detail))
    numbers: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        number = (port.get("protocol", ""), port.get("port", 0))
        if number in numbers:
            found.append(duplicate(f"spec.ports[{index}]", _as_go_has_it(*number)))
        numbers.add(number)
    return found


def _validate_port(path: str, port: Mapping[str, Any], names: set[str], needs_name: bool) -> list[FieldError]:
    """Rules of one port; `names` collects those of the ports before it."""
    found: list[FieldError] = []
    if name := port.get("name", ""):
        found += check_label_name(f"{path}.name", name)
        if name in names:
            found.append(duplicate(f"{path}.name", name))
        names.add(name)
    elif needs_name:
        found.append(required(f"{path}.name"))
    found += check_port_number(f"{path}.port", port.get("port", 0))
    found += check_one_of(f"{path}.protocol", port.get("protocol", ""), _PROTOCOLS)
    found += check_port(f"{path}.targetPort", port.get("targetPort", 0))
    if "appProtocol" in port:
        found += check_key(f"{path}.appProtocol", port["appProtocol"])
    return found


def _as_go_has_it(protocol: str, port: int) -> dict[str, Any]:
    """The port as Kubernetes' message about a duplicate shows it."""
    return {
        "Name": "", "Protocol": protocol, "AppProtocol": None, "Port": port, "TargetPort": 0, "NodePort": 0
    }  # fmt: skip


def _validate_affinity(spec: Mapping[str, Any]) -> list[FieldError]:
    affinity = spec.get("sessionAffinity", "")
    found = check_one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    if affinity == "ClientIP":
        seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds", 0)
        if not 0 < seconds <= _MAX_AFFINITY_S:
            path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            found.append(invalid(path, seconds, f"must be greater than 0 and less than {_MAX_AFFINITY_S}"))
    return found


def _validate_traffic(spec: Mapping[str, Any]) -> list[FieldError]:
    """Where requests go; most of it is for load balancers."""
    found: list[FieldError] = []
    if spec.get("loadBalancerSourceRanges"):
        found.append(forbidden("spec.LoadBalancerSourceRanges", _FOR_LOAD_BALANCERS))
    found += [
        forbidden(f"spec.{name}", _FOR_LOAD_BALANCERS)
        for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass")
        if spec.get(name) is not None
    ]
    if policy := spec.get("externalTrafficPolicy"):
        detail = "may only be set for externally-accessible services"
        found.append(invalid("spec.externalTrafficPolicy", policy, detail))
    if port := spec.get("healthCheckNodePort"):
        found.append(invalid("spec.healthCheckNodePort", port, _HEALTH_CHECK_RULE))
    policy, places = spec.get("internalTrafficPolicy"), ("Cluster", "Local")
    if policy not in places:
        found.append(unsupported("spec.internalTrafficPolicy", policy, places))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        found.append(unsupported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))
    return found


def _validate_addresses(spec: Mapping[str, Any]) -> list[FieldError]:
    """The linked fields clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy."""
    address, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    path, found = "spec.clusterIPs", []
    if address and addresses[:1] != [address]:
        found.append(invalid(path, addresses, "first value must match `clusterIP`"))
    elif addresses and not address:
        found.append(invalid(path, addresses, "must be empty when `clusterIP` is not specified"))
    found += _validate_families(spec)
    if HEADLESS in addresses[:1] and len(addresses) > 1:
        found.append(invalid(path, addresses, "'None' must be the first and only value"))
    for index, one in enumerate(addresses):
        if not (index == 0 and one == HEADLESS) and not _is_address(one):
            detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            found.append(invalid(f"{path}[{index}]", one, detail))
    if len(addresses) > 2:
        found.append(invalid(path, addresses, "may only hold up to 2 values"))
    if not found and len(addresses) == 2 and len({family_of(one) for one in addresses}) == 1:
        found.append(invalid(path, addresses, "may specify no more than one IP for each IP family"))
    if not found and len(addresses) == 2 and spec.get("ipFamilyPolicy") == SINGLE_STACK:
        detail = "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"
        found.append(invalid("spec.ipFamilyPolicy", SINGLE_STACK, detail))
    return found


def _validate_families(spec: Mapping[str, Any]) -> list[FieldError]:
    """Which there are, and which this yard has: IPv4 alone, but for Services that it does nothing for."""
    path, families = "spec.ipFamilies", spec.get("ipFamilies") or []
    policy = spec.get("ipFamilyPolicy")
    found: list[FieldError] = []
    for index, family in enumerate(families):
        if family not in _FAMILIES:
            found.append(unsupported(f"{path}[{index}]", family, _FAMILIES))
        if family in families[:index]:
            found.append(duplicate(f"{path}[{index}]", family))
    if policy not in _POLICIES:
        found.append(unsupported("spec.ipFamilyPolicy", policy, _POLICIES))
    if found or (is_headless(spec) and not spec.get("selector")):
        return found
    if policy == SINGLE_STACK and len(families) == 2:
        detail = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"
        return [invalid("spec.ipFamilyPolicy", policy, detail)]
    if policy == "RequireDualStack":
        detail = "this cluster is not configured for dual-stack services"
        found.append(invalid("spec.ipFamilyPolicy", policy, detail))
    for index, family in enumerate(families):
        if family != IPV4:
            found.append(invalid(f"{path}[{index}]", family, "not configured on this cluster"))
    return found


def _validate_change(spec: Mapping[str, Any], old: Mapping[str, Any]) -> list[FieldError]:
    """An address is for good, and so is having none."""
    before, after = old.get("clusterIPs") or [], spec.get("clusterIPs") or []
    if before[:1] == after[:1]:
        return []
    return [invalid("spec.clusterIPs[0]", after, "may not change once set")]


_ONLY_CLUSTER_IP = (
    "this yard serves Services of type ClusterIP, with an address of this machine that other machines don't "
    "reach, or headless"
)


def _not_served(spec: Mapping[str, Any]) -> list[FieldError]:
    """What a cluster does and a yard's proxies don't."""
    if spec.get("externalIPs"):
        return [forbidden("spec.externalIPs", "this yard takes no requests from other machines")]
    if is_headless(spec):
        return []
    found = [
        forbidden(f"spec.ports[{index}].protocol", "this yard passes on TCP: use it, or a headless Service")
        for index, port in enumerate(spec.get("ports") or ())
        if port["protocol"] != "TCP"
    ]
    if spec.get("sessionAffinity") != "None":
        detail = "all clients of a yard have this machine's address, by which none can be told from another"
        found.append(forbidden("spec.sessionAffinity", detail))
    return found


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
