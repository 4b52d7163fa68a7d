"""How a node finds out whether a replica is well, and how it lets it end (pure).

Source: core/v1 `Probe` and `Lifecycle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.kube.references import escape_references
from gpuyard.workloads.spec.service.values import Probe, ServiceSpec

#: The name of the container's port, by which all else finds it, whatever its number is.
PORT_NAME = "http"

#: A replica that stops answering gets no requests after 6 s.
_READINESS = {"periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3}
#: To start it again costs its requests and its start, so a busy replica has more time to answer.
_LIVENESS = {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3}
#: Models take long to load: so long no liveness is asked for.
_STARTUP = {"periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 300}


def probes(service: ServiceSpec) -> dict[str, Any]:
    """Fields of the container.

    A replica that doesn't even listen is never ready, also where nobody says how to ask it.
    """
    fields: dict[str, Any] = {"readinessProbe": {**_asked(service.readiness or Probe()), **_READINESS}}
    if service.liveness is not None:
        asked = _asked(service.liveness)
        fields |= {"livenessProbe": {**asked, **_LIVENESS}, "startupProbe": {**asked, **_STARTUP}}
    return fields


def lifecycle(leave_s: int) -> Mapping[str, Any]:
    """A replica that is told to end goes on as ever for so long: whoever sends requests hears of it later
    than the replica itself."""
    return {"lifecycle": {"preStop": {"sleep": {"seconds": leave_s}}}} if leave_s else {}


def _asked(probe: Probe) -> dict[str, Any]:
    if probe.command:
        return {"exec": {"command": [escape_references(word) for word in probe.command]}}
    if probe.path:
        return {"httpGet": {"path": probe.path, "port": PORT_NAME}}
    return {"tcpSocket": {"port": PORT_NAME}}
