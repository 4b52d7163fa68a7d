from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.objects.kinds.endpoint_slice import ENDPOINT_SLICE

from .conftest import create, update


def a_slice(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "metadata": {"name": "a"},
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }
    return {**given, **changes}


def test_it_is_completed() -> None:
    one, found = create(ENDPOINT_SLICE, a_slice())
    assert found == []
    assert one["ports"] == [{"port": 80, "name": "", "protocol": "TCP"}]
    assert one["endpoints"] == [{"addresses": ["127.0.0.1"], "conditions": {}}]


def endpoint(*addresses: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"addresses": list(addresses), **fields}]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"addressType": ""}, ["addressType"]),
        ({"addressType": "IPv5"}, ["addressType"]),
        ({"endpoints": endpoint()}, ["endpoints[0].addresses"]),
        ({"endpoints": endpoint("a")}, ["endpoints[0].addresses[0]"]),
        ({"endpoints": endpoint("::1")}, ["endpoints[0].addresses"]),
        ({"endpoints": endpoint("10.0.0.1", hostname="A")}, ["endpoints[0].hostname"]),
        ({"endpoints": endpoint("10.0.0.1", nodeName="A")}, ["endpoints[0].nodeName"]),
        ({"endpoints": endpoint(*["10.0.0.1"] * 101)}, ["endpoints[0].addresses"]),
        ({"endpoints": endpoint("10.0.0.1") * 1001}, ["endpoints"]),
        ({"addressType": "FQDN", "endpoints": endpoint("example.com")}, []),
        ({"addressType": "FQDN", "endpoints": endpoint("a_b")}, ["endpoints[0].addresses[0]"]),
        ({"addressType": "IPv6", "endpoints": endpoint("fd00::1")}, []),
        ({"ports": [{"port": 1}, {"port": 2}]}, ["ports[1].name"]),
        ({"ports": [{"port": 1, "name": "A"}]}, ["ports[0].name"]),
        ({"ports": [{"port": 1, "protocol": "ICMP"}]}, ["ports[0].protocol"]),
        ({"ports": [{"port": 1, "appProtocol": "a b"}]}, ["ports[0].appProtocol"]),
    ],
)
def test_kubernetes_rules(changes: dict[str, Any], wrong: list[str]) -> None:
    _, found = create(ENDPOINT_SLICE, a_slice(**changes))
    assert [error.path for error in found] == wrong


def test_the_type_of_its_addresses_stays() -> None:
    old, _ = create(ENDPOINT_SLICE, a_slice())
    given = a_slice(addressType="IPv6", endpoints=endpoint("fd00::1"))
    assert [error.path for error in update(ENDPOINT_SLICE, old, given)] == ["addressType"]


def test_changes_of_content_and_labels_are_counted() -> None:
    old, _ = create(ENDPOINT_SLICE, a_slice())
    old["metadata"]["generation"] = 1
    for given, generation in (
        (a_slice(), None),
        (a_slice(metadata={"name": "a", "annotations": {"a": "b"}}), None),
        (a_slice(metadata={"name": "a", "labels": {"a": "b"}}), 2),
        (a_slice(endpoints=endpoint("127.0.0.2")), 2),
    ):
        ENDPOINT_SLICE.default(given)
        ENDPOINT_SLICE.prepare_update(given, old)
        assert given["metadata"].get("generation") == generation
