"""Probes and lifecycle hooks of a container: their defaults and rules.

Sources: kubernetes `pkg/apis/core/v1/defaults.go` (SetDefaults_Probe, SetDefaults_HTTPGetAction) and
`pkg/apis/core/validation` (validateProbe, validateHandler, validateLifecycle).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gpuyard.local.objects.kinds.fields import (
    check_not_negative,
    forbidden,
    invalid,
    required,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import FieldError

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HOOKS = ("postStart", "preStop")

_DEFAULTS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_GRACE = "terminationGracePeriodSeconds"
_SCHEMES = ("HTTP", "HTTPS")
_HEADER_NAME = re.compile(r"[-A-Za-z0-9]+")
_HEADER_RULE = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used "
    "for validation is '[-A-Za-z0-9]+')"
)
_NOT_OF_INIT = "may not be set for init containers without restartPolicy=Always"


def default_probes(container: Mapping[str, Any]) -> None:
    """Fills in, in place, what Kubernetes does."""
    for name in PROBES:
        if probe := container.get(name):
            for field, value in _DEFAULTS.items():
                # Kubernetes can't tell 0 from a field that isn't there.
                probe[field] = probe.get(field) or value
            if "grpc" in probe:
                probe["grpc"].setdefault("service", "")
    for handler in _handlers(container):
        if request := handler.get("httpGet"):
            request["path"] = request.get("path") or "/"
            request["scheme"] = request.get("scheme") or "HTTP"


def validate_probes(path: str, container: Mapping[str, Any], grace_s: int) -> list[FieldError]:
    """Rules of a container that may have them; `grace_s` is its pod's grace period."""
    found: list[FieldError] = []
    lifecycle = container.get("lifecycle") or {}
    for name in HOOKS:
        if name in lifecycle:
            place = f"{path}.lifecycle.{name}"
            found += _validate_handler(place, lifecycle[name], _HOOK_HANDLERS, grace_s)
    for name in PROBES:
        if name in container:
            found += _validate_probe(f"{path}.{name}", name, container[name], grace_s)
    return found


def probe_limits(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields of which a yard would do something else than they say, and why."""
    lifecycle = container.get("lifecycle") or {}
    if lifecycle.get("stopSignal"):
        yield "lifecycle.stopSignal", "this yard tells processes to end by SIGTERM"
    handlers = [(name, container.get(name) or {}) for name in PROBES]
    handlers += [(f"lifecycle.{name}", lifecycle.get(name) or {}) for name in HOOKS]
    for place, handler in handlers:
        if (handler.get("httpGet") or {}).get("protocol"):
            yield f"{place}.httpGet.protocol", "this yard probes by HTTP/1.1; leave it out"
        if (handler.get("grpc") or {}).get("mode"):
            yield f"{place}.grpc.mode", "this yard probes gRPC without TLS; leave it out"


def no_probes(path: str, container: Mapping[str, Any]) -> list[FieldError]:
    """The rule of init containers, which run to their end."""
    return [forbidden(f"{path}.{name}", _NOT_OF_INIT) for name in ("lifecycle", *PROBES) if name in container]


def _handlers(container: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    lifecycle = container.get("lifecycle") or {}
    yield from (container[name] for name in PROBES if name in container)
    yield from (lifecycle[name] for name in HOOKS if name in lifecycle)


def _validate_probe(path: str, name: str, probe: Mapping[str, Any], grace_s: int) -> list[FieldError]:
    found = _validate_handler(path, probe, _PROBE_HANDLERS, grace_s)
    found += check_not_negative(path, probe, *_NUMBERS)
    own_grace_s = probe.get(_GRACE)
    if own_grace_s is not None and own_grace_s <= 0:
        found.append(invalid(f"{path}.{_GRACE}", own_grace_s, "must be greater than 0"))
    if name == "readinessProbe":
        if own_grace_s is not None:
            detail = "must not be set for readinessProbes"
            found.append(invalid(f"{path}.{_GRACE}", own_grace_s, detail))
    elif probe.get("successThreshold", 1) != 1:
        found.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    return found


def _validate_handler(
    path: str, handler: Mapping[str, Any], kinds: tuple[str, ...], grace_s: int
) -> list[FieldError]:
    given = [kind for kind in kinds if kind in handler]
    if not given:
        return [required(path, "must specify a handler type")]
    found = _validate_action(f"{path}.{given[0]}", given[0], handler[given[0]], grace_s)
    more = "may not specify more than 1 handler type"
    return found + [forbidden(f"{path}.{kind}", more) for kind in given[1:]]


def _validate_action(path: str, kind: str, action: Mapping[str, Any], grace_s: int) -> list[FieldError]:
    match kind:
        case "exec":
            return [] if action.get("command") else [required(f"{path}.command")]
        case "httpGet":
            return _validate_request(path, action)
        case "sleep":
            seconds = action.get("seconds", 0)
            if 0 <= seconds <= grace_s:
                return []
            detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
            return [invalid(path, seconds, detail)]
        case _:
            return _validate_port(f"{path}.port", action.get("port", 0))


def _validate_request(path: str, action: Mapping[str, Any]) -> list[FieldError]:
    found = [] if action.get("path") else [required(f"{path}.path")]
    found += _validate_port(f"{path}.port", action.get("port", 0))
    scheme = action.get("scheme", "")
    if scheme not in _SCHEMES:
        found.append(unsupported(f"{path}.scheme", scheme, _SCHEMES))
    for header in action.get("httpHeaders") or ():
        name = header.get("name", "")
        if not _HEADER_NAME.fullmatch(name):
            found.append(invalid(f"{path}.httpHeaders", name, _HEADER_RULE))
    return found


def _validate_port(path: str, port: int | str) -> list[FieldError]:
    """A number, or the name of a container's port. Source: apimachinery IsValidPortNum, IsValidPortName."""
    if isinstance(port, int):
        rule = "must be between 1 and 65535, inclusive"
        return [] if 1 <= port <= 65535 else [invalid(path, port, rule)]
    rules = []
    if len(port) > 15:
        rules.append("must be no more than 15 characters")
    if not re.fullmatch(r"[-a-z0-9]+", port):
        rules.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", port):
        rules.append("must contain at least one letter (a-z)")
    if "--" in port:
        rules.append("must not contain consecutive hyphens")
    if port[:1] == "-" or port[-1:] == "-":
        rules.append("must not begin or end with a hyphen")
    return [invalid(path, port, rule) for rule in rules]
