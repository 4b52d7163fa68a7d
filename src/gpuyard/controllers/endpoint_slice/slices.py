"""The EndpointSlices that a Service and its pods call for (pure).

Pods whose ports are the same share a slice, up to 100 of them. An endpoint stays in the slice in which it is,
so that a pod that comes or goes changes one of them. A slice is named after what it is for: however late an
informer is, nobody makes it twice.

Source of the behaviour: kubernetes `staging/src/k8s.io/endpointslice` (reconciler.go, utils.go).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from gpuyard.controllers.adoption import controller_reference
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import ENDPOINT_SLICES, SERVICES, Manifest, labels_of, uid_of
from gpuyard.kube.pods import is_terminal, listening_port
from gpuyard.kube.wellknown import LABEL_HEADLESS, LABEL_SERVICE_NAME, LABEL_SLICE_MANAGER

MAX_ENDPOINTS = 100
#: As a cluster's controller calls itself, for those who look for its slices.
MANAGER = "endpointslice-controller.k8s.io"
_OWN_LABELS = frozenset((LABEL_HEADLESS, LABEL_SERVICE_NAME, LABEL_SLICE_MANAGER))
_NO_PORTS = b"[]"


def selects(service: Manifest, pod: Manifest) -> bool:
    """Whether the pod is one of the Service's; a Service without a selector has none."""
    selector = (service.get("spec") or {}).get("selector") or {}
    return bool(selector) and selector.items() <= labels_of(pod).items()


def wanted_slices(
    service: Manifest, pods: Iterable[Manifest], existing: Sequence[Manifest]
) -> list[Manifest]:
    """All slices that the Service should have.

    Args:
        service: with a selector.
        pods: those that it selects.
        existing: its slices as they are. One that stays is returned with its name and version; those that
            aren't among the result should go.
    """
    by_ports: dict[bytes, dict[str, Manifest]] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        if not is_terminal(pod) and (addresses := _addresses(pod)):
            ports = _key(_ports(service, pod))
            by_ports.setdefault(ports, {})[uid_of(pod)] = _endpoint(service, pod, addresses)
    mine = {str(one["metadata"]["name"]): one for one in existing if _is_owned(service, one)}
    if not by_ports:
        # A Service without pods has a slice all the same, which says so.
        name = _name(service, _NO_PORTS, 0)
        return [_slice(service, name, _NO_PORTS, [], mine.get(name))]
    return [one for ports, found in by_ports.items() for one in _filled(service, ports, found, mine)]


def _filled(
    service: Manifest, ports: bytes, endpoints: dict[str, Manifest], existing: Mapping[str, Manifest]
) -> Iterator[Manifest]:
    """The slices of these ports: first those that are there and have endpoints, then new ones."""
    old = {name: one for name, one in existing.items() if _key(one.get("ports") or []) == ports}
    waiting = dict(endpoints)
    staying = {name: _staying(one, waiting) for name, one in old.items()}
    for name, stay in staying.items():
        if taken := stay + _take(waiting, MAX_ENDPOINTS - len(stay)):
            yield _slice(service, name, ports, taken, old[name])
    for number in itertools.count():
        if not waiting:
            return
        if (name := _name(service, ports, number)) not in old:
            yield _slice(service, name, ports, _take(waiting, MAX_ENDPOINTS), None)


def _key(ports: list[Manifest]) -> bytes:
    return orjson.dumps(ports, option=orjson.OPT_SORT_KEYS)


def _staying(old: Manifest, waiting: dict[str, Manifest]) -> list[Manifest]:
    """The endpoints that stay in their slice, as they are now; they don't wait for a place any longer."""
    uids = [(endpoint.get("targetRef") or {}).get("uid", "") for endpoint in old.get("endpoints") or ()]
    return [waiting.pop(uid) for uid in uids if uid in waiting]


def _take(waiting: dict[str, Manifest], count: int) -> list[Manifest]:
    return [waiting.pop(uid) for uid in list(waiting)[:count]]


def _slice(
    service: Manifest, name: str, ports: bytes, endpoints: list[Manifest], old: Manifest | None
) -> Manifest:
    labels = {key: value for key, value in labels_of(service).items() if key not in _OWN_LABELS}
    if service["spec"].get("clusterIP") == "None":
        labels[LABEL_HEADLESS] = ""
    labels |= {LABEL_SERVICE_NAME: service["metadata"]["name"], LABEL_SLICE_MANAGER: MANAGER}
    metadata = {
        "name": name,
        "generateName": f"{service['metadata']['name']}-",
        "namespace": service["metadata"]["namespace"],
        "ownerReferences": [controller_reference(SERVICES, service)],
    }
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {**(old["metadata"] if old else metadata), "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": orjson.loads(ports),
    }


def _name(service: Manifest, ports: bytes, number: int) -> str:
    content = b"\0".join((uid_of(service).encode(), ports, str(number).encode()))
    return f"{service['metadata']['name']}-{hashlib.sha256(content).hexdigest()[:10]}"


def _is_owned(service: Manifest, endpoint_slice: Manifest) -> bool:
    """Whether it is of this Service, and not of a former one by that name."""
    references = endpoint_slice["metadata"].get("ownerReferences") or ()
    return any(reference.get("uid") == uid_of(service) for reference in references)


def _addresses(pod: Manifest) -> list[str]:
    addresses = [one.get("ip", "") for one in (pod.get("status") or {}).get("podIPs") or ()]
    return [address for address in addresses if address and ":" not in address]


def _endpoint(service: Manifest, pod: Manifest, addresses: list[str]) -> Manifest:
    metadata, spec = pod["metadata"], pod["spec"]
    serving, terminating = condition_is_true(pod, "Ready"), bool(metadata.get("deletionTimestamp"))
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Manifest = {
        "addresses": addresses,
        "conditions": {
            "ready": published or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": uid_of(pod),
        },
    }
    if spec.get("nodeName"):
        endpoint["nodeName"] = spec["nodeName"]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = spec["hostname"]
    return endpoint


def _ports(service: Manifest, pod: Manifest) -> list[Manifest]:
    """Where the pod listens, for each of the Service's ports that it has."""
    found: list[Manifest] = []
    for port in service["spec"].get("ports") or ():
        number = _container_port(pod, port)
        if number is None:
            continue
        one = {
            "name": port.get("name", ""),
            "protocol": port["protocol"],
            "port": listening_port(pod, number),
        }
        if "appProtocol" in port:
            one["appProtocol"] = port["appProtocol"]
        found.append(one)
    return found


def _container_port(pod: Manifest, port: Mapping[str, Any]) -> int | None:
    """The number of a target port; of a named one, the port that a container calls so."""
    target: int | str = port["targetPort"]
    if isinstance(target, int):
        return target
    sidecars = [
        one for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"
    ]
    for container in [*pod["spec"].get("containers", ()), *sidecars]:
        for named in container.get("ports") or ():
            if (named.get("name"), named.get("protocol")) == (target, port["protocol"]):
                return int(named["containerPort"])
    return None
