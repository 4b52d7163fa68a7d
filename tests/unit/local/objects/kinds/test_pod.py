import copy
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.local.objects.kinds.fields import invalid_object
from gpuyard.local.objects.kinds.job import JOB
from gpuyard.local.objects.kinds.kind import CreateContext
from gpuyard.local.objects.kinds.pod import POD

from .conftest import create, update

Manifest = dict[str, Any]


def _at(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A copy with one value set; numbers in the path are list indexes, `-` appends."""
    result = copy.deepcopy(manifest)
    holder: Any = result
    *parents, last = path.split(".")
    for part, following in zip(parents, [*parents[1:], last], strict=True):
        if isinstance(holder, list):
            holder = holder[int(part)]
        else:
            holder = holder.setdefault(part, [] if following in ("-", "0") else {})
    if isinstance(holder, list):
        holder.append(value)
    else:
        holder[last] = value
    return result


def test_defaults_as_kubernetes_fills_them_in(pod: Manifest) -> None:
    pod = _at(
        pod, "spec.containers.0.resources", {"limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": 2}}
    )
    stored, found = create(POD, pod)
    assert found == []
    spec = stored["spec"]
    container = spec["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "2"}
    assert (container["terminationMessagePath"], container["terminationMessagePolicy"]) == (
        "/dev/termination-log",
        "File",
    )
    assert spec["terminationGracePeriodSeconds"] == 30
    assert (spec["schedulerName"], spec["dnsPolicy"]) == ("default-scheduler", "ClusterFirst")
    assert (spec["enableServiceLinks"], spec["securityContext"]) == (True, {})
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert [(t["key"], t["effect"], t["tolerationSeconds"]) for t in spec["tolerations"]] == [
        ("node.kubernetes.io/not-ready", "NoExecute", 300),
        ("node.kubernetes.io/unreachable", "NoExecute", 300),
    ]
    assert stored["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}


def test_a_pods_own_toleration_of_eviction_stands(pod: Manifest) -> None:
    stored, _ = create(POD, _at(pod, "spec.tolerations", [{"operator": "Exists"}]))
    assert stored["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_a_status_that_comes_with_a_new_pod_is_dropped(pod: Manifest) -> None:
    stored, _ = create(POD, pod | {"status": {"phase": "Running", "podIP": "1.2.3.4"}})
    assert stored["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


@pytest.mark.parametrize(
    ("image", "policy"),
    [("a", "Always"), ("a:latest", "Always"), ("r:5000/a", "Always"), ("a:1", "IfNotPresent"),
     ("a@sha256:0", "IfNotPresent")],
)  # fmt: skip
def test_the_pull_policy_follows_the_tag(pod: Manifest, image: str, policy: str) -> None:
    stored, _ = create(POD, _at(pod, "spec.containers.0.image", image))
    assert stored["spec"]["containers"][0]["imagePullPolicy"] == policy


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({}, "BestEffort"),
        ({"limits": {"nvidia.com/gpu": "1"}}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service(pod: Manifest, resources: Any, quality: str) -> None:
    stored, _ = create(POD, _at(pod, "spec.containers.0.resources", resources))
    assert stored["status"]["qosClass"] == quality


def _context(*classes: Manifest) -> CreateContext:
    by_name = {c["metadata"]["name"]: c for c in classes}
    default = next((c for c in classes if c.get("globalDefault")), None)
    return CreateContext(by_name.get, lambda: default)


def test_priority_comes_from_the_class(pod: Manifest) -> None:
    low = {"metadata": {"name": "low"}, "value": -5, "preemptionPolicy": "Never"}
    usual = {"metadata": {"name": "usual"}, "value": 7, "globalDefault": True}
    asked, _ = create(POD, _at(pod, "spec.priorityClassName", "low"), _context(low, usual))
    assert (asked["spec"]["priority"], asked["spec"]["preemptionPolicy"]) == (-5, "Never")
    silent, _ = create(POD, pod, _context(low, usual))
    assert (silent["spec"]["priorityClassName"], silent["spec"]["priority"]) == ("usual", 7)
    system, _ = create(POD, _at(pod, "spec.priorityClassName", "system-node-critical"))
    assert system["spec"]["priority"] == 2_000_001_000


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"priorityClassName": "high"}, 'pods "p" is forbidden: no PriorityClass with name high was found'),
        ({"priority": 5}, "the integer value of priority (5) must not be provided in pod spec"),
        ({"preemptionPolicy": "Never"}, "the string value of PreemptionPolicy (Never) must not be provided"),
    ],
)
def test_priority_that_admission_refuses(pod: Manifest, spec: Manifest, message: str) -> None:
    pod["spec"] |= spec
    with pytest.raises(errors.Forbidden) as caught:
        create(POD, pod)
    assert message in caught.value.message


_C = "spec.containers.0"
_BROKEN: list[tuple[str, Any, str, str]] = [
    ("spec.containers", [], "spec.containers", "Required value"),
    (f"{_C}.name", "", "spec.containers[0].name", "Required value"),
    (f"{_C}.name", "Main", "spec.containers[0].name",
     'Invalid value: "Main": a lowercase RFC 1123 label must consist of'),
    (f"{_C}.image", "", "spec.containers[0].image", "Required value"),
    (f"{_C}.imagePullPolicy", "Often", "spec.containers[0].imagePullPolicy",
     'Unsupported value: "Often": supported values: "Always", "IfNotPresent", "Never"'),
    ("spec.containers.-", {"name": "main", "image": "gpuyard.io/host-process"}, "spec.containers[1].name",
     'Duplicate value: "main"'),
    ("spec.initContainers.-", {"name": "main", "image": "gpuyard.io/host-process"},
     "spec.initContainers[0].name",
     'Duplicate value: "main"'),
    ("spec.restartPolicy", "Sometimes", "spec.restartPolicy",
     'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"'),
    ("spec.activeDeadlineSeconds", 0, "spec.activeDeadlineSeconds",
     "Invalid value: 0: must be between 1 and 2147483647, inclusive"),
    (f"{_C}.env.-", {"value": "x"}, "spec.containers[0].env[0].name", "Required value"),
    (f"{_C}.env.-", {"name": "A=B"}, "spec.containers[0].env[0].name",
     'Invalid value: "A=B": a valid environment variable name must consist only of'),
    (f"{_C}.env.-", {"name": "A", "valueFrom": {}}, "spec.containers[0].env[0].valueFrom",
     'Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`'),
    (f"{_C}.env.-", {"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
     "spec.containers[0].env[0].valueFrom",
     'Invalid value: "": may not be specified when `value` is not empty'),
    (f"{_C}.env.-", {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.containers"}}},
     "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
     'Invalid value: "spec.containers": error converting fieldPath'),
    (f"{_C}.env.-", {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}},
     "spec.containers[0].env[0].valueFrom.secretKeyRef.key", "Required value"),
    (f"{_C}.envFrom.-", {"prefix": "A"}, "spec.containers[0].envFrom",
     'Invalid value: "": must specify one of: `configMapRef` or `secretRef`'),
    (f"{_C}.ports.-", {"containerPort": 70000}, "spec.containers[0].ports[0].containerPort",
     "Invalid value: 70000: must be between 1 and 65535, inclusive"),
    (f"{_C}.ports.-", {"containerPort": 1, "protocol": "ICMP"}, "spec.containers[0].ports[0].protocol",
     'Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"'),
    (f"{_C}.volumeMounts.-", {"name": "v", "mountPath": "/v"}, "spec.containers[0].volumeMounts[0].name",
     'Not found: "v"'),
    ("spec.volumes.-", {"name": "V_1"}, "spec.volumes[0].name",
     'Invalid value: "V_1": a lowercase RFC 1123 label'),
    ("spec.volumes.-", {"name": "v", "configMap": {}}, "spec.volumes[0].configMap.name", "Required value"),
    ("spec.volumes.-", {"name": "v", "configMap": {"name": "c"}, "emptyDir": {}}, "spec.volumes[0].configMap",
     "may not specify more than 1 volume type"),
    ("spec.volumes.-", {"name": "v", "configMap": {"name": "c", "defaultMode": 0o1000}},
     "spec.volumes[0].configMap.defaultMode", "Invalid value: 512: must be a number between 0 and 0777"),
    ("spec.volumes.-", {"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "../x"}]}},
     "spec.volumes[0].configMap.items[0].path", 'Invalid value: "../x": must not contain \'..\''),
    (f"{_C}.resources.limits", {"nvidia.com/gpu": "500m"},
     "spec.containers[0].resources.limits[nvidia.com/gpu]", 'Invalid value: "500m": must be an integer'),
    (f"{_C}.resources.requests", {"nvidia.com/gpu": "1"}, "spec.containers[0].resources.limits",
     "Required value: Limit must be set for non overcommitable resources"),
    (f"{_C}.resources", {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}},
     "spec.containers[0].resources.requests",
     'Invalid value: "1": must be equal to nvidia.com/gpu limit of 2'),
    (f"{_C}.resources", {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
     "spec.containers[0].resources.requests",
     'Invalid value: "2": must be less than or equal to cpu limit of 1'),
    (f"{_C}.resources.limits", {"memory": "-1"}, "spec.containers[0].resources.limits[memory]",
     'Invalid value: "-1": must be greater than or equal to 0'),
    (f"{_C}.resources.limits", {"gpu": "1"}, "spec.containers[0].resources.limits[gpu]",
     'Invalid value: "gpu": must be a standard resource type or fully qualified'),
    ("spec.nodeSelector", {"a b": "c"}, "spec.nodeSelector",
     'Invalid value: "a b": name part must consist of'),
    ("spec.nodeSelector", {"a": "b c"}, "spec.nodeSelector", 'Invalid value: "b c": a valid label must be'),
    ("spec.tolerations.-", {"value": "x"}, "spec.tolerations[0].operator",
     'Invalid value: "": operator must be Exists when `key` is empty'),
    ("spec.tolerations.-", {"key": "k", "operator": "Exists", "value": "x"}, "spec.tolerations[0].operator",
     "value must be empty when `operator` is 'Exists'"),
    ("spec.tolerations.-", {"key": "k", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1},
     "spec.tolerations[0].effect",
     "Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"),
    ("spec.tolerations.-", {"key": "k", "effect": "Never"}, "spec.tolerations[0].effect",
     'Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'),
    ("spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", {},
     "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
     "Required value: must have at least one node selector term"),
    ("spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
     [{"matchExpressions": [{"key": "a", "operator": "In"}]}],
     "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
     ".matchExpressions[0].values", "Required value: must be specified when `operator` is 'In' or 'NotIn'"),
    ("spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution", [{"weight": 0}],
     "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight",
     "Invalid value: 0: must be in the range 1-100"),
    ("spec.schedulingGates", [{"name": "a"}, {"name": "a"}], "spec.schedulingGates[1]",
     'Duplicate value: "a"'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "where", "message"), _BROKEN)
def test_kubernetes_rules(pod: Manifest, path: str, value: Any, where: str, message: str) -> None:
    _, found = create(POD, _at(pod, path, value))
    assert any(e.path == where and message in e.message for e in found), found


_REFUSED: list[tuple[str, Any, str]] = [
    ("spec.runtimeClassName", "nvidia", "spec.runtimeClassName"),
    ("spec.runtimeClassName", None, "spec.runtimeClassName"),
    (f"{_C}.image", "pytorch/pytorch", "spec.containers[0].image"),
    ("spec.volumes.-", {"name": "v", "nfs": {"server": "s", "path": "/"}}, "spec.volumes[0].nfs"),
    ("spec.volumes.-", {"name": "v", "secret": {"secretName": "a"}}, "spec.volumes[0].secret"),
    ("spec.volumes.-", {"name": "v", "projected": {"sources": []}}, "spec.volumes[0].projected"),
    ("spec.volumes.-", {"name": "v", "emptyDir": {"medium": "HugePages"}}, "spec.volumes[0].emptyDir.medium"),
    ("spec.hostNetwork", True, "spec.hostNetwork"),
    ("spec.hostPID", True, "spec.hostPID"),
    ("spec.hostIPC", True, "spec.hostIPC"),
    ("spec.hostUsers", False, "spec.hostUsers"),
    ("spec.shareProcessNamespace", True, "spec.shareProcessNamespace"),
    ("spec.os", {"name": "windows"}, "spec.os.name"),
    ("spec.ephemeralContainers", [{"name": "e", "image": "gpuyard.io/host-process"}],
     "spec.ephemeralContainers"),
    ("spec.resourceClaims", [{"name": "c"}], "spec.resourceClaims"),
    (f"{_C}.resources.claims", [{"name": "c"}], "spec.containers[0].resources.claims"),
    (
        f"{_C}.readinessProbe",
        {"httpGet": {"port": 80, "protocol": "H2C"}},
        "spec.containers[0].readinessProbe.httpGet.protocol",
    ),
    (
        f"{_C}.livenessProbe",
        {"grpc": {"port": 80, "mode": "TLS"}},
        "spec.containers[0].livenessProbe.grpc.mode",
    ),
    (f"{_C}.lifecycle", {"stopSignal": "SIGINT"}, "spec.containers[0].lifecycle.stopSignal"),
    (f"{_C}.ports.-", {"containerPort": 80, "hostPort": 80}, "spec.containers[0].ports[0].hostPort"),
    (f"{_C}.volumeDevices", [{"name": "d", "devicePath": "/d"}], "spec.containers[0].volumeDevices"),
    ("spec.initContainers.-", {"name": "i", "image": "gpuyard.io/host-process", "restartPolicy": "Always"},
     "spec.initContainers[0].restartPolicy"),
    ("spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution", [{"topologyKey": "z"}],
     "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"),
    ("spec.topologySpreadConstraints",
     [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
     "spec.topologySpreadConstraints[0]"),
]  # fmt: skip


def test_terminals_are_for_processes_of_the_host(pod: Manifest) -> None:
    pod["spec"]["containers"][0] |= {"stdin": True, "stdinOnce": True}
    assert not create(POD, _at(pod, f"{_C}.tty", True))[1]
    del pod["spec"]["runtimeClassName"]
    pod["spec"]["containers"][0]["image"] = "busybox"
    assert not create(POD, pod)[1]
    assert "spec.containers[0].tty" in [e.path for e in create(POD, _at(pod, f"{_C}.tty", True))[1]]


@pytest.mark.parametrize(("path", "value", "where"), _REFUSED)
def test_what_the_yard_would_not_honour_is_refused(pod: Manifest, path: str, value: Any, where: str) -> None:
    _, found = create(POD, _at(pod, path, value))
    assert where in [e.path for e in found]
    assert all("this yard" in e.message or "process" in e.message for e in found)


def test_the_refusal_of_a_runtime_class_says_which_there_is(pod: Manifest) -> None:
    pod["spec"]["runtimeClassName"] = "nvidia"
    error = invalid_object(POD, "p", create(POD, pod)[1])
    assert error.message == (
        'Pod "p" is invalid: spec.runtimeClassName: Invalid value: "nvidia": this yard has one runtime '
        "class, gpuyard-process; leave it out to run an image"
    )
    assert error.details["causes"][0]["field"] == "spec.runtimeClassName"


@pytest.fixture
def image_pod(pod: Manifest) -> Manifest:
    del pod["spec"]["runtimeClassName"]
    pod["spec"]["containers"][0]["image"] = "python:3.12"
    return pod


def test_images_need_no_runtime_class(image_pod: Manifest) -> None:
    assert create(POD, image_pod)[1] == []


def test_a_process_has_no_image(image_pod: Manifest) -> None:
    image_pod["spec"]["runtimeClassName"] = "gpuyard-process"
    (error,) = create(POD, image_pod)[1]
    assert error.path == "spec.containers[0].image"
    assert "leave out runtimeClassName" in error.message


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (f"{_C}.securityContext", {"privileged": True}, "spec.containers[0].securityContext.privileged"),
        (f"{_C}.securityContext", {"procMount": "Unmasked"}, "spec.containers[0].securityContext.procMount"),
        ("spec.securityContext", {"sysctls": [{"name": "a", "value": "1"}]}, "spec.securityContext.sysctls"),
        ("spec.securityContext", {"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}},
         "spec.securityContext.seccompProfile.type"),
        ("spec.volumes.-", {"name": "v", "hostPath": {"path": "/a", "type": "File"}},
         "spec.volumes[0].hostPath.type"),
    ],
)  # fmt: skip
def test_what_podman_would_not_be_told_is_refused(
    image_pod: Manifest, path: str, value: Any, where: str
) -> None:
    assert [e.path for e in create(POD, _at(image_pod, path, value))[1]] == [where]


def test_without_podman_images_are_refused_with_the_reason(image_pod: Manifest) -> None:
    context = CreateContext(no_images=lambda: "podman isn't installed on this machine")
    with pytest.raises(errors.Invalid) as caught:
        POD.prepare_create(image_pod, context)
    assert "can't run images, since podman isn't installed on this machine: install podman" in str(
        caught.value
    )
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": image_pod["spec"]}}}
    with pytest.raises(errors.Invalid) as caught:
        JOB.prepare_create(job, context)
    assert caught.value.details["causes"][0]["field"] == "spec.template.spec.runtimeClassName"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.securityContext", {"runAsUser": 1000, "fsGroup": 5}),
        (f"{_C}.securityContext", {"privileged": False, "capabilities": {"drop": ["ALL"]}}),
        ("spec.volumes.-", {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}),
        ("spec.volumes.-", {"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "b/c"}]}}),
        ("spec.hostname", "j-0"),
        ("spec.imagePullSecrets", [{"name": "s"}]),
        ("spec.schedulingGates", [{"name": "queue"}]),
        (f"{_C}.ports.-", {"containerPort": 29500, "name": "rendezvous"}),
        (
            f"{_C}.env.-",
            {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a/b']"}}},
        ),
        (f"{_C}.envFrom.-", {"configMapRef": {"name": "c"}}),
    ],
)
def test_what_it_does_take(pod: Manifest, path: str, value: Any) -> None:
    assert create(POD, _at(pod, path, value))[1] == []


def test_a_gated_pod_has_no_node(pod: Manifest) -> None:
    pod["spec"] |= {"nodeName": "n", "schedulingGates": [{"name": "g"}]}
    assert [e.path for e in create(POD, pod)[1]] == ["spec.nodeName"]


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        (f"{_C}.env.-", {"name": "A"}, "spec", "pod updates may not change fields other than"),
        ("spec.nodeName", "other", "spec", "changed: spec.nodeName"),
        ("spec.containers.-", {"name": "b", "image": "gpuyard.io/host-process"}, "spec.containers",
         "pod updates may not add or remove containers"),
        ("spec.activeDeadlineSeconds", 11, "spec.activeDeadlineSeconds",
         "Invalid value: 11: must be less than or equal to previous value"),
        ("spec.activeDeadlineSeconds", None, "spec.activeDeadlineSeconds",
         "must not update from a positive integer to nil value"),
        ("spec.schedulingGates", [{"name": "new"}], "spec.schedulingGates[0].name",
         "only deletion is allowed, but found new scheduling gate 'new'"),
    ],
)  # fmt: skip
def test_what_an_update_may_not_change(
    pod: Manifest, path: str, value: Any, where: str, message: str
) -> None:
    pod["spec"] |= {"activeDeadlineSeconds": 10, "schedulingGates": [{"name": "queue"}]}
    old, _ = create(POD, pod)
    found = update(POD, old, _at(old, path, value))
    assert any(e.path == where and message in e.message for e in found), found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.activeDeadlineSeconds", 1),
        ("spec.tolerations.-", {"key": "new", "operator": "Exists"}),
        ("spec.schedulingGates", []),
        ("spec.nodeSelector", {"zone": "a"}),
        ("metadata.labels", {"new": "label"}),
        ("status.phase", "Running"),
    ],
)
def test_what_an_update_may_change(pod: Manifest, path: str, value: Any) -> None:
    pod["spec"] |= {"activeDeadlineSeconds": 10, "schedulingGates": [{"name": "queue"}]}
    old, _ = create(POD, pod)
    assert update(POD, old, _at(old, path, value)) == []


def test_a_deadline_may_come_later(pod: Manifest) -> None:
    old, _ = create(POD, pod)
    assert update(POD, old, _at(old, "spec.activeDeadlineSeconds", 1)) == []
    assert update(POD, old, _at(old, "spec.nodeSelector", {"a": "b"})) != []


def test_tolerations_that_everyone_gets_stay(pod: Manifest) -> None:
    stored, _ = create(POD, pod)
    changed = copy.deepcopy(stored)
    changed["spec"]["tolerations"] = []
    assert update(POD, stored, changed) == []


def test_a_gated_pod_says_so(pod: Manifest) -> None:
    pod["spec"]["schedulingGates"] = [{"name": "example.com/wait"}]
    (condition,) = create(POD, pod)[0]["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "PodScheduled",
        "False",
        "SchedulingGated",
    )


def test_a_negative_grace_is_a_second(pod: Manifest) -> None:
    pod["spec"]["terminationGracePeriodSeconds"] = -5
    stored, found = create(POD, pod)
    assert (stored["spec"]["terminationGracePeriodSeconds"], found) == (1, [])
