"""EndpointSlices: which pods are behind a Service.

Sources: kubernetes `pkg/apis/discovery/v1/defaults.go`, `pkg/apis/discovery/validation`,
`pkg/registry/discovery/endpointslice/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

from gpuyard.kube.names import is_subdomain
from gpuyard.kube.objects import ENDPOINT_SLICES, Manifest, labels_of
from gpuyard.local.objects.kinds.cells import AGE, NAME
from gpuyard.local.objects.kinds.fields import (
    check_at_most,
    check_immutable,
    check_key,
    check_label_name,
    check_one_of,
    check_subdomain_name,
    duplicate,
    invalid,
    required,
)
from gpuyard.local.objects.kinds.kind import Column, FieldError, KindSpec

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS = 1_000, 100, 20_000
#: So many a cell shows.
_SHOWN = 3
_IP_RULE = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def _default(endpoint_slice: Manifest) -> None:
    for port in endpoint_slice.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")
    for endpoint in endpoint_slice.get("endpoints") or ():
        # Of older versions of the API; what is written there is dropped.
        endpoint.pop("deprecatedTopology", None)
        endpoint.setdefault("conditions", {})


def _prepare_update(endpoint_slice: Manifest, old: Manifest) -> None:
    if _content(endpoint_slice) != _content(old):
        endpoint_slice["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _content(endpoint_slice: Manifest) -> tuple[Any, ...]:
    """All whose changes count."""
    fields = ("addressType", "endpoints", "ports")
    return labels_of(endpoint_slice), *(endpoint_slice.get(field) or None for field in fields)


def _validate(endpoint_slice: Manifest, old: Manifest | None) -> list[FieldError]:
    address_type = endpoint_slice.get("addressType", "")
    found = check_one_of("addressType", address_type, _ADDRESS_TYPES)
    found += _validate_ports(endpoint_slice.get("ports") or [])
    endpoints = endpoint_slice.get("endpoints") or []
    if crowd := check_at_most("endpoints", endpoints, _MAX_ENDPOINTS):
        found += crowd
    else:
        for index, endpoint in enumerate(endpoints):
            found += _validate_endpoint(f"endpoints[{index}]", endpoint, address_type)
    if old is not None:
        found += check_immutable("", endpoint_slice, old, "addressType")
    return found


def _validate_ports(ports: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    if crowd := check_at_most("ports", ports, _MAX_PORTS):
        return crowd
    found: list[FieldError] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"ports[{index}]", port.get("name", "")
        if name:
            found += check_label_name(f"{path}.name", name)
        if name in names:
            found.append(duplicate(f"{path}.name", name))
        names.add(name)
        found += check_one_of(f"{path}.protocol", port.get("protocol", ""), _PROTOCOLS)
        if "appProtocol" in port:
            found += check_key(f"{path}.appProtocol", port["appProtocol"])
    return found


def _validate_endpoint(path: str, endpoint: Mapping[str, Any], address_type: str) -> list[FieldError]:
    addresses = endpoint.get("addresses") or []
    place = f"{path}.addresses"
    found = check_at_most(place, addresses, _MAX_ADDRESSES)
    if not addresses:
        found.append(required(place))
    for index, address in enumerate(addresses):
        found += _validate_address(place, index, address, address_type)
    if node := endpoint.get("nodeName"):
        found += check_subdomain_name(f"{path}.nodeName", node)
    if host := endpoint.get("hostname"):
        found += check_label_name(f"{path}.hostname", host)
    return found


def _validate_address(path: str, index: int, address: str, address_type: str) -> list[FieldError]:
    """An address of its type. Loopback addresses are those of a yard's pods; a cluster refuses them."""
    place = f"{path}[{index}]"
    if address_type == "FQDN":
        if is_subdomain(address.removesuffix(".")) and "." in address:
            return []
        return [invalid(place, address, "should be a domain with at least two segments separated by dots")]
    family = _family_of(address)
    if not family:
        return [invalid(place, address, _IP_RULE)]
    if family != address_type and address_type in ("IPv4", "IPv6"):
        return [invalid(path, address, f"must be an {address_type} address")]
    return []


def _family_of(address: str) -> str:
    """IPv4 or IPv6; empty for what is no address."""
    families: dict[str, type[IPv4Address] | type[IPv6Address]] = {"IPv4": IPv4Address, "IPv6": IPv6Address}
    for name, parse in families.items():
        try:
            parse(address)
        except AddressValueError:
            continue
        return name
    return ""


def _ports(endpoint_slice: Manifest, _now: datetime) -> str:
    ports = endpoint_slice.get("ports") or ()
    return _some([str(port.get("port") or port.get("name") or "") for port in ports])


def _endpoints(endpoint_slice: Manifest, _now: datetime) -> str:
    endpoints = endpoint_slice.get("endpoints") or ()
    return _some([address for endpoint in endpoints for address in endpoint.get("addresses") or ()])


def _some(texts: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(texts) - _SHOWN
    shown = ",".join(texts[:_SHOWN])
    return f"{shown} + {more} more..." if more > 0 else shown or "<unset>"


ENDPOINT_SLICE = KindSpec(
    resource=ENDPOINT_SLICES,
    default=_default,
    validate=_validate,
    prepare_update=_prepare_update,
    columns=(
        NAME,
        Column("AddressType", lambda one, _now: one.get("addressType", "")),
        Column("Ports", _ports),
        Column("Endpoints", _endpoints),
        AGE,
    ),
    has_generation=True,
)
