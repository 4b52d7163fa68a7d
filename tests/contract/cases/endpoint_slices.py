"""EndpointSlices: which pods are behind a Service."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said

_SLEEP = "sleep 300"
_PORTS = [{"name": "http", "port": 80, "targetPort": 8000}]


def _service(api: Api, **spec: Any) -> Any:
    return api.make("services", spec={"selector": {"app": api.name}, "ports": _PORTS, **spec})


def _pod(api: Api, name: str = "", script: str = _SLEEP, **spec: Any) -> None:
    """One that runs and is ready."""
    api.pod(script, name, metadata={"labels": {"case": api.name, "app": api.name}}, **spec)
    api.until_condition(f"pods/{name or api.name}", "Ready")


def _slices(api: Api) -> list[Any]:
    found: list[Any] = api.read("endpointslices", labelSelector=f"kubernetes.io/service-name={api.name}")[
        "items"
    ]
    return found


def _endpoints(slices: list[Any]) -> list[Any]:
    return [endpoint for one in slices for endpoint in one.get("endpoints") or ()]


def _until(api: Api, *wanted: tuple[bool, bool, bool]) -> Any:
    """The slices once their endpoints are ready, serving and terminating as wanted."""

    def holds(found: Any) -> bool:
        states = [_state(one["conditions"]) for one in _endpoints(found["items"])]
        return sorted(states) == sorted(wanted) and len(found["items"]) == 1

    query = {"labelSelector": f"kubernetes.io/service-name={api.name}"}
    return api.until("endpointslices", holds, **query)["items"]


def _state(raw: Any) -> tuple[bool, bool, bool]:
    return raw["ready"], raw["serving"], raw["terminating"]


def _told(api: Api, one: Any) -> Any:
    """All of a slice but what differs from one run to the next."""
    metadata = one["metadata"]
    endpoints = [
        {**endpoint, "addresses": len(endpoint["addresses"]), "nodeName": bool(endpoint.get("nodeName"))}
        for endpoint in one.get("endpoints") or ()
    ]
    return {
        "labels": metadata["labels"],
        "owners": metadata["ownerReferences"],
        "generateName": metadata.get("generateName"),
        "is named after it": metadata["name"].startswith(f"{api.name}-"),
        "addressType": one["addressType"],
        "ports": one.get("ports") or [],
        "endpoints": endpoints,
    }


def of_a_service(api: Api) -> Any:
    """A slice has the pods that the Service selects, with their target ports."""
    _pod(api)
    _service(api)
    return [_told(api, one) for one in _until(api, (True, True, False))]


def of_a_headless_service(api: Api) -> Any:
    """So has that of a headless Service, with the host names of pods that name it as their subdomain."""
    _pod(api, hostname="first", subdomain=api.name)
    _service(api, clusterIP="None")
    return [_told(api, one) for one in _until(api, (True, True, False))]


def without_pods(api: Api) -> Any:
    """A Service without pods has an empty slice."""
    _service(api)
    return [_told(api, one) for one in _until(api)]


def without_selector(api: Api) -> Any:
    """The slices of a Service without a selector are somebody else's."""
    api.make("services", spec={"ports": _PORTS})
    # Another's slice comes later.
    api.make("services", f"{api.name}-2", spec={"ports": _PORTS, "selector": {"app": api.name}})
    query = {"labelSelector": f"kubernetes.io/service-name={api.name}-2"}
    api.until("endpointslices", lambda found: found["items"], **query)
    return len(_slices(api))


def named_port_of_a_pod(api: Api) -> Any:
    """A target port with a name is the one that a container calls so."""
    _pod(api, main={"ports": [{"name": "web", "containerPort": 9000}]})
    _service(api, ports=[{"port": 80, "targetPort": "web"}])
    return [one["ports"] for one in _until(api, (True, True, False))]


def port_that_no_container_has(api: Api) -> Any:
    """Without such a port the pod is there and has none."""
    _pod(api)
    _service(api, ports=[{"port": 80, "targetPort": "web"}])
    return [one.get("ports") or [] for one in _until(api, (True, True, False))]


def pod_that_ends(api: Api) -> Any:
    """A pod that is being deleted serves on, and isn't ready."""
    _pod(api, script="trap '' TERM; while true; do sleep 1; done", terminationGracePeriodSeconds=30)
    _service(api)
    _until(api, (True, True, False))
    api.delete(f"pods/{api.name}")
    found = _until(api, (False, True, True))
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    _until(api)
    return [endpoint["conditions"] for endpoint in _endpoints(found)]


def pod_that_has_ended(api: Api) -> Any:
    """A pod that has succeeded is in no slice."""
    _pod(api, f"{api.name}-2")
    api.pod("exit 0", metadata={"labels": {"app": api.name}})
    api.until_phase("Succeeded")
    _service(api)
    return [pick(one, "targetRef.name") for one in _endpoints(_until(api, (True, True, False)))]


def labels_change(api: Api) -> Any:
    """A pod that isn't selected any more is gone from the slice; labels of the Service are the slice's."""
    _pod(api)
    _service(api)
    _until(api, (True, True, False))
    api.made(api.patch(f"pods/{api.name}", {"metadata": {"labels": {"app": "other"}}}))
    _until(api)
    api.made(api.patch(f"services/{api.name}", {"metadata": {"labels": {"team": "a"}}}))
    query = {"labelSelector": f"kubernetes.io/service-name={api.name},team=a"}
    found = api.until("endpointslices", lambda found: len(found["items"]) == 1, **query)
    return found["items"][0]["metadata"]["labels"]


def deleted_by_somebody(api: Api) -> Any:
    """A slice that somebody deletes is made again."""
    _pod(api)
    _service(api)
    [one] = _until(api, (True, True, False))
    api.delete(f"endpointslices/{one['metadata']['name']}")
    query = {"labelSelector": f"kubernetes.io/service-name={api.name}"}
    uid = one["metadata"]["uid"]
    api.until(
        "endpointslices",
        lambda found: [i["metadata"]["uid"] != uid for i in found["items"] if i.get("endpoints")] == [True],
        **query,
    )
    return len(_until(api, (True, True, False)))


def goes_with_its_service(api: Api) -> Any:
    """A Service's slices go with it."""
    _service(api)
    _until(api)
    api.delete(f"services/{api.name}")
    query = {"labelSelector": f"kubernetes.io/service-name={api.name}"}
    return len(api.until("endpointslices", lambda found: not found["items"], **query)["items"])


def _one(api: Api, **fields: Any) -> dict[str, Any]:
    given = {"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}], **fields}
    return api.object("endpointslices", **given)


def one_s_own(api: Api) -> Any:
    """Anybody may make slices; ports are completed."""
    made = api.made(api.post("endpointslices", _one(api, ports=[{"port": 80}])))
    return pick(made, "ports", "endpoints", "metadata.generation")


def generation(api: Api) -> Any:
    """Changes of labels and of content are counted, those of annotations aren't."""
    api.made(api.post("endpointslices", _one(api)))
    changes = (
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"labels": {"a": "b"}}},
        {"endpoints": [{"addresses": ["192.0.2.2"]}]},
    )
    path = f"endpointslices/{api.name}"
    return [api.made(api.patch(path, change))["metadata"]["generation"] for change in changes]


def rules(api: Api) -> Any:
    """What a slice says has its rules."""
    wishes: tuple[dict[str, Any], ...] = (
        {"addressType": "IPv5"},
        {"endpoints": [{"addresses": []}]},
        {"endpoints": [{"addresses": ["a"]}]},
        {"endpoints": [{"addresses": ["fd00::1"]}]},
        {"endpoints": [{"addresses": ["192.0.2.1"], "hostname": "A"}]},
        {"endpoints": [{"addresses": ["192.0.2.1"], "nodeName": "A"}]},
        {"ports": [{"port": 1}, {"port": 2}]},
        {"ports": [{"port": 1, "name": "A"}]},
        {"ports": [{"port": 1, "protocol": "HTTP"}]},
    )
    return [said(api.post("endpointslices", _one(api, **wish))) for wish in wishes]


def loopback(api: Api) -> Any:
    """Addresses of the loopback network are refused."""
    return said(api.post("endpointslices", _one(api, endpoints=[{"addresses": ["127.0.0.1"]}])))


def address_type_changes(api: Api) -> Any:
    """The type of the addresses stays."""
    api.made(api.post("endpointslices", _one(api, endpoints=[])))
    return said(api.patch(f"endpointslices/{api.name}", {"addressType": "IPv6"}))


def table(api: Api) -> Any:
    """As kubectl shows one."""
    endpoints = [{"addresses": [f"192.0.2.{number}"]} for number in range(1, 6)]
    api.made(api.post("endpointslices", _one(api, endpoints=endpoints, ports=[{"port": 80}])))
    found = api.table(f"endpointslices/{api.name}")
    columns = [column["name"] for column in found["columnDefinitions"]]
    cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
    return {name: cell for name, cell in cells.items() if name != "Age"}
