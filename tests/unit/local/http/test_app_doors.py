"""Whatever a body holds: it is stored and can be read in every way, or it is refused with a Status."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gpuyard.kube.objects import ObjectKey
from gpuyard.local.http.app import ApiApp
from gpuyard.local.objects.kinds.kind import KindSpec, Subresource
from gpuyard.local.objects.kinds.schema import type_name, types
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Change, Store, Stored

from .test_app import TABLE, pod

NAMESPACE = "default"
KINDS = [*yard_kinds()]
_POD = pod()["spec"]
_REPLICATED = {
    "replicas": 2,
    "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]},
    "template": {"metadata": {"labels": {"a": "b"}}, "spec": {**_POD, "restartPolicy": "Always"}},
}
#: An object of each kind that is taken, to begin from.
BASE: dict[str, dict[str, Any]] = {
    "ConfigMap": {"data": {"a": "b"}, "binaryData": {"c": "YQ=="}},
    "Event": {
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": NAMESPACE},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "count": 1,
        "series": {"count": 1, "lastObservedTime": "2026-01-01T00:00:00.000001Z"},
    },
    "Namespace": {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    "Node": {
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
        "status": {
            "capacity": {"cpu": "1"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1"},
        },
    },
    "Pod": {
        "spec": {
            **_POD,
            "affinity": {
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "preference": {
                                "matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]
                            },
                        }
                    ]
                }
            },
        },
        "status": {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [
                {"name": "main", "restartCount": 1, "state": {"terminated": {"exitCode": 1}}}
            ],
        },
    },
    "Secret": {"data": {"a": "YQ=="}, "type": "Opaque"},
    "ServiceAccount": {"secrets": [{"name": "a"}]},
    "Job": {
        "spec": {
            "completions": 2, "completionMode": "Indexed", "template": {"spec": _POD},
        },
        "status": {
            "completedIndexes": "0-1",
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Complete", "status": "True"}],
        },
    },
    "Deployment": {
        "spec": {
            **_REPLICATED,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "50%"}},
        },
        "status": {"replicas": 2, "conditions": [{"type": "Available", "status": "True"}]},
    },
    "ReplicaSet": {"spec": _REPLICATED, "status": {"replicas": 2, "readyReplicas": 1}},
    "Scale": {"spec": {"replicas": 3}, "status": {"replicas": 1, "selector": "a=b"}},
    "Lease": {"spec": {"holderIdentity": "a", "renewTime": "2026-01-01T00:00:00.000001Z"}},
    "PriorityClass": {"value": 1, "preemptionPolicy": "Never"},
    "Service": {
        "spec": {"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 80, "name": "a"}]},
        "status": {"loadBalancer": {}},
    },
    "EndpointSlice": {
        "addressType": "IPv4", "ports": [{"name": "a", "port": 80}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}, "nodeName": "n"}],
    },
    "PodDisruptionBudget": {
        "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}},
        "status": {"disruptionsAllowed": 1, "disruptedPods": {"p": "2026-01-01T00:00:00Z"}},
    },
    "HorizontalPodAutoscaler": {
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}, "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "gpuyard_service_requests_in_flight"},
                        "target": {"type": "AverageValue", "averageValue": "4"},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 1, "tolerance": "50m",
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}],
                }
            },
        },
        "status": {"currentReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
    },
    "PersistentVolumeClaim": {
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "gpuyard-folder", "volumeName": "v",
            "resources": {"requests": {"storage": "1Gi"}}, "selector": {"matchLabels": {"a": "b"}},
        },
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}},
    },
    "PersistentVolume": {
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"},
            "claimRef": {"namespace": "default", "name": "a"}, "persistentVolumeReclaimPolicy": "Retain",
        },
        "status": {"phase": "Available"},
    },
    "StorageClass": {"provisioner": "a/b", "volumeBindingMode": "Immediate", "reclaimPolicy": "Delete"},
    "Binding": {"target": {"kind": "Node", "name": "n"}, "metadata": {"annotations": {"a": "b"}}},
    "Eviction": {"deleteOptions": {"gracePeriodSeconds": 1, "preconditions": {"uid": ""}}},
}  # fmt: skip
_JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1e300, 2**31, 2**63, "", "a", "A b/c", "\x00", "é" * 300, "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00.1Z", "1e99", "9" * 5000, "0-9999999", [], [None],
    ["a"], [[]], {}, {"a": None}, {"": 1}, {"name": ["a"]}, [{}], [{"name": "a"}, {"name": "a"}],
)  # fmt: skip
#: Examples differ by a seed alone: what a server answers has times and versions in it.
SEEDS = st.integers(0, 2**32).map(random.Random)
#: Not made smaller when it fails: a body is short, and each try is a dozen requests.
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
    derandomize=True,
    database=None,
)


def _places(value: Any) -> list[tuple[Any, ...]]:
    """Every path in a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in ((key,), *((key, *p) for p in _places(item)))]


def _junk(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(_JUNK))


def mutated(rng: random.Random, type_: str, body: dict[str, Any]) -> dict[str, Any]:
    """A body of which one to three values are others; fields that it didn't have are among them."""
    changed = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        place = rng.choice(_places(changed))
        holder: Any = changed
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = _junk(rng)
    for part in ("spec", "status", "metadata", ""):
        name = types()[type_].fields.get(part, f"@{type_}").lstrip("@")
        target = changed.get(part) if part else changed
        if isinstance(target, dict) and name in types() and rng.random() < 0.3:
            target[rng.choice(sorted(types()[name].fields))] = _junk(rng)
    return changed


@dataclass
class Doors:
    """A yard's API without sockets, on a loop that Hypothesis' examples share."""

    loop: asyncio.AbstractEventLoop
    http: httpx.AsyncClient
    api: ObjectApi
    #: What every yard has.
    own: frozenset[tuple[str, ObjectKey]]

    def send(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", **more: Any
    ) -> Any:
        headers = {"content-type": kind, **more.pop("headers", {})}
        return self.loop.run_until_complete(
            self.http.request(method, path, json=body, headers=headers, **more)
        )

    def expect_no_fault(self, response: Any) -> bool:
        """Whether the body was taken; a refusal has to be a Status."""
        assert response.status_code < 500, (response.request.content, response.text)
        answer = response.json()
        if response.status_code >= 400:
            assert (answer["kind"], answer["code"]) == ("Status", response.status_code)
        return bool(response.status_code < 300)

    def expect_readable(self, spec: KindSpec, path: str, collection: str) -> None:
        """Read, listed, as tables and from a watch."""
        for place in (path, collection):
            for headers in ({}, TABLE):
                response = self.send("GET", place, headers=headers)
                assert response.status_code in (200, 404) if place == path else 200, response.text
        selected = {"labelSelector": "a=b,c notin (d)", "fieldSelector": "metadata.name!=x"}
        assert self.send("GET", collection, params=selected).status_code == 200
        self.loop.run_until_complete(self._watch(spec))

    def remove(self, spec: KindSpec) -> None:
        """Removes what examples made, whatever holds it: each begins with the same."""
        store, resource = self.api.store, spec.resource.qualified
        for item in store.list(resource, None)[0]:
            if (resource, item.key) not in self.own:
                change = Change.delete(resource, item.key, item.revision, _as_it_is(item))
                self.loop.run_until_complete(store.write(change))

    async def _watch(self, spec: KindSpec) -> None:
        revision = self.api.store.revision
        async for event in self.api.watch(spec.resource, resource_version=str(revision - 1)):
            assert event.object["metadata"]["resourceVersion"] == str(revision)
            return


def _as_it_is(item: Stored) -> Callable[[int], bytes]:
    return lambda _revision: item.value


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    loop = asyncio.new_event_loop()
    folder: Path = tmp_path_factory.mktemp("doors")

    async def begin() -> Doors:
        store = await Store.open(folder / "store.db", synchronous="OFF")
        api = ObjectApi(store, yard_kinds(), rng=random.Random(1))
        await api.bootstrap()
        transport = httpx.ASGITransport(ApiApp(api), raise_app_exceptions=True)
        http = httpx.AsyncClient(transport=transport, base_url="http://yard")
        names = [kind.resource.qualified for kind in KINDS]
        own = [(name, item.key) for name in names for item in store.list(name, None)[0]]
        return Doors(loop, http, api, frozenset(own))

    doors = loop.run_until_complete(begin())
    yield doors
    loop.run_until_complete(doors.http.aclose())
    loop.run_until_complete(doors.api.store.close())
    loop.close()


def _begin(doors: Doors, spec: KindSpec) -> tuple[str, str, dict[str, Any]]:
    """A new object of a kind: its path, its collection's, and what was stored."""
    resource = spec.resource
    collection = resource.path(NAMESPACE if resource.namespaced else None)
    doors.remove(spec)
    body = {"metadata": {"name": "a", "labels": {"a": "b"}, "annotations": {"c": "d"}}, **BASE[resource.kind]}
    response = doors.send("POST", collection, body)
    assert response.status_code == 201, response.text
    path = f"{collection}/a"
    if spec.has_status:
        made = response.json() | {"status": BASE[resource.kind]["status"]}
        response = doors.send("PUT", f"{path}/status", made)
        assert response.status_code == 200, response.text
    return path, collection, response.json()


#: What is a stream, or becomes one, has no body.
PARTS = [(spec, part) for spec in KINDS for part in spec.subresources if not (part.streams or part.upgrades)]


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.resource.kind)
@EXAMPLES
@given(rng=SEEDS)
def test_bodies_of_kinds(doors: Doors, spec: KindSpec, rng: random.Random) -> None:
    path, collection, stored = _begin(doors, spec)
    type_ = type_name(spec.resource)
    doors.remove(spec)
    bare = {**stored, "metadata": {"name": "a", "labels": {"a": "b"}, "finalizers": ["a.b/c"]}}
    if doors.expect_no_fault(doors.send("POST", collection, mutated(rng, type_, bare))):
        doors.expect_readable(spec, path, collection)
    path, collection, stored = _begin(doors, spec)
    if doors.expect_no_fault(doors.send("PUT", path, (mutated(rng, type_, stored)))):
        doors.expect_readable(spec, path, collection)
    patch = mutated(rng, type_, stored)
    for kind in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
        if doors.expect_no_fault(doors.send("PATCH", path, patch, kind)):
            doors.expect_readable(spec, path, collection)
    place = "/" + "/".join(map(str, rng.choice(_places(stored))))
    operation = {"op": rng.choice(["add", "replace"]), "path": place, "value": _junk(rng)}
    if doors.expect_no_fault(doors.send("PATCH", path, [operation], "application/json-patch+json")):
        doors.expect_readable(spec, path, collection)


@pytest.mark.parametrize(("spec", "part"), PARTS, ids=lambda value: getattr(value, "name", None))
@EXAMPLES
@given(rng=SEEDS)
def test_bodies_of_subresources(doors: Doors, spec: KindSpec, part: Subresource, rng: random.Random) -> None:
    path, collection, stored = _begin(doors, spec)
    below = f"{path}/{part.name}"
    if "create" in part.verbs:
        body = copy.deepcopy(BASE[part.body.kind])
        body["metadata"] = {"name": "a", **body.get("metadata", {})}
        if doors.expect_no_fault(doors.send("POST", below, (mutated(rng, type_name(part.body), body)))):
            doors.expect_readable(spec, path, collection)
    if "update" in part.verbs:
        body = mutated(rng, type_name(part.body), stored)
        if doors.expect_no_fault(doors.send("PUT", below, body)):
            doors.expect_readable(spec, path, collection)
    if "patch" in part.verbs:
        patch = mutated(rng, type_name(part.body), stored)
        for kind in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            if doors.expect_no_fault(doors.send("PATCH", below, patch, kind)):
                doors.expect_readable(spec, path, collection)


@EXAMPLES
@given(rng=SEEDS)
def test_bodies_of_deletes(doors: Doors, rng: random.Random) -> None:
    spec = next(kind for kind in KINDS if kind.resource.kind == "Pod")
    path, collection, _ = _begin(doors, spec)
    body = {
        "gracePeriodSeconds": 1,
        "propagationPolicy": "Background",
        "preconditions": {"uid": "", "resourceVersion": ""},
        "dryRun": [],
    }
    if doors.expect_no_fault(doors.send("DELETE", path, (mutated(rng, "meta.v1.DeleteOptions", body)))):
        doors.expect_readable(spec, path, collection)


@pytest.mark.parametrize(
    ("part", "body", "code"),
    [
        ("binding", {"target": {"name": ["n"]}}, 400),
        ("binding", {"target": {"name": "n"}, "metadata": {"annotations": {"a": 1}}}, 400),
        ("binding", {"target": "n"}, 400),
        ("binding", {"target": {"kind": "Pod", "name": "n"}}, 422),
        ("binding", {"target": {}}, 422),
        ("binding", ["n"], 400),
        ("eviction", {"deleteOptions": {"gracePeriodSeconds": "1"}}, 400),
        ("eviction", {"apiVersion": 1}, 400),
        ("eviction", {"metadata": {"name": "b"}}, 400),
    ],
)
def test_wrong_bodies_below_a_pod(doors: Doors, part: str, body: Any, code: int) -> None:
    spec = next(kind for kind in KINDS if kind.resource.kind == "Pod")
    path, _, _ = _begin(doors, spec)
    assert doors.send("POST", f"{path}/{part}", body).status_code == code


def test_a_preference_needs_what_is_preferred(doors: Doors) -> None:
    field = "preferredDuringSchedulingIgnoredDuringExecution"
    body = pod("a")
    body["spec"]["affinity"] = {"nodeAffinity": {field: [{"weight": 1}]}}
    answer = doors.send("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", body)
    assert answer.status_code == 422
    assert f"{field}[0].preference: Required value" in answer.json()["message"]
