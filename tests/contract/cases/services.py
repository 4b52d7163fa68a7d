"""Services: headless ones, by which the pods of a run find one another."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said

_PORT = {"port": 29500}


def _refused(api: Api, **spec: Any) -> Any:
    return said(api.post("services", api.object("services", spec={"clusterIP": "None", **spec})))


def headless(api: Api) -> Any:
    """What a headless Service gets besides what it says."""
    made = api.make("services", spec={"clusterIP": "None", "selector": {"a": "b"}, "ports": [_PORT]})
    return [made["spec"], made["status"]]


def without_ports(api: Api) -> Any:
    """A headless Service needs no port."""
    return pick(api.make("services", spec={"clusterIP": "None"}), "spec.ports", "spec.selector")


def ports_need_names(api: Api) -> Any:
    """Of several ports each has a name."""
    return _refused(api, ports=[_PORT, {"port": 2}])


def names_of_ports_differ(api: Api) -> Any:
    """No two ports have one name."""
    return _refused(api, ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}])


def port_out_of_range(api: Api) -> Any:
    """A port is a number from 1 to 65535."""
    return _refused(api, ports=[{"port": 70000, "targetPort": 1}])


def unknown_protocol(api: Api) -> Any:
    """A protocol that there isn't is refused with those that there are."""
    return _refused(api, ports=[{"port": 1, "protocol": "HTTP"}])


def unknown_type(api: Api) -> Any:
    """So is a type."""
    return _refused(api, type="Headless")


def unknown_affinity(api: Api) -> Any:
    """So is an affinity."""
    return _refused(api, sessionAffinity="Node")


def name_with_a_dot(api: Api) -> Any:
    """A Service's name is one label of a DNS name."""
    return said(api.post("services", api.object("services", "a.b", spec={"clusterIP": "None"})))


def stays_headless(api: Api) -> Any:
    """Its address is for good."""
    api.make("services", spec={"clusterIP": "None", "selector": {"a": "b"}, "ports": [_PORT]})
    change = {"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"]}
    return said(api.patch(f"services/{api.name}", {"spec": change}))


def with_an_address(api: Api) -> Any:
    """A Service without clusterIP gets an address of the cluster's."""
    return api.post("services", api.object("services", spec={"ports": [_PORT]})).code


def table(api: Api) -> Any:
    """As kubectl shows one."""
    api.make("services", spec={"clusterIP": "None", "selector": {"a": "b"}, "ports": [_PORT]})
    found = api.table(f"services/{api.name}")
    columns = [column["name"] for column in found["columnDefinitions"]]
    cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
    return {name: cell for name, cell in cells.items() if name != "Age"}
