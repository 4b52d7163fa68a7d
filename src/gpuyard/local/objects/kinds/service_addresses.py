"""The addresses of Services: which one a new Service gets, and what follows from it (pure).

They are addresses of the loopback network, which every Linux machine has all of, so that `address:port` works
on a yard as on a cluster and no Service is in another's way.

Sources: kubernetes `pkg/registry/core/service/storage` (alloc.go, storage.go) and `ipallocator`.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.local.objects.kinds.fields import invalid
from gpuyard.local.objects.kinds.kind import FieldError

HEADLESS = "None"
NETWORK = IPv4Network("127.96.0.0/16")
SINGLE_STACK, DUAL_STACK = "SingleStack", "RequireDualStack"
IPV4, IPV6 = "IPv4", "IPv6"


def is_headless(spec: Mapping[str, Any]) -> bool:
    """Whether the Service has names instead of an address."""
    return list(spec.get("clusterIPs") or ()) == [HEADLESS]


def complete_addresses(spec: dict[str, Any], old: Mapping[str, Any]) -> None:
    """Fills in what a client may leave out: an address is kept, families follow from it.

    Args:
        spec: of the Service, changed in place.
        old: the spec that it replaces; empty for a new Service.
    """
    for name in ("clusterIP", "clusterIPs"):
        if not spec.get(name) and old.get(name):
            spec[name] = old[name]
    changed = spec.get("clusterIP") != old.get("clusterIP")
    if (
        changed
        and spec.get("clusterIP")
        and (spec.get("clusterIPs") or None) in (None, old.get("clusterIPs"))
    ):
        # A client that knows the one field alone means both.
        spec["clusterIPs"] = [spec["clusterIP"]]
    # Nobody but its owner knows what a headless Service without a selector is for.
    is_free = is_headless(spec) and not spec.get("selector")
    policy = spec.setdefault(
        "ipFamilyPolicy", old.get("ipFamilyPolicy") or (DUAL_STACK if is_free else SINGLE_STACK)
    )
    families = spec.get("ipFamilies") or [family_of(spec.get("clusterIP", ""))]
    if is_free and len(families) == 1 and policy != SINGLE_STACK:
        families = [*families, IPV6 if families == [IPV4] else IPV4]
    spec["ipFamilies"] = families


def allocate_address(
    service: Manifest, others: Iterable[Manifest], rng: random.Random
) -> Iterable[FieldError]:
    """Gives a new Service an address that no other has, or says what keeps it from the one it asks for."""
    spec = service["spec"]
    wanted = spec.get("clusterIP")
    if wanted == HEADLESS:
        return ()
    taken = {ip for other in others for ip in (other.get("spec") or {}).get("clusterIPs") or ()}
    if wanted:
        return [_not_allocated(spec, "provided IP is already allocated")] if wanted in taken else ()
    address = free_address(taken, rng)
    if address is None:
        return [_not_allocated(spec, "range is full")]
    spec["clusterIP"], spec["clusterIPs"] = address, [address]
    return ()


def free_address(taken: Collection[str], rng: random.Random) -> str | None:
    """The first that nobody has, from a random one on; None when there is none.

    A random one, so that an address that somebody has noted down isn't another Service's soon.
    """
    count = NETWORK.num_addresses - 2
    start = rng.randrange(count)
    for step in range(count):
        address = str(NETWORK[1 + (start + step) % count])
        if address not in taken:
            return address
    return None


def check_range(spec: Mapping[str, Any]) -> list[FieldError]:
    """An address that a user asks for is one of those that Services have."""
    wanted = spec.get("clusterIP")
    if not wanted or wanted == HEADLESS:
        return []
    address = ip_address(wanted)
    edges = (NETWORK.network_address, NETWORK.broadcast_address)
    if isinstance(address, IPv4Address) and address in NETWORK and address not in edges:
        return []
    detail = f"the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {NETWORK}"
    return [_not_allocated(spec, detail)]


def _not_allocated(spec: Mapping[str, Any], why: str) -> FieldError:
    wanted = spec.get("clusterIP")
    detail = f"failed to allocate IP {wanted}: {why}" if wanted else f"failed to allocate IP: {why}"
    return invalid("spec.clusterIPs", spec.get("clusterIPs"), detail)


def family_of(address: str) -> str:
    """The family of an address, and of one that is still to be chosen."""
    return IPV6 if ":" in address else IPV4
