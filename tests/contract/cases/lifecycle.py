"""Pods that run: phases, statuses, conditions, variables, logs and events."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import conditions, pick, said

_WAIT = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def _log(api: Api, name: str = "", **query: Any) -> Any:
    return api.read(f"pods/{name or api.name}/log", **query)


def _types(pod: Any) -> dict[str, Any]:
    return {type_: [status, reason] for type_, status, reason, _ in conditions(pod)}


def _terminated(pod: Any, index: int = 0) -> Any:
    state = f"status.containerStatuses.{index}.state.terminated"
    return pick(pod, f"{state}.exitCode", f"{state}.reason", f"{state}.signal")


def succeeds(api: Api) -> Any:
    """A pod whose container ends with 0 is Succeeded."""
    api.pod("echo hello")
    pod = api.until_phase("Succeeded")
    container = pick(pod, "status.containerStatuses.0.ready", "status.containerStatuses.0.started")
    return [_terminated(pod), container, _types(pod), pick(pod, "status.reason", "status.message")]


def fails(api: Api) -> Any:
    """A pod whose container ends otherwise is Failed."""
    api.pod("exit 3")
    pod = api.until_phase("Failed")
    return [_terminated(pod), _types(pod)]


def runs(api: Api) -> Any:
    """A pod that runs is ready and started."""
    api.pod(_WAIT)
    pod = api.until_condition(f"pods/{api.name}", "Ready")
    status = pod["status"]["containerStatuses"][0]
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    return [pick(status, "name", "ready", "started", "restartCount"), sorted(status["state"]), _types(pod)]


def terminated_times(api: Api) -> Any:
    """A container that ended says when it started and ended, and how it is called."""
    api.pod()
    state = pick(api.until_phase("Succeeded"), "status.containerStatuses.0.state.terminated")
    return [sorted(state), state["startedAt"] <= state["finishedAt"]]


def restarts(api: Api) -> Any:
    """With OnFailure a container is started again until it succeeds; its volumes stay."""
    mounts = [{"name": "kept", "mountPath": "/tmp"}]
    script = "test -e /tmp/once || { touch /tmp/once; exit 1; }"
    volumes = [{"name": "kept", "emptyDir": {}}]
    api.pod(script, restartPolicy="OnFailure", volumes=volumes, main={"volumeMounts": mounts})
    pod = api.until_phase("Succeeded")
    return [pick(pod, "status.containerStatuses.0.restartCount"), _terminated(pod)]


def always_restarts(api: Api) -> Any:
    """With Always a container that succeeds is started again, too."""
    api.pod("exit 0", restartPolicy="Always")
    pod = api.until(f"pods/{api.name}", lambda pod: pick(pod, "status.containerStatuses.0.restartCount"))
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    last = pick(pod, "status.containerStatuses.0.lastState.terminated.reason")
    return [last, pick(pod, "status.phase")]


def crash_loop(api: Api) -> Any:
    """A container that ends again and again waits in CrashLoopBackOff."""
    api.pod("exit 1", restartPolicy="Always")
    reason = "status.containerStatuses.0.state.waiting.reason"
    pod = api.until(f"pods/{api.name}", lambda pod: pick(pod, reason) == "CrashLoopBackOff")
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    return [
        pick(pod, "status.phase"),
        pick(pod, "status.containerStatuses.0.state.waiting.message")[:30],
        _types(pod),
    ]


def init_containers(api: Api) -> Any:
    """Init containers run one after the other, before the others."""
    inits = [api.container("first", "echo 1"), api.container("second", "echo 2")]
    api.pod("echo 3", initContainers=inits)
    pod = api.until_phase("Succeeded")
    states = [
        pick(s, "name", "ready", "state.terminated.reason") for s in pod["status"]["initContainerStatuses"]
    ]
    return [states, [_log(api, container=name) for name in ("first", "second", "main")], _types(pod)]


def init_container_fails(api: Api) -> Any:
    """A pod whose init container fails is Failed, and the others never start."""
    api.pod(initContainers=[api.container("first", "exit 4")])
    pod = api.until_phase("Failed")
    states = pick(
        pod, "status.initContainerStatuses.0.state.terminated.exitCode", "status.containerStatuses.0.state"
    )
    return [states, _types(pod)]


def two_containers(api: Api) -> Any:
    """A pod with two containers ends with the last, and is Failed when one failed."""
    api.pod(containers=[api.container("good"), api.container("bad", "exit 5")])
    pod = api.until_phase("Failed")
    return sorted(
        [s["name"], s["state"]["terminated"]["exitCode"]] for s in pod["status"]["containerStatuses"]
    )


def deadline(api: Api) -> Any:
    """A pod over its activeDeadlineSeconds is Failed with DeadlineExceeded."""
    api.pod(_WAIT, activeDeadlineSeconds=1)
    pod = api.until_phase("Failed")
    return pick(pod, "status.reason", "status.message")


def unschedulable(api: Api) -> Any:
    """A pod that fits nowhere is Pending, with the reason in a condition."""
    api.pod(nodeSelector={"no": "where"})
    pod = api.until_condition(f"pods/{api.name}", "PodScheduled", "False")
    found = [[type_, status, reason] for type_, status, reason, _ in conditions(pod)]
    api.delete(f"pods/{api.name}")
    return [found, pick(pod, "status.phase")]


def unschedulable_event(api: Api) -> Any:
    """And an event says it, too."""
    api.pod(nodeSelector={"no": "where"})
    query = {"fieldSelector": f"involvedObject.name={api.name}"}
    event = api.until("events", lambda found: found["items"], **query)["items"][0]
    api.delete(f"pods/{api.name}")
    return pick(event, "reason", "type", "involvedObject.kind", "reportingComponent")


def config_missing(api: Api) -> Any:
    """A container whose ConfigMap isn't there waits in CreateContainerConfigError, and starts when it is."""
    source = {"configMapKeyRef": {"name": api.name, "key": "a"}}
    api.pod("echo $A", main={"env": [{"name": "A", "valueFrom": source}]})
    waiting = "status.containerStatuses.0.state.waiting"
    pod = api.until(
        f"pods/{api.name}", lambda pod: pick(pod, f"{waiting}.reason") == "CreateContainerConfigError"
    )
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    return [pick(pod, f"{waiting}.message"), pick(pod, "status.phase")]


def config_key_missing(api: Api) -> Any:
    """So does one whose ConfigMap lacks the key."""
    api.make("configmaps", data={"other": "1"})
    source = {"configMapKeyRef": {"name": api.name, "key": "a"}}
    api.pod("echo $A", main={"env": [{"name": "A", "valueFrom": source}]})
    waiting = "status.containerStatuses.0.state.waiting"
    pod = api.until(
        f"pods/{api.name}", lambda pod: pick(pod, f"{waiting}.reason") == "CreateContainerConfigError"
    )
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    return pick(pod, f"{waiting}.message")


_CONFIG = {"volumeMounts": [{"name": "v", "mountPath": "/tmp/config"}]}


def config_volume(api: Api) -> Any:
    """A ConfigMap's keys are files of a volume, which nobody can write to; text and binary."""
    api.make("configmaps", data={"a": "of a", "b.txt": "of b"}, binaryData={"c": "b2YgYw=="})
    script = "cd /tmp/config; ls; cat a b.txt c; echo; stat -Lc %a a; touch a || echo read-only"
    api.pod(script, main=_CONFIG, volumes=[{"name": "v", "configMap": {"name": api.name}}])
    api.until_phase("Succeeded")
    return [line for line in _log(api).splitlines() if "touch" not in line]


def config_volume_items(api: Api) -> Any:
    """A volume may take some of the keys, under other names, with other permissions."""
    api.make("configmaps", data={"a": "of a", "b": "of b", "c": "of c"})
    items = [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 256}]
    script = "cd /tmp/config; ls; ls x; cat x/y z; echo; stat -Lc %a x/y z"
    source = {"name": api.name, "items": items, "defaultMode": 292}
    api.pod(script, main=_CONFIG, volumes=[{"name": "v", "configMap": source}])
    api.until_phase("Succeeded")
    return _log(api).splitlines()


def config_volume_missing(api: Api) -> Any:
    """A pod with a volume of a ConfigMap that isn't there waits, an event says so, and starts when it is."""
    api.pod("cat /tmp/config/a", main=_CONFIG, volumes=[{"name": "v", "configMap": {"name": api.name}}])
    event = _failed_mount(api)
    state = "status.containerStatuses.0.state.waiting"
    pod = api.until(f"pods/{api.name}", lambda pod: pick(pod, state))
    api.make("configmaps", data={"a": "there"})
    api.until_phase("Succeeded")
    return [event, pick(pod, "status.phase", state), _log(api)]


def config_volume_key_missing(api: Api) -> Any:
    """So does one whose ConfigMap lacks a key."""
    api.make("configmaps", data={"a": "there"})
    source = {"name": api.name, "items": [{"key": "no", "path": "no"}]}
    api.pod(main=_CONFIG, volumes=[{"name": "v", "configMap": source}])
    event = _failed_mount(api)
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    return event


def config_volume_optional(api: Api) -> Any:
    """What is optional may be missing: the ConfigMap, or a key of it."""
    api.make("configmaps", data={"a": "there"})
    sources = [
        {"name": "none", "optional": True},
        {"name": api.name, "optional": True, "items": [{"key": k, "path": k} for k in ("a", "b")]},
    ]
    volumes = [{"name": f"v{n}", "configMap": source} for n, source in enumerate(sources)]
    mounts = [{"name": f"v{n}", "mountPath": f"/tmp/{n}"} for n in range(2)]
    api.pod("ls /tmp/0 /tmp/1", main={"volumeMounts": mounts}, volumes=volumes)
    api.until_phase("Succeeded")
    return _log(api).splitlines()


def _failed_mount(api: Api) -> Any:
    query = {"fieldSelector": f"involvedObject.name={api.name},reason=FailedMount"}
    event = api.until("events", lambda found: found["items"], **query)["items"][0]
    return pick(event, "type", "message", "involvedObject.kind", "source.component")


def variables(api: Api) -> Any:
    """Variables come from values, ConfigMaps, Secrets, the pod itself and one another."""
    api.make("configmaps", data={"a": "of config"})
    api.make("secrets", stringData={"b": "of secret"})
    env = [
        {"name": "PLAIN", "value": "plain"},
        {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": api.name, "key": "a"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": api.name, "key": "b"}}},
        {
            "name": "OPTIONAL",
            "valueFrom": {"configMapKeyRef": {"name": "none", "key": "a", "optional": True}},
        },
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['case']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory"}}},
        {"name": "TOGETHER", "value": "$(PLAIN) and $(UNKNOWN) and $$(PLAIN)"},
    ]
    resources = {"requests": {"memory": "16Mi"}}
    api.pod("env | grep -E '^(PLAIN|CONFIG|SECRET|OPTIONAL|NAME|SPACE|LABEL|CPU|TOGETHER)=' | sort",
            main={"env": env, "resources": resources})  # fmt: skip
    api.until_phase("Succeeded")
    return _log(api).splitlines()


def variables_of_maps(api: Api) -> Any:
    """envFrom takes all keys of a ConfigMap, with a prefix; env wins over it."""
    api.make("configmaps", data={"A": "1", "B": "2"})
    sources = [
        {"prefix": "P_", "configMapRef": {"name": api.name}},
        {"configMapRef": {"name": "no", "optional": True}},
    ]
    env = [{"name": "P_B", "value": "mine"}]
    api.pod("env | grep ^P_ | sort", main={"envFrom": sources, "env": env})
    api.until_phase("Succeeded")
    return _log(api).splitlines()


def command_is_expanded(api: Api) -> Any:
    """$(VARIABLE) in command and args is expanded."""
    main = {
        "command": ["/bin/echo", "$(A)"], "args": ["$(B)", "$$(A)", "$(C)"],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    }  # fmt: skip
    api.pod(main=main)
    api.until_phase("Succeeded")
    return _log(api)


def working_directory(api: Api) -> Any:
    """workingDir is where a container begins."""
    api.pod("pwd", main={"workingDir": "/tmp"})
    api.until_phase("Succeeded")
    return _log(api)


def log_options(api: Api) -> Any:
    """Logs can be had in part: tailLines, limitBytes."""
    api.pod("for i in 1 2 3 4; do echo line $i; done")
    api.until_phase("Succeeded")
    return [_log(api), _log(api, tailLines=2), _log(api, tailLines=0), _log(api, limitBytes=8)]


def log_with_times(api: Api) -> Any:
    """timestamps puts a time before each line."""
    api.pod("echo one; echo two")
    api.until_phase("Succeeded")
    answer = api.get(f"pods/{api.name}/log", timestamps="true")
    return [line.partition(" ")[2] for line in answer.body.splitlines()]


def log_since(api: Api) -> Any:
    """sinceSeconds leaves older lines out."""
    api.pod("echo one")
    api.until_phase("Succeeded")
    answer = api.get(f"pods/{api.name}/log", sinceSeconds=3600)
    return [answer.code, answer.body if answer.code == 200 else None]


def log_has_both_streams(api: Api) -> Any:
    """Standard output and standard error are in one log."""
    api.pod("echo out; echo err >&2")
    api.until_phase("Succeeded")
    return sorted(_log(api).splitlines())


def log_is_followed(api: Api) -> Any:
    """follow goes on until the container ends."""
    api.pod("echo first; sleep 0.3; echo last")
    api.until(f"pods/{api.name}", lambda pod: pick(pod, "status.phase") != "Pending")
    return _log(api, follow="true")


def log_of_previous(api: Api) -> Any:
    """previous is the log of the container before."""
    api.pod("echo attempt; exit 1", restartPolicy="Always")
    api.until(f"pods/{api.name}", lambda pod: pick(pod, "status.containerStatuses.0.restartCount"))
    found = api.until(f"pods/{api.name}/log", lambda text: "attempt" in text, previous="true")
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    return found


def log_of_no_previous(api: Api) -> Any:
    """Without one it is 400."""
    api.pod()
    api.until_phase("Succeeded")
    return said(api.get(f"pods/{api.name}/log", previous="true"))


def events_of_a_run(api: Api) -> Any:
    """The scheduler and the kubelet tell what they did."""
    api.pod()
    api.until_phase("Succeeded")
    query = {"fieldSelector": f"involvedObject.name={api.name}"}
    wanted = {"Scheduled", "Created", "Started"}
    found = api.until("events", lambda f: {e["reason"] for e in f["items"]} >= wanted, **query)["items"]
    event = next(e for e in found if e["reason"] == "Started")
    fields = ("type", "involvedObject.kind", "involvedObject.apiVersion", "involvedObject.fieldPath",
              "source.component", "reportingComponent", "count")  # fmt: skip
    return pick(event, *fields)


def generation_is_observed(api: Api) -> Any:
    """The status says which generation of the pod it is about."""
    api.pod()
    pod = api.until_phase("Succeeded")
    return pick(pod, "metadata.generation", "status.observedGeneration")


def node_of_pod(api: Api) -> Any:
    """A pod that ran says on which node, at which addresses, and since when."""
    api.pod()
    pod = api.until_phase("Succeeded")
    return [
        bool(pick(pod, path))
        for path in ("spec.nodeName", "status.hostIP", "status.podIP", "status.startTime")
    ]


def termination_grace(api: Api) -> Any:
    """A container gets SIGTERM first, and its grace to end by itself."""
    found = [_deleted_while_it_runs(api, "echo told; exit 0", 20), _log(api)]
    api.made(api.patch(f"pods/{api.name}", {"metadata": {"finalizers": None}}))
    return found


def termination_by_force(api: Api) -> Any:
    """A container that doesn't end in its grace is killed."""
    found = _deleted_while_it_runs(api, "", 1)
    api.made(api.patch(f"pods/{api.name}", {"metadata": {"finalizers": None}}))
    return found


def _deleted_while_it_runs(api: Api, on_term: str, grace_s: int) -> Any:
    """How the container ended; a finalizer holds the pod, so that it can be looked at."""
    api.pod(
        f"trap '{on_term}' TERM; echo ready; while :; do sleep 0.05; done",
        metadata={"finalizers": ["example.com/hold"]},
        terminationGracePeriodSeconds=grace_s,
    )
    api.until_phase("Running")
    api.until(f"pods/{api.name}/log", lambda text: "ready" in text)
    api.delete(f"pods/{api.name}")
    pod = api.until(f"pods/{api.name}", lambda pod: pick(pod, "status.containerStatuses.0.state.terminated"))
    return _terminated(pod)
