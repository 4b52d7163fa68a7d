"""What a proxy knows of its Service: where it listens, and which replicas are ready (pure).

Source: kubernetes `pkg/proxy/endpointslicecache.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gpuyard.kube.objects import Manifest, uid_of

_HEADLESS = "None"
_TCP = "TCP"
_IPV4 = "IPv4"
_MAX_PORT = 65_535


class ServiceReplica(NamedTuple):
    """One pod that serves, at one of its ports."""

    name: str
    host: str
    port: int


class ServicePort(NamedTuple):
    """One port of a Service; `name` is empty where it has only one."""

    name: str
    number: int


@dataclass(frozen=True)
class Endpoints:
    """Where a Service listens.

    Attributes:
        uid: a Service made again under the same name is another one.
        address: empty for one without a virtual address, which needs no proxy.
    """

    uid: str
    address: str
    ports: tuple[ServicePort, ...]

    @classmethod
    def of(cls, service: Manifest) -> Endpoints:
        """Those of a Service; ports of other protocols than TCP are left out."""
        spec: Mapping[str, Any] = service.get("spec") or {}
        address = spec.get("clusterIP") or ""
        ports = tuple(
            ServicePort(port.get("name") or "", int(port["port"]))
            for port in spec.get("ports") or ()
            if port.get("protocol", _TCP) == _TCP
        )
        return cls(uid_of(service), "" if address == _HEADLESS else address, ports)


def ready_replicas(slices: Iterable[Manifest], port: str) -> frozenset[ServiceReplica]:
    """Those that may get new requests at the Service's port of this name.

    A condition that isn't told counts as true, as the API says. Slices may be a user's own: what can't be
    connected to is left out.
    """
    found = set()
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType") != _IPV4:
            continue
        numbers = [
            one["port"]
            for one in endpoint_slice.get("ports") or ()
            if (one.get("name") or "") == port
            and _is_port(one.get("port"))
            and one.get("protocol", _TCP) == _TCP
        ]
        for endpoint in endpoint_slice.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready", True) is False:
                continue
            for address in (endpoint.get("addresses") or ())[:1]:
                name = (endpoint.get("targetRef") or {}).get("name") or address
                found |= {ServiceReplica(name, address, number) for number in numbers}
    return frozenset(found)


def _is_port(number: object) -> bool:
    return isinstance(number, int) and 1 <= number <= _MAX_PORT
