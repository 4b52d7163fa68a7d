"""Probes and lifecycle hooks: defaults, rules, and what becomes of containers."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import conditions, pick, said

_GET = {"httpGet": {"port": 80}}
_SOON = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 10}
_FOREVER = "exec sleep 600"


def _refused(api: Api, **fields: Any) -> Any:
    spec = api.pod_spec(schedulerName="nobody", terminationGracePeriodSeconds=30, main=fields)
    return said(api.post("pods", api.object("pods", spec=spec)))


def _command(script: str) -> dict[str, Any]:
    return {"exec": {"command": ["/bin/sh", "-c", script]}}


def _messages(api: Api, reason: str) -> list[str]:
    query = {"fieldSelector": f"involvedObject.name={api.name},reason={reason}"}
    found = api.until("events", lambda events: events["items"], **query)["items"]
    return sorted({event["message"] for event in found})


def defaults_of_probes(api: Api) -> Any:
    """What is filled in of each kind of probe."""
    probes = {
        "readinessProbe": _GET,
        "livenessProbe": {"grpc": {"port": 1}, "timeoutSeconds": 0},
        "startupProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 2},
    }
    return pick(api.parked_pod(main=probes), *(f"spec.containers.0.{name}" for name in probes))


def defaults_of_hooks(api: Api) -> Any:
    """What is filled in of hooks."""
    hooks = {"preStop": _GET, "postStart": _command("true")}
    return pick(api.parked_pod(main={"lifecycle": hooks}), "spec.containers.0.lifecycle")


def probe_without_a_handler(api: Api) -> Any:
    """A probe has a handler."""
    return _refused(api, readinessProbe={"periodSeconds": 1})


def probe_with_two_handlers(api: Api) -> Any:
    """A probe has one handler."""
    return _refused(api, readinessProbe={**_GET, **_command("true")})


def probe_with_an_empty_command(api: Api) -> Any:
    """An exec probe has a command."""
    return _refused(api, readinessProbe={"exec": {}})


def probe_numbers_below_zero(api: Api) -> Any:
    """No number of a probe is below 0."""
    names = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    return _refused(api, readinessProbe={**_GET, **dict.fromkeys(names, -1)})


def probe_port_out_of_range(api: Api) -> Any:
    """A port is a number up to 65535."""
    return _refused(
        api, readinessProbe={"httpGet": {"port": 65536}}, livenessProbe={"tcpSocket": {"port": 0}}
    )


def probe_port_name_malformed(api: Api) -> Any:
    """Or the name of a port."""
    return _refused(
        api, readinessProbe={"httpGet": {"port": "8000"}}, livenessProbe={"tcpSocket": {"port": "A--"}}
    )


def probe_scheme_unknown(api: Api) -> Any:
    """A scheme is one of two."""
    return _refused(api, readinessProbe={"httpGet": {"port": 80, "scheme": "FTP"}})


def probe_header_malformed(api: Api) -> Any:
    """Names of headers have no spaces."""
    headers = [{"name": "a b", "value": "1"}]
    return _refused(api, readinessProbe={"httpGet": {"port": 80, "httpHeaders": headers}})


def probe_path_without_slash(api: Api) -> Any:
    """A path needn't begin with a slash."""
    pod = api.parked_pod(main={"readinessProbe": {"httpGet": {"port": 80, "path": "healthz"}}})
    return pick(pod, "spec.containers.0.readinessProbe.httpGet")


def liveness_of_two_successes(api: Api) -> Any:
    """Liveness and startup take one success."""
    twice = {**_GET, "successThreshold": 2}
    return _refused(api, livenessProbe=twice, startupProbe=twice)


def grace_of_probes(api: Api) -> Any:
    """A probe's own grace is above 0, and readiness has none."""
    return _refused(
        api,
        livenessProbe={**_GET, "terminationGracePeriodSeconds": 0},
        readinessProbe={**_GET, "terminationGracePeriodSeconds": 5},
    )


def hook_sleeps_too_long(api: Api) -> Any:
    """A hook sleeps no longer than the pod's grace."""
    return _refused(api, lifecycle={"preStop": {"sleep": {"seconds": 31}}})


def hook_without_a_handler(api: Api) -> Any:
    """A hook has a handler."""
    return _refused(api, lifecycle={"postStart": {}})


def init_containers_have_none(api: Api) -> Any:
    """An init container that runs to its end has neither."""
    hooks: dict[str, Any] = {
        "lifecycle": {"preStop": _GET},
        "livenessProbe": _GET,
        "readinessProbe": _GET,
    }
    init = api.container("init", **hooks)
    spec = api.pod_spec(schedulerName="nobody", initContainers=[init])
    return said(api.post("pods", api.object("pods", spec=spec)))


def unready(api: Api) -> Any:
    """A container whose probe fails runs and isn't ready."""
    api.pod(_FOREVER, main={"readinessProbe": {**_command("echo no; exit 1"), **_SOON}})
    said_ = _messages(api, "Unhealthy")
    pod = api.read(f"pods/{api.name}")
    told = pick(pod, "status.phase", "status.containerStatuses.0.ready", "status.containerStatuses.0.started")
    # A scheduler that decides before the kubelet looks writes its condition first.
    return [told, sorted(conditions(pod)), said_]


def liveness_failed(api: Api) -> Any:
    """A container that fails its liveness probe starts again, also when it ended well."""
    script = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    api.pod(script, restartPolicy="OnFailure", main={"livenessProbe": {**_command("exit 1"), **_SOON}})
    path = "status.containerStatuses.0"
    api.until(f"pods/{api.name}", lambda pod: pick(pod, f"{path}.restartCount") not in (None, 0))
    return _messages(api, "Killing")


def startup_failed(api: Api) -> Any:
    """A container that never starts ends, and its pod with it where nothing is started again."""
    api.pod(_FOREVER, main={"startupProbe": {**_command("exit 1"), **_SOON}})
    pod = api.until_phase("Failed")
    return [pick(pod, "status.containerStatuses.0.started"), _messages(api, "Killing")]


def not_started(api: Api) -> Any:
    """Before its startup probe succeeds a container counts as not started, and is asked nothing else."""
    probes = {
        "startupProbe": {**_command("exit 1"), **_SOON, "failureThreshold": 600},
        "readinessProbe": {**_command("echo asked; exit 1"), **_SOON},
    }
    api.pod(_FOREVER, main=probes)
    said_ = _messages(api, "Unhealthy")
    pod = api.read(f"pods/{api.name}")
    return [pick(pod, "status.containerStatuses.0.ready", "status.containerStatuses.0.started"), said_]


def post_start_failed(api: Api) -> Any:
    """A container whose hook fails is ended."""
    api.pod(_FOREVER, main={"lifecycle": {"postStart": _command("exit 1")}})
    api.until_phase("Failed")
    return [_messages(api, "FailedPostStartHook"), _messages(api, "Killing")]


def pre_stop_failed(api: Api) -> Any:
    """A hook that fails is told, and the container ends all the same."""
    api.pod(_FOREVER, main={"lifecycle": {"preStop": _command("exit 1")}})
    api.until_phase("Running")
    api.delete(f"pods/{api.name}")
    api.until_gone(f"pods/{api.name}")
    return _messages(api, "FailedPreStopHook")
