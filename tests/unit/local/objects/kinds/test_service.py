from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.objects.kinds.service import SERVICE

from .conftest import create, update


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"clusterIP": "None", **spec}}


def test_a_headless_one_is_completed() -> None:
    one, found = create(SERVICE, service(selector={"a": "b"}, ports=[{"port": 80}]))
    assert found == []
    assert one["spec"] == {
        "clusterIP": "None", "clusterIPs": ["None"], "type": "ClusterIP", "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}],
    }  # fmt: skip


@pytest.mark.parametrize("spec", [{"clusterIP": ""}, {"type": "NodePort"}, {"clusterIP": "10.0.0.1"}])
def test_a_virtual_address_is_not_served(spec: dict[str, Any]) -> None:
    _, [error] = create(SERVICE, service(**spec))
    assert (error.path, error.type) == ("spec.clusterIP", "FieldValueForbidden")


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"ports": [{"port": 0}]}, ["spec.ports[0].port"]),
        ({"ports": [{"port": 1}, {"port": 2, "name": "b"}]}, ["spec.ports[0].name"]),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}, ["spec.ports[1].name"]),
        ({"ports": [{"port": 1, "protocol": "ICMP"}]}, ["spec.ports[0].protocol"]),
        ({"type": "Nothing"}, ["spec.type"]),
        ({"sessionAffinity": "Host"}, ["spec.sessionAffinity"]),
    ],
)
def test_kubernetes_rules(spec: dict[str, Any], wrong: list[str]) -> None:
    _, found = create(SERVICE, service(**spec))
    assert [error.path for error in found] == wrong


def test_the_address_stays() -> None:
    old, _ = create(SERVICE, service())
    assert update(SERVICE, old, service(selector={"a": "b"})) == []
    assert [error.path for error in update(SERVICE, old, service(clusterIP="10.0.0.1"))] == [
        "spec.clusterIPs[0]"
    ]
