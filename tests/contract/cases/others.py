"""ConfigMaps, Secrets, ServiceAccounts, Events, Leases, Nodes, PriorityClasses: their own rules."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said


def config_map_key(api: Api) -> Any:
    """A key of a ConfigMap is like a file's name."""
    keys = ("with space", "..", "", "x" * 254)
    return [said(api.post("configmaps", api.object("configmaps", data={key: "1"}))) for key in keys]


def config_map_key_twice(api: Api) -> Any:
    """A key is in data or in binaryData."""
    return said(api.post("configmaps", api.object("configmaps", data={"a": "1"}, binaryData={"a": "AA=="})))


def config_map_too_large(api: Api) -> Any:
    """A ConfigMap has 1 MiB at most."""
    return said(api.post("configmaps", api.object("configmaps", data={"a": "x" * (1024 * 1024 + 1)})))


def config_map_immutable(api: Api) -> Any:
    """An immutable ConfigMap stays as it is."""
    api.make("configmaps", data={"a": "1"}, immutable=True)
    path = f"configmaps/{api.name}"
    return [
        said(api.patch(path, patch))
        for patch in ({"data": {"a": "2"}}, {"immutable": False}, {"metadata": {"labels": {"new": "1"}}})
    ]


def config_map_not_base64(api: Api) -> Any:
    """binaryData is base64."""
    answer = api.post("configmaps", api.object("configmaps", binaryData={"a": "!"}))
    return pick(said(answer), "code", "reason")


def secret_string_data(api: Api) -> Any:
    """stringData becomes data, and isn't read back."""
    made = api.make("secrets", stringData={"a": "text"}, data={"b": "AA=="})
    return pick(made, "data", "stringData", "type")


def secret_type_fixed(api: Api) -> Any:
    """A Secret's type can't be changed."""
    api.make("secrets")
    return said(api.patch(f"secrets/{api.name}", {"type": "example.com/other"}))


def secret_typed(api: Api) -> Any:
    """A typed Secret has the keys of its type."""
    types = (
        "kubernetes.io/tls",
        "kubernetes.io/dockerconfigjson",
        "kubernetes.io/ssh-auth",
        "kubernetes.io/basic-auth",
    )
    return [said(api.post("secrets", api.object("secrets", type=type_))) for type_ in types]


def secret_docker_config(api: Api) -> Any:
    """A registry's credentials are JSON."""
    body = api.object("secrets", type="kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": "{"})
    return pick(said(api.post("secrets", body)), "code", "reason", "causes")


def secret_immutable(api: Api) -> Any:
    """An immutable Secret stays as it is."""
    api.make("secrets", stringData={"a": "1"}, immutable=True)
    return said(api.patch(f"secrets/{api.name}", {"stringData": {"a": "2"}}))


def event_of_another_namespace(api: Api) -> Any:
    """An Event is in the namespace of what it is about."""
    return said(
        api.post("events", api.object("events", involvedObject={"kind": "Pod", "namespace": "default"}))
    )


def event_defaults(api: Api) -> Any:
    """What an Event is completed with."""
    made = api.make(
        "events", involvedObject={"kind": "Pod", "namespace": api.namespace}, source={"component": "me"}
    )
    return {name: value for name, value in made.items() if name != "metadata"}


def event_with_wrong_type(api: Api) -> Any:
    """The core Event's type isn't looked at."""
    involved = {"kind": "Pod", "namespace": api.namespace}
    return said(api.post("events", api.object("events", involvedObject=involved, type="Odd")))


def lease(api: Api) -> Any:
    """A Lease as it is written."""
    spec = {
        "holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 1,
        "acquireTime": "2024-01-02T03:04:05.000000Z", "renewTime": "2024-01-02T03:04:05.123456Z",
    }  # fmt: skip
    made = api.make("leases", spec=spec)
    return made["spec"] == spec


def lease_rules(api: Api) -> Any:
    """A Lease lasts, and its transitions aren't negative."""
    specs: list[dict[str, Any]] = [
        {"leaseDurationSeconds": 0},
        {"leaseTransitions": -1},
        {"renewTime": "soon"},
    ]
    answers = [said(api.post("leases", api.object("leases", spec=spec))) for spec in specs]
    return [pick(answer, "code", "reason", "causes") for answer in answers]


def lease_taken_over(api: Api) -> Any:
    """Of two that take a Lease one gets a Conflict."""
    made = api.make("leases", spec={"holderIdentity": "old"})
    answers = [
        api.put(f"leases/{api.name}", {**made, "spec": {"holderIdentity": name}})
        for name in ("first", "second")
    ]
    return [said(answer) for answer in answers]


def priority_class_defaults(api: Api) -> Any:
    """What a PriorityClass is completed with."""
    name = f"{api.namespace}-{api.name}"
    made = api.make("priorityclasses", name, value=5)
    api.delete(f"priorityclasses/{name}")
    return {field: value for field, value in made.items() if field != "metadata"}


def priority_class_rules(api: Api) -> Any:
    """A PriorityClass: reserved names, the highest value, known policies."""
    name = f"{api.namespace}-{api.name}"
    bodies = [
        api.object("priorityclasses", "system-mine", value=1),
        api.object("priorityclasses", name, value=2_000_000_000),
        api.object("priorityclasses", name, value=1, preemptionPolicy="Sometimes"),
    ]
    return [said(api.post("priorityclasses", body)) for body in bodies]


def priority_class_fixed(api: Api) -> Any:
    """Its value and policy can't be changed."""
    name = f"{api.namespace}-{api.name}"
    api.make("priorityclasses", name, value=5)
    patches: list[dict[str, Any]] = [{"value": 6}, {"preemptionPolicy": "Never"}, {"description": "x"}]
    answers = [said(api.patch(f"priorityclasses/{name}", patch)) for patch in patches]
    api.delete(f"priorityclasses/{name}")
    return answers


def priority_class_of_the_system(api: Api) -> Any:
    """The system's classes are there from the start."""
    names = ("system-cluster-critical", "system-node-critical")
    return [
        pick(api.read(f"priorityclasses/{name}"), "value", "globalDefault", "description") for name in names
    ]


def node_rules(api: Api) -> Any:
    """Taints of a node: key, effect, one of a kind."""
    taint = {"key": "a", "value": "x", "effect": "NoSchedule"}
    lists: list[list[dict[str, Any]]] = [
        [{**taint, "effect": "Never"}], [{**taint, "key": "a b"}], [taint, {**taint, "value": "y"}],
        [{"key": "a", "value": "x"}],
    ]  # fmt: skip
    name = f"{api.namespace}-{api.name}"
    return [said(api.post("nodes", api.object("nodes", name, spec={"taints": taints}))) for taints in lists]


def node_status_apart(api: Api) -> Any:
    """A node's capacity is written through its status."""
    name = f"{api.namespace}-{api.name}"
    api.make("nodes", name, spec={"unschedulable": True})
    main = api.made(api.patch(f"nodes/{name}", {"status": {"capacity": {"example.com/x": "3"}}}))
    status = api.made(api.patch(f"nodes/{name}/status", {"status": {"capacity": {"example.com/x": "3"}}}))
    api.delete(f"nodes/{name}")
    return [pick(found, "status.capacity") for found in (main, status)]


def node_cordoned(api: Api) -> Any:
    """A node that is cordoned gets a taint that says so."""
    name = f"{api.namespace}-{api.name}"
    api.make("nodes", name, spec={"unschedulable": True})
    # What follows comes later than what a controller does on seeing the node.
    later = f"{name}-later"
    api.make("namespaces", later)
    api.delete(f"namespaces/{later}")
    api.until_gone(f"namespaces/{later}")
    node = api.read(f"nodes/{name}")
    api.delete(f"nodes/{name}")
    taints = [[taint["key"], taint["effect"]] for taint in node["spec"].get("taints") or ()]
    return [taints, pick(node, "spec.unschedulable")]


def service_account(api: Api) -> Any:
    """A ServiceAccount is an object like others."""
    made = api.make("serviceaccounts", imagePullSecrets=[{"name": "a"}])
    return pick(made, "imagePullSecrets", "secrets")


def service_account_of_namespace(api: Api) -> Any:
    """A namespace has a ServiceAccount of its own, default."""
    return api.get("serviceaccounts/default").code


def config_of_the_root(api: Api) -> Any:
    """A namespace has the ConfigMap kube-root-ca.crt."""
    return api.get("configmaps/kube-root-ca.crt").code
