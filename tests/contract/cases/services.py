"""Services: headless ones, by which the pods of a run find one another, and such with an address."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said

_PORT = {"port": 29500}


def _refused(api: Api, **spec: Any) -> Any:
    return said(api.post("services", api.object("services", spec={"clusterIP": "None", **spec})))


def _with_port(api: Api, name: str = "", **spec: Any) -> dict[str, Any]:
    return api.object("services", name, spec={"ports": [_PORT], **spec})


def _masked(observation: Any, address: str) -> Any:
    """Without the address, which is another one at every run."""
    return json.loads(json.dumps(observation).replace(address, "ADDRESS"))


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


def table(api: Api) -> Any:
    """As kubectl shows one."""
    api.make("services", spec={"clusterIP": "None", "selector": {"a": "b"}, "ports": [_PORT]})
    found = api.table(f"services/{api.name}")
    columns = [column["name"] for column in found["columnDefinitions"]]
    cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
    return {name: cell for name, cell in cells.items() if name != "Age"}


def with_an_address(api: Api) -> Any:
    """A Service without clusterIP gets an address of the cluster's."""
    return api.post("services", _with_port(api)).code


def completed(api: Api) -> Any:
    """What one with an address gets besides what it says."""
    made = api.made(api.post("services", _with_port(api, selector={"a": "b"})))
    return _masked([made["spec"], made["status"]], made["spec"]["clusterIP"])


def keeps_its_address(api: Api) -> Any:
    """An update that doesn't name the address keeps it, and so does a patch that takes it away."""
    address = api.made(api.post("services", _with_port(api)))["spec"]["clusterIP"]
    updated = api.made(api.put(f"services/{api.name}", _with_port(api, selector={"a": "b"})))
    patched = api.made(api.patch(f"services/{api.name}", {"spec": {"clusterIP": None, "clusterIPs": None}}))
    return _masked([updated["spec"], patched["spec"]], address)


def address_changes(api: Api) -> Any:
    """It can't be changed."""
    address = api.made(api.post("services", _with_port(api)))["spec"]["clusterIP"]
    other = address.rpartition(".")[0] + ("." + ("1" if address.endswith(".2") else "2"))
    changes = (
        {"clusterIP": other},
        {"clusterIP": other, "clusterIPs": [other]},
        {"clusterIP": "None", "clusterIPs": ["None"]},
    )
    found = [said(api.patch(f"services/{api.name}", {"spec": change})) for change in changes]
    return json.loads(json.dumps(_masked(found, address)).replace(other, "OTHER"))


def asks_for_an_address(api: Api) -> Any:
    """One that is free may be asked for, and one that another Service has is refused."""
    address = api.made(api.post("services", _with_port(api)))["spec"]["clusterIP"]
    taken = said(api.post("services", _with_port(api, f"{api.name}-2", clusterIP=address)))
    api.delete(f"services/{api.name}")
    api.until_gone(f"services/{api.name}")
    again = api.post("services", _with_port(api, f"{api.name}-2", clusterIP=address))
    return _masked([taken, again.code], address)


def address_elsewhere(api: Api) -> Any:
    """An address that isn't one for Services is refused."""
    return said(api.post("services", _with_port(api, clusterIP="192.0.2.1")))


def malformed_address(api: Api) -> Any:
    """So is what is none."""
    return said(api.post("services", _with_port(api, clusterIP="10.0.0.300")))


def plural_alone(api: Api) -> Any:
    """`clusterIPs` goes with `clusterIP`."""
    return said(api.post("services", _with_port(api, clusterIPs=["192.0.2.1"])))


def none_with_an_address(api: Api) -> Any:
    """None stands alone."""
    return said(api.post("services", _with_port(api, clusterIP="None", clusterIPs=["None", "192.0.2.1"])))


def second_family(api: Api) -> Any:
    """Where there is one family of addresses, another is refused, and both are."""
    wishes = ({"ipFamilies": ["IPv6"]}, {"ipFamilyPolicy": "RequireDualStack"}, {"ipFamilies": ["IPv5"]})
    return [said(api.post("services", _with_port(api, **wish))) for wish in wishes]


def prefers_two_families(api: Api) -> Any:
    """Who would like two gets one there."""
    made = api.made(api.post("services", _with_port(api, ipFamilyPolicy="PreferDualStack")))
    return pick(made, "spec.ipFamilies", "spec.ipFamilyPolicy")


def headless_without_selector(api: Api) -> Any:
    """A headless Service without a selector may have both."""
    return pick(api.make("services", spec={"clusterIP": "None"}), "spec.ipFamilies", "spec.ipFamilyPolicy")


def needs_ports(api: Api) -> Any:
    """One with an address needs a port."""
    return said(api.post("services", api.object("services", spec={"selector": {"a": "b"}})))


def target_ports(api: Api) -> Any:
    """A target port is a number, or a name as containers have it."""
    wishes = (70000, "Http", "80", "a--b", "-a", "a-port-with-a-long-name")
    return [_refused(api, ports=[{"port": 80, "targetPort": wish}]) for wish in wishes]


def same_port_twice(api: Api) -> Any:
    """A number is there once for each protocol."""
    twice = [{"port": 80, "name": "a"}, {"port": 80, "name": "b", "targetPort": 8080}]
    both = [{"port": 53, "name": "a"}, {"port": 53, "name": "b", "protocol": "UDP"}]
    made = api.post(
        "services", api.object("services", f"{api.name}-2", spec={"clusterIP": "None", "ports": both})
    )
    return [_refused(api, ports=twice), made.code]


def malformed_names(api: Api) -> Any:
    """Names of ports, protocols of applications and selectors have their rules."""
    return [
        _refused(api, ports=[{"port": 80, "name": "A"}]),
        _refused(api, ports=[{"port": 80, "appProtocol": "a b"}]),
        _refused(api, selector={"a b": "c"}),
        _refused(api, selector={"a": "b c"}),
    ]


def fields_of_other_types(api: Api) -> Any:
    """What load balancers and node ports have is refused elsewhere."""
    wishes = (
        {"ports": [{"port": 80, "nodePort": 30080}]},
        {"externalTrafficPolicy": "Local"},
        {"loadBalancerClass": "a/b"},
        {"allocateLoadBalancerNodePorts": True},
        {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
        {"healthCheckNodePort": 30080},
        {"internalTrafficPolicy": "Near"},
        {"trafficDistribution": "Far"},
    )
    return [_refused(api, **wish) for wish in wishes]


def node_port(api: Api) -> Any:
    """A Service may have a port on every node."""
    return api.post("services", _with_port(api, type="NodePort")).code


def external_name(api: Api) -> Any:
    """A Service may be another name for a host."""
    spec = {"type": "ExternalName", "externalName": "example.com"}
    return api.post("services", api.object("services", spec=spec)).code


def datagrams(api: Api) -> Any:
    """A Service may pass on UDP."""
    return api.post(
        "services", api.object("services", spec={"ports": [{"port": 53, "protocol": "UDP"}]})
    ).code


def affinity(api: Api) -> Any:
    """Requests of one client may go to one pod."""
    return api.post("services", _with_port(api, sessionAffinity="ClientIP")).code


def table_of_an_address(api: Api) -> Any:
    """As kubectl shows one with an address."""
    made = api.made(api.post("services", _with_port(api, selector={"a": "b"})))
    found = api.table(f"services/{api.name}")
    columns = [column["name"] for column in found["columnDefinitions"]]
    cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
    seen = {name: cell for name, cell in cells.items() if name != "Age"}
    return _masked(seen, made["spec"]["clusterIP"])
