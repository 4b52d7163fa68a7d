from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.service_proxy.endpoints import Endpoints, ServicePort, ServiceReplica, ready_replicas


def _slice(*endpoints: dict[str, Any], port: int = 41000, name: str | None = "http") -> dict[str, Any]:
    ports = [{"name": name, "port": port, "protocol": "TCP"}]
    return {"addressType": "IPv4", "ports": ports, "endpoints": list(endpoints)}


def _endpoint(pod: str, **conditions: bool) -> dict[str, Any]:
    return {
        "addresses": ["127.0.0.1"],
        "conditions": conditions,
        "targetRef": {"kind": "Pod", "name": pod},
    }


def test_ready_replicas_are_those_of_the_port_in_all_slices() -> None:
    slices = [
        _slice(_endpoint("a", ready=True), _endpoint("b", ready=False, serving=True, terminating=True)),
        _slice(_endpoint("c"), port=41001),  # not told: ready
        _slice(_endpoint("d", ready=True), name="metrics"),
        {**_slice(_endpoint("e", ready=True)), "ports": [{"name": "http", "protocol": "TCP"}]},
        {"addressType": "IPv4", "ports": None, "endpoints": None},
    ]
    assert ready_replicas(slices, "http") == {
        ServiceReplica("a", "127.0.0.1", 41000),
        ServiceReplica("c", "127.0.0.1", 41001),
    }


def test_a_port_without_a_name_is_the_slices_port_without_one() -> None:
    found = ready_replicas([_slice({"addresses": ["127.0.0.1"]}, name=None)], "")
    assert found == {ServiceReplica("127.0.0.1", "127.0.0.1", 41000)}  # no pod's: its address names it


@pytest.mark.parametrize("port", [-1, 0, 65_536, 70_000, "80", None])
def test_what_is_no_port_of_tcp_is_left_out(port: Any) -> None:
    assert not ready_replicas([_slice(_endpoint("a"), port=port)], "http")


@pytest.mark.parametrize("kind", ["IPv6", "FQDN", None])
def test_only_addresses_of_ipv4_are_reached(kind: str | None) -> None:
    assert not ready_replicas([{**_slice(_endpoint("a")), "addressType": kind}], "http")


def test_a_service_listens_at_its_tcp_ports() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    service = {"metadata": {"uid": "u"}, "spec": {"clusterIP": "127.96.1.2", "ports": ports}}
    assert Endpoints.of(service) == Endpoints("u", "127.96.1.2", (ServicePort("http", 80),))


def test_a_headless_service_listens_nowhere() -> None:
    assert not Endpoints.of({"metadata": {"uid": "u"}, "spec": {"clusterIP": "None"}}).address
    assert not Endpoints.of({"metadata": {"uid": "u"}}).address
