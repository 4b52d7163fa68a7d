"""How a case speaks to an API server: plain HTTPS, the same for the yard and for a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gpuyard.client.connection.kubeconfig import load_connection
from tests.contract.observations import pick
from tests.waiting import until

TIMEOUT_S = 60.0
_POLL_S = 0.04
_PLACES = {
    "jobs": "/apis/batch/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "priorityclasses": "/apis/scheduling.k8s.io/v1",
    "cronjobs": "/apis/batch/v1",
    "deployments": "/apis/apps/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
    "replicasets": "/apis/apps/v1",
    "storageclasses": "/apis/storage.k8s.io/v1",
}
_CLUSTER_SCOPED = ("namespaces", "nodes", "persistentvolumes", "priorityclasses", "storageclasses")
_KINDS = {
    "configmaps": "ConfigMap",
    "deployments": "Deployment",
    "endpointslices": "EndpointSlice",
    "events": "Event",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "jobs": "Job",
    "leases": "Lease",
    "namespaces": "Namespace",
    "nodes": "Node",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "persistentvolumes": "PersistentVolume",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "pods": "Pod",
    "priorityclasses": "PriorityClass",
    "replicasets": "ReplicaSet",
    "secrets": "Secret",
    "serviceaccounts": "ServiceAccount",
    "services": "Service",
    "storageclasses": "StorageClass",
}


@dataclass(frozen=True)
class Answer:
    """What the server said; `body` is decoded when it is JSON, else text."""

    code: int
    body: Any
    headers: httpx.Headers

    @property
    def warnings(self) -> list[str]:
        """Texts of the Warning headers."""
        return [value.split('"', 1)[1][:-1] for value in self.headers.get_list("warning")]


@dataclass(frozen=True)
class Target:
    """An API server with the namespace that the cases share.

    Attributes:
        image: what pods run in; empty on the yard, where they are processes of the host.
        young: the path of a collection whose history doesn't go back to revision 1.
    """

    http: httpx.Client
    namespace: str
    image: str = ""
    young: str = "configmaps"


def connect(kubeconfig: Path, context: str, namespace: str, image: str = "") -> Target:
    """A client for the server that a kubeconfig names, and its namespace, made new."""
    connection = load_connection([kubeconfig], context)
    assert connection.tls is not None
    http = httpx.Client(
        base_url=connection.server,
        verify=connection.tls,
        headers=connection.headers,
        timeout=TIMEOUT_S,
        trust_env=False,
    )
    target = Target(http, namespace, image)
    api = Api(target, "setup")
    api.make("namespaces", namespace)
    # A cluster refuses pods until the namespace has its account; the yard has none.
    if image:
        api.until("serviceaccounts/default", lambda found: True)
    return target


def disconnect(target: Target) -> None:
    """Deletes the namespace; it may take its time."""
    Api(target, "setup").delete(f"namespaces/{target.namespace}")
    target.http.close()


def _decoded(answer: httpx.Response) -> Any:
    try:
        found = answer.json()
    except ValueError:
        return answer.text
    # A log may happen to be JSON; only objects are documents.
    return found if isinstance(found, dict) else answer.text


def _lags(events: list[Any]) -> bool:
    details = events[-1].get("object", {}).get("details") or {} if events else {}
    return any(cause.get("reason") == "ResourceVersionTooLarge" for cause in details.get("causes") or ())


class Api:
    """What one case asks of the server. `name` is the case's own, for its objects and their label `case`."""

    def __init__(self, target: Target, name: str) -> None:
        self._target = target
        self.namespace = target.namespace
        self.name = name
        self.young = target.young
        self._http = target.http

    @property
    def base(self) -> httpx.URL:
        """The server's address."""
        return self._http.base_url

    # Requests. A path is absolute, or begins with a plural name in the cases' namespace: `jobs/x/status`.

    def get(self, path: str, **query: Any) -> Answer:
        return self.send("GET", path, query=query)

    def post(self, path: str, body: Any, **query: Any) -> Answer:
        return self.send("POST", path, body, query=query)

    def put(self, path: str, body: Any, **query: Any) -> Answer:
        return self.send("PUT", path, body, query=query)

    def delete(self, path: str, body: Any = None, **query: Any) -> Answer:
        return self.send("DELETE", path, body, query=query)

    def patch(self, path: str, body: Any, kind: str = "merge", **query: Any) -> Answer:
        """`kind` is merge, strategic-merge, json or apply."""
        content = "application/apply-patch+yaml" if kind == "apply" else f"application/{kind}-patch+json"
        return self.send("PATCH", path, body, query=query, headers={"Content-Type": content})

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request with a body of JSON, or of text as it stands."""
        content = body if body is None or isinstance(body, str) else json.dumps(body)
        headers = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        answer = self._http.request(method, self.url(path), content=content, params=query, headers=headers)
        return Answer(answer.status_code, _decoded(answer), answer.headers)

    def url(self, path: str) -> str:
        """The whole path of a short one."""
        if path.startswith("/"):
            return path
        plural = path.partition("/")[0]
        place = "" if plural in _CLUSTER_SCOPED else f"/namespaces/{self.namespace}"
        return f"{_PLACES.get(plural, '/api/v1')}{place}/{path}"

    def table(self, path: str, **query: Any) -> Any:
        """The answer as a Table, as kubectl asks for it."""
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
        return self.send("GET", path, query=query, headers={"Accept": accept}).body

    # What has to work for a case to get anywhere.

    def object(self, plural: str, name: str = "", **fields: Any) -> dict[str, Any]:
        """A manifest with the case's label; `metadata` in `fields` is added to the usual one."""
        place = _PLACES.get(plural, "/api/v1").removeprefix("/apis/").removeprefix("/api/")
        metadata = {"name": name or self.name, "labels": {"case": self.name}, **fields.pop("metadata", {})}
        return {"apiVersion": place, "kind": _KINDS[plural], "metadata": metadata, **fields}

    def make(self, plural: str, name: str = "", **fields: Any) -> Any:
        """Creates an object."""
        return self.made(self.post(plural, self.object(plural, name, **fields)))

    def read(self, path: str, **query: Any) -> Any:
        """An object or list that is there."""
        return self.made(self.get(path, **query))

    def made(self, answer: Answer) -> Any:
        """The body of an answer that has to be a success."""
        assert answer.code < 300, f"{answer.code}: {answer.body}"
        return answer.body

    def until(self, path: str, condition: Callable[[Any], Any], **query: Any) -> Any:
        """What is at the path once it is there and the condition is true of it."""
        answer = until(
            lambda: self.get(path, **query),
            f"{path} is as wanted",
            lambda answer: answer.code == 200 and condition(answer.body),
            timeout_s=TIMEOUT_S,
        )
        return answer.body

    def until_gone(self, path: str) -> None:
        """Returns when there is nothing at the path."""
        until(
            lambda: self.get(path), f"{path} is gone", lambda answer: answer.code == 404, timeout_s=TIMEOUT_S
        )

    def watch(self, path: str, count: int = 1000, **query: Any) -> list[Any]:
        """Events of a watch until there are so many or the server ends it.

        A server whose cache of a kind is behind its storage says so, and is asked again, as by every client.
        """
        while _lags(events := self._watched(path, count, query)):
            pass
        return events

    def _watched(self, path: str, count: int, query: dict[str, Any]) -> list[Any]:
        events: list[Any] = []
        with self._http.stream("GET", self.url(path), params={"watch": "true", **query}) as answer:
            if answer.status_code != 200:
                return [json.loads(answer.read())]
            for line in answer.iter_lines():
                events.append(json.loads(line))
                if len(events) == count:
                    break
        return events

    # Pods, which differ in how they run, and in nothing else.

    def pod_spec(self, script: str = "exit 0", **fields: Any) -> dict[str, Any]:
        """One container, main, that runs a line of shell; `main` in `fields` is added to it."""
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            **self.runtime(),
            "containers": [self.container("main", script, **fields.pop("main", {}))],
            **fields,
        }

    def runtime(self) -> dict[str, Any]:
        """What makes a pod run here."""
        return {} if self._target.image else {"runtimeClassName": "gpuyard-process"}

    def container(self, name: str, script: str = "exit 0", **fields: Any) -> dict[str, Any]:
        """A container that runs a line of shell."""
        image = self._target.image or "gpuyard.io/host-process"
        return {"name": name, "image": image, "command": ["/bin/sh", "-c", script], **fields}

    def pod(self, script: str = "exit 0", name: str = "", **fields: Any) -> Any:
        """Creates a pod."""
        metadata = fields.pop("metadata", {})
        return self.make("pods", name, metadata=metadata, spec=self.pod_spec(script, **fields))

    def parked_pod(self, name: str = "", **fields: Any) -> Any:
        """Creates a pod that no scheduler takes, so that nobody but the case touches it."""
        return self.pod(name=name, schedulerName="nobody", **fields)

    def job_spec(self, script: str = "exit 0", **fields: Any) -> dict[str, Any]:
        """A Job's spec; `pod` in `fields` is added to the pods' spec."""
        template = {"metadata": {"labels": {"case": self.name}}, "spec": self.pod_spec(script)}
        template["spec"].update(fields.pop("pod", {}))
        return {"template": template, **fields}

    def job(self, script: str = "exit 0", name: str = "", **fields: Any) -> Any:
        """Creates a Job."""
        metadata = fields.pop("metadata", {})
        return self.make("jobs", name, metadata=metadata, spec=self.job_spec(script, **fields))

    def until_phase(self, phase: str, name: str = "") -> Any:
        """The pod once it is in a phase."""
        return self.until(f"pods/{name or self.name}", lambda pod: pick(pod, "status.phase") == phase)

    def until_condition(self, path: str, type_: str, status: str = "True") -> Any:
        """The object once it has a condition."""

        def has(found: Any) -> bool:
            conditions = found.get("status", {}).get("conditions") or ()
            return any(c["type"] == type_ and c["status"] == status for c in conditions)

        return self.until(path, has)

    def mine(self, plural: str) -> list[Any]:
        """The case's objects of a kind."""
        items: list[Any] = self.read(plural, labelSelector=f"case={self.name}")["items"]
        return items
