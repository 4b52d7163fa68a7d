from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.objects.kinds.pod import POD

from .conftest import create

Manifest = dict[str, Any]
_MAIN = "spec.containers[0]"
_GET = {"httpGet": {"port": 80}}
_PORT = "must be between 1 and 65535, inclusive"


def _with(pod: Manifest, **fields: Any) -> Manifest:
    [container] = pod["spec"]["containers"]
    return {**pod, "spec": {**pod["spec"], "containers": [{**container, **fields}]}}


def test_defaults(pod: Manifest) -> None:
    grpc = {"grpc": {"port": 1}, "timeoutSeconds": 0, "periodSeconds": 5}
    hooks = {"preStop": {"httpGet": {"port": "http"}}, "postStart": {"exec": {"command": ["true"]}}}
    probes = {"readinessProbe": _GET, "livenessProbe": grpc, "lifecycle": hooks}
    stored, found = create(POD, _with(pod, **probes))
    assert found == []
    container = stored["spec"]["containers"][0]
    numbers = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    assert container["readinessProbe"] == {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, **numbers}
    assert container["livenessProbe"] == {"grpc": {"port": 1, "service": ""}, **numbers, "periodSeconds": 5}
    assert container["lifecycle"]["preStop"]["httpGet"] == {"port": "http", "path": "/", "scheme": "HTTP"}


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"readinessProbe": {}}, "readinessProbe", "Required value: must specify a handler type"),
        (
            {"readinessProbe": {**_GET, "exec": {"command": ["true"]}}},
            "readinessProbe.httpGet",
            "Forbidden: may not specify more than 1 handler type",
        ),
        ({"startupProbe": {"exec": {}}}, "startupProbe.exec.command", "Required value"),
        (
            {"readinessProbe": {**_GET, "periodSeconds": -1}},
            "readinessProbe.periodSeconds",
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"readinessProbe": {"httpGet": {"port": 0}}},
            "readinessProbe.httpGet.port",
            f"Invalid value: 0: {_PORT}",
        ),
        (
            {"readinessProbe": {"tcpSocket": {"port": 65536}}},
            "readinessProbe.tcpSocket.port",
            f"Invalid value: 65536: {_PORT}",
        ),
        (
            {"readinessProbe": {"httpGet": {"port": "8000"}}},
            "readinessProbe.httpGet.port",
            'Invalid value: "8000": must contain at least one letter (a-z)',
        ),
        (
            {"readinessProbe": {"httpGet": {"port": 80, "scheme": "FTP"}}},
            "readinessProbe.httpGet.scheme",
            'Unsupported value: "FTP": supported values: "HTTP", "HTTPS"',
        ),
        (
            {"readinessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": ""}]}}},
            "readinessProbe.httpGet.httpHeaders",
            'Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '
            "'-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
        ),
        (
            {"livenessProbe": {**_GET, "successThreshold": 2}},
            "livenessProbe.successThreshold",
            "Invalid value: 2: must be 1",
        ),
        (
            {"livenessProbe": {**_GET, "terminationGracePeriodSeconds": 0}},
            "livenessProbe.terminationGracePeriodSeconds",
            "Invalid value: 0: must be greater than 0",
        ),
        (
            {"readinessProbe": {**_GET, "terminationGracePeriodSeconds": 5}},
            "readinessProbe.terminationGracePeriodSeconds",
            "Invalid value: 5: must not be set for readinessProbes",
        ),
        (
            {"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}},
            "lifecycle.preStop.sleep",
            "Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            {"lifecycle": {"postStart": {}}},
            "lifecycle.postStart",
            "Required value: must specify a handler type",
        ),
    ],
)
def test_rules_in_the_words_of_kubernetes(
    pod: Manifest, fields: dict[str, Any], path: str, message: str
) -> None:
    _, found = create(POD, _with(pod, **fields))
    assert [(error.path, error.message) for error in found] == [(f"{_MAIN}.{path}", message)]


def test_init_containers_have_none(pod: Manifest) -> None:
    [container] = pod["spec"]["containers"]
    hooks = {"lifecycle": {"preStop": _GET}, "livenessProbe": _GET}
    init = {**container, "name": "init", **hooks}
    _, found = create(POD, {**pod, "spec": {**pod["spec"], "initContainers": [init]}})
    detail = "Forbidden: may not be set for init containers without restartPolicy=Always"
    assert [(error.path, error.message) for error in found] == [
        ("spec.initContainers[0].lifecycle", detail),
        ("spec.initContainers[0].livenessProbe", detail),
    ]


@pytest.mark.parametrize(
    ("port", "rules"),
    [
        ("http", []),
        ("1-a", []),
        ("-a", ["must not begin or end with a hyphen"]),
        ("a--b", ["must not contain consecutive hyphens"]),
        (
            "A",
            ["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)", "at least one letter"],
        ),
        ("a-name-that-is-long", ["must be no more than 15 characters"]),
    ],
)
def test_names_of_ports(pod: Manifest, port: str, rules: list[str]) -> None:
    _, found = create(POD, _with(pod, readinessProbe={"tcpSocket": {"port": port}}))
    assert len(found) == len(rules)
    assert all(rule in error.message for rule, error in zip(rules, found, strict=True))
