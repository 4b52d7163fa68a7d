from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.objects.kinds.service import SERVICE

from .conftest import create, update


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": spec}


def headless(**spec: Any) -> dict[str, Any]:
    return service(clusterIP="None", **spec)


def with_port(**spec: Any) -> dict[str, Any]:
    return service(ports=[{"port": 80}], **spec)


def test_a_headless_one_is_completed() -> None:
    one, found = create(SERVICE, headless(selector={"a": "b"}, ports=[{"port": 80}]))
    assert found == []
    assert one["spec"] == {
        "clusterIP": "None", "clusterIPs": ["None"], "type": "ClusterIP", "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}],
    }  # fmt: skip


def test_one_with_an_address_is_completed() -> None:
    one, found = create(SERVICE, with_port(clusterIP="127.96.0.7"))
    assert found == []
    assert one["spec"]["clusterIPs"] == ["127.96.0.7"]
    assert (one["spec"]["ipFamilies"], one["spec"]["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert one["status"] == {"loadBalancer": {}}


def test_one_without_a_selector_and_an_address_may_be_of_any_family() -> None:
    one, found = create(SERVICE, headless())
    assert found == []
    assert one["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert one["spec"]["ipFamilyPolicy"] == "RequireDualStack"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (with_port(type="NodePort"), "spec.type"),
        (with_port(type="LoadBalancer"), "spec.type"),
        (service(type="ExternalName", externalName="example.com"), "spec.type"),
        (service(ports=[{"port": 53, "protocol": "UDP"}]), "spec.ports[0].protocol"),
        (with_port(sessionAffinity="ClientIP"), "spec.sessionAffinity"),
        (with_port(externalIPs=["192.0.2.1"]), "spec.externalIPs"),
    ],
)
def test_what_a_yard_does_not_do_is_refused(given: dict[str, Any], path: str) -> None:
    _, [error] = create(SERVICE, given)
    assert (error.path, error.type) == (path, "FieldValueForbidden")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (headless(ports=[{"port": 0, "targetPort": 1}]), ["spec.ports[0].port"]),
        (headless(ports=[{"port": 1}, {"port": 2, "name": "b"}]), ["spec.ports[0].name"]),
        (headless(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]), ["spec.ports[1].name"]),
        (headless(ports=[{"port": 1, "protocol": "ICMP"}]), ["spec.ports[0].protocol"]),
        (headless(ports=[{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]), ["spec.ports[1]"]),
        (headless(ports=[{"port": 1, "nodePort": 30000}]), ["spec.ports[0].nodePort"]),
        (headless(ports=[{"port": 1, "appProtocol": "a b"}]), ["spec.ports[0].appProtocol"]),
        (headless(type="Nothing"), ["spec.type"]),
        (headless(sessionAffinity="Host"), ["spec.sessionAffinity"]),
        (headless(selector={"a b": "c"}), ["spec.selector"]),
        (headless(internalTrafficPolicy="Near"), ["spec.internalTrafficPolicy"]),
        (headless(externalTrafficPolicy="Local"), ["spec.externalTrafficPolicy"]),
        (headless(trafficDistribution="Far"), ["spec.trafficDistribution"]),
        (headless(loadBalancerClass="a"), ["spec.loadBalancerClass"]),
        (headless(loadBalancerSourceRanges=["10.0.0.0/8"]), ["spec.LoadBalancerSourceRanges"]),
        (headless(healthCheckNodePort=1), ["spec.healthCheckNodePort"]),
        (service(), ["spec.ports"]),
        (with_port(clusterIP="127.96.0.300"), ["spec.clusterIPs[0]"]),
        (with_port(clusterIP="127.96.0.0"), ["spec.clusterIPs"]),
        (with_port(clusterIP="10.0.0.1"), ["spec.clusterIPs"]),
        (with_port(clusterIP="127.96.0.1", clusterIPs=["127.96.0.2"]), ["spec.clusterIPs"]),
        (with_port(clusterIPs=["127.96.0.2"]), ["spec.clusterIPs"]),
        (with_port(clusterIP="None", clusterIPs=["None", "127.96.0.1"]), ["spec.clusterIPs"]),
        (with_port(clusterIP="127.96.0.1", clusterIPs=["127.96.0.1", "127.96.0.2"]), ["spec.clusterIPs"]),
        (with_port(clusterIP="127.96.0.1", clusterIPs=["127.96.0.1", "fd00::1"]), ["spec.ipFamilyPolicy"]),
        (with_port(clusterIP="fd00::1"), ["spec.ipFamilies[0]"]),
        (with_port(ipFamilies=["IPv6"]), ["spec.ipFamilies[0]"]),
        (with_port(ipFamilies=["IPv4", "IPv4"]), ["spec.ipFamilies[1]"]),
        (with_port(ipFamilyPolicy="RequireDualStack"), ["spec.ipFamilyPolicy"]),
        (with_port(ipFamilyPolicy="Both"), ["spec.ipFamilyPolicy"]),
    ],
)
def test_kubernetes_rules(given: dict[str, Any], wrong: list[str]) -> None:
    _, found = create(SERVICE, given)
    assert [error.path for error in found] == wrong


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (0, None),
        ("http", None),
        (70000, "Invalid value: 70000: must be between 1 and 65535, inclusive"),
        ("Http", "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
        ("80", "must contain at least one letter (a-z)"),
        ("a--b", "must not contain consecutive hyphens"),
        ("-a", "must not begin or end with a hyphen"),
        ("a-port-with-a-long-name", "must be no more than 15 characters"),
    ],
)
def test_ports_of_pods(port: int | str, message: str | None) -> None:
    one, found = create(SERVICE, headless(ports=[{"port": 80, "targetPort": port}]))
    assert one["spec"]["ports"][0]["targetPort"] == (port or 80)
    if message is None:
        assert found == []
    else:
        assert (found[0].path, len(found)) == ("spec.ports[0].targetPort", 1)
        assert message in found[0].message


def test_the_address_stays() -> None:
    old, _ = create(SERVICE, with_port(clusterIP="127.96.0.1"))
    assert update(SERVICE, old, with_port(selector={"a": "b"})) == []
    other = with_port(clusterIP="127.96.0.2", clusterIPs=["127.96.0.2"])
    assert [error.path for error in update(SERVICE, old, other)] == ["spec.clusterIPs[0]"]
    assert [error.path for error in update(SERVICE, old, with_port(clusterIP="127.96.0.2"))] == [
        "spec.clusterIPs[0]"
    ]


def test_so_does_having_none() -> None:
    old, _ = create(SERVICE, headless())
    assert update(SERVICE, old, headless(selector={"a": "b"}, ipFamilyPolicy="SingleStack")) == []
    given = with_port(clusterIP="127.96.0.1", clusterIPs=["127.96.0.1"])
    assert "spec.clusterIPs[0]" in [error.path for error in update(SERVICE, old, given)]
