"""A service of a yard has as many replicas as its load needs, and none while nobody asks."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from typing import Any

from gpuyard.autoscaling.reason import ScalingReason
from gpuyard.kube.objects import AUTOSCALERS, DEPLOYMENTS, EVENTS, PODS, SERVICES
from gpuyard.kube.wellknown import ANNOTATION_SCALE_TO_ZERO, METRIC_IN_FLIGHT
from tests.waiting import until

from .conftest import Yard

#: Every answer takes its time, so that requests are in flight.
PROGRAM = """
import http.server, os, time
class Says(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.3)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"done")
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Says).serve_forever()
"""
_PORT, _CLIENTS = 8000, 8


@contextlib.contextmanager
def scaled(yard: Yard, annotations: dict[str, str] | None = None, **autoscaler: Any) -> Iterator[str]:
    """The address of a service of one replica, of which each should have two requests at a time."""
    yard.script("says.py", PROGRAM)
    container = {
        "name": "main",
        "image": "gpuyard.io/host-process",
        "command": ["/usr/bin/python3", "says.py"],
        "workingDir": str(yard.work),
        "env": [{"name": "PORT", "value": str(_PORT)}],
        "ports": [{"name": "http", "containerPort": _PORT}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
    }
    pod = {
        "metadata": {"labels": {"app": "says"}},
        "spec": {"runtimeClassName": "gpuyard-process", "containers": [container]},
    }
    metadata = {"name": "says", "namespace": "default"}
    deployment = {"replicas": 1, "selector": {"matchLabels": {"app": "says"}}, "template": pod}
    service = {"selector": {"app": "says"}, "ports": [{"port": _PORT, "targetPort": "http"}]}
    metric = {"metric": {"name": METRIC_IN_FLIGHT}, "target": {"type": "AverageValue", "averageValue": "2"}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "says"},
        "maxReplicas": 8,
        "metrics": [{"type": "Pods", "pods": metric}],
        **autoscaler,
    }
    yard.api("POST", DEPLOYMENTS.path("default"), {"metadata": metadata, "spec": deployment})
    made = yard.api("POST", SERVICES.path("default"), {"metadata": metadata, "spec": service})
    annotated = {**metadata, "annotations": annotations or {}}
    yard.api("POST", AUTOSCALERS.path("default"), {"metadata": annotated, "spec": spec})
    try:
        yield str(made["spec"]["clusterIP"])
    finally:
        for resource in (AUTOSCALERS, SERVICES, DEPLOYMENTS):
            yard.api("DELETE", resource.path("default", "says"))
        until(lambda: not yard.get(PODS.path("default"))["items"], "its pods are gone")


def ask(address: str) -> int:
    connection = http.client.HTTPConnection(address, _PORT, timeout=60)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@contextlib.contextmanager
def load(address: str) -> Iterator[None]:
    """So many requests at a time, until the block ends."""
    ends = threading.Event()

    def work() -> None:
        while not ends.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                ask(address)

    workers = [threading.Thread(target=work) for _ in range(_CLIENTS)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        ends.set()
        for worker in workers:
            worker.join()


def counts(yard: Yard) -> tuple[int, int]:
    """Replicas that are asked for, and that are ready."""
    found = yard.get(DEPLOYMENTS.path("default", "says"))
    return found["spec"]["replicas"], found.get("status", {}).get("readyReplicas", 0)


def answered(address: str) -> int:
    return until(lambda: ask(address), "the service answers", not_yet=OSError)


def test_a_step_of_the_load_gets_its_replicas(yard: Yard) -> None:
    with scaled(yard) as address:
        assert answered(address) == 200
        with load(address):
            # Looks at a moment between two requests of a client see one less in flight.
            until(lambda: counts(yard)[0] >= 3 and counts(yard)[1] == counts(yard)[0], "it has grown")
        reason = ScalingReason.read(yard.get(AUTOSCALERS.path("default", "says")))
        assert reason is not None
        assert "in flight, target 2 each" in reason.sentence
        said = [one["message"] for one in yard.get(EVENTS.path("default"))["items"]]
        grown = "reason: pods metric gpuyard_service_requests_in_flight above target"
        assert any(grown in message for message in said)


def test_it_sleeps_and_the_next_request_waits_for_it(yard: Yard) -> None:
    with scaled(yard, {ANNOTATION_SCALE_TO_ZERO: "2s"}, minReplicas=0) as address:
        assert answered(address) == 200
        until(lambda: counts(yard) == (0, 0), "it sleeps")
        assert ask(address) == 200
        assert counts(yard)[0] == 1
