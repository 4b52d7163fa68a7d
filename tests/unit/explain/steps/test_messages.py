"""Messages of kubelets, runtimes and registries that no recording has."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Finding
from gpuyard.explain.ladder import climb
from gpuyard.explain.output.diagnosis import Diagnosis
from gpuyard.explain.placement import explain
from gpuyard.explain.run_objects import RunEnd, RunObjects
from gpuyard.explain.steps.admission import find_admission
from gpuyard.explain.steps.devices import find_devices
from gpuyard.explain.steps.image import find_image, registry_of
from gpuyard.explain.steps.nodes import find_nodes
from gpuyard.explain.steps.process import find_process
from gpuyard.explain.steps.quota import find_quota
from gpuyard.explain.steps.start import find_start
from gpuyard.explain.steps.volumes import find_volumes
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot
from gpuyard.workloads.outcome import Reason

IMAGE = "registry.example.com/team/train:1"


def job(**spec: Any) -> dict[str, Any]:
    template = {"containers": [{"name": "main", "image": IMAGE}], **spec}
    return {
        "metadata": {"name": "a", "namespace": "ml", "uid": "j"},
        "spec": {"template": {"spec": template}},
    }


def pod(state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    statuses = [{"name": "main", "state": state, **status.pop("container", {})}] if state else []
    return {
        "metadata": {"name": "a-1", "namespace": "ml", "uid": "p"},
        "spec": {"nodeName": "n1", **job()["spec"]["template"]["spec"]},
        "status": {"phase": "Pending", "containerStatuses": statuses, **status},
    }


def waiting(reason: str, message: str) -> dict[str, Any]:
    return pod({"waiting": {"reason": reason, "message": message}})


def event(reason: str, message: str, uid: str = "p", version: str = "1") -> dict[str, Any]:
    return {
        "metadata": {"name": f"e{version}", "resourceVersion": version},
        "involvedObject": {"uid": uid},
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-01-31T12:00:00Z",
    }


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
         "image_unauthorized"),
        ("pull access denied, repository does not exist or may require authorization: server message: "
         "insufficient_scope: authorization failed", "image_unauthorized"),
        ("UNAUTHORIZED: authentication required", "image_unauthorized"),
        ("no match for platform in manifest: not found", "image_platform"),
        ("unexpected status code 429 Too Many Requests - toomanyrequests: reached your limit", "image_rate"),
        ("http: server gave HTTP response to HTTPS client", "registry_plain"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority",
         "registry_certificate"),
        ("dial tcp: lookup registry.example.com: no such host", "registry_unreachable"),
        ("write /var/lib/containerd/x: no space left on device", "node_disk"),
        ("manifest unknown", "image_not_found"),
        ("something nobody has seen", "image_pull"),
    ],
)  # fmt: skip
def test_why_an_image_is_not_pulled(message: str, cause: str) -> None:
    failed = f'failed to pull and unpack image "{IMAGE}": {message}'
    text = f'Back-off pulling image "{IMAGE}": ErrImagePull: {failed}'
    found = find_image(RunObjects(job(), waiting("ImagePullBackOff", text)))
    assert found is not None
    assert (found.step, found.cause) == ("image", cause)
    assert found.evidence == (f"the runtime says: {message}",)
    assert found.remedies


@pytest.mark.parametrize(
    ("secrets", "is_yard", "words"),
    [
        ((), False, "--image-pull-secret NAME"),
        (("team",), False, "see that Secret team is there"),
        ((), True, "`podman login registry.example.com` as the yard's user"),
    ],
)
def test_who_may_pull(secrets: tuple[str, ...], is_yard: bool, words: str) -> None:
    waits = waiting("ErrImagePull", "denied: requested access to the resource is denied")
    waits["spec"]["imagePullSecrets"] = [{"name": name} for name in secrets]
    found = find_image(RunObjects(job(), waits, is_yard=is_yard))
    assert found is not None
    first = found.remedies[0]
    assert words in str(first.on_yard() if is_yard else first)


def commands(finding: Finding | None) -> list[list[str]]:
    """Of the remedies, as a shell reads them."""
    assert finding is not None
    return [shlex.split(remedy.command) for remedy in finding.remedies if remedy.command]


def test_a_command_is_one_whatever_the_run_names_things() -> None:
    """The API takes any text for an image and a ConfigMap; whoever is asked for help pastes the command."""
    registry = "evil.example.com; reboot #"
    image = pod({"waiting": {"reason": "ErrImagePull", "message": "401 Unauthorized"}})
    image["spec"]["containers"][0]["image"] = f"{registry}/a:1"
    (login,) = commands(find_image(RunObjects(job(), image)))
    assert login[-2:] == [f"--docker-server={registry}", "…"]
    name = "a; reboot #"
    held = waiting("CreateContainerConfigError", f'configmap "{name}" not found')
    (make,) = commands(find_start(RunObjects(job(), held)))
    assert make == ["kubectl", "create", "configmap", name, "-n", "ml", "--from-file=…"]


def test_before_1_32_only_the_event_says_why() -> None:
    events = [event("Failed", f'Failed to pull image "{IMAGE}": manifest unknown')]
    found = find_image(RunObjects(job(), waiting("ImagePullBackOff", ""), events))
    assert found is not None and found.cause == "image_not_found"


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("debian:12", "docker.io"),
        ("team/train", "docker.io"),
        ("localhost/x", "localhost"),
        ("h:5/x:1", "h:5"),
    ],
)
def test_the_registry_of_an_image(image: str, registry: str) -> None:
    assert registry_of(image) == registry


@pytest.mark.parametrize(
    ("message", "cause", "headline"),
    [
        ("couldn't find key token in ConfigMap ml/settings", "no_key", "ConfigMap settings has no key token"),
        ('failed: chdir to cwd ("/work") set in config.json failed: no such file or directory', "no_workdir",
         "its folder /work can't be entered"),
        ('exec /app/run: exec format error', "architecture", "another CPU architecture than node n1's"),
        ('container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root',
         "named_user", "the image's is app"),
        ("container init was OOM-killed (memory limit too low?)", "memory_limit", "too low"),
        ("something nobody has seen", "start", "node n1 can't start its container"),
    ],
)  # fmt: skip
def test_why_a_container_does_not_start(message: str, cause: str, headline: str) -> None:
    found = find_start(RunObjects(job(), waiting("CreateContainerError", message)))
    assert found is not None and found.cause == cause
    assert headline in found.headline


def test_a_container_that_never_began_says_why_at_its_end() -> None:
    ended = {
        "terminated": {"reason": "StartError", "exitCode": 128, "message": 'exec: "x": permission denied'}
    }
    found = find_start(RunObjects(job(), pod(ended, phase="Failed")))
    assert found is not None and found.cause == "not_executable"


def test_what_the_runtime_says_of_cuda_is_the_cause_of_a_start_that_is_not_known_otherwise() -> None:
    cause = Diagnosis(
        Cause.REQUIREMENT_UNSATISFIED, "unsatisfied condition: cuda>=13", "the driver is old", "update"
    )
    text = "error running prestart hook #0: unsatisfied condition: cuda>=13"
    ladder = climb(RunObjects(job(), waiting("RunContainerError", text)), None, causes=(cause,))
    assert ladder.blocking is not None
    assert (ladder.blocking.step, ladder.blocking.cause) == ("start", "RequirementUnsatisfied")
    assert str(ladder.blocking.remedies[0]) == "update"


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        ("OutOfnvidia.com/gpu", "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, "
         "requested: 2, used: 8, capacity: 8", "out_of_devices"),
        ("UnexpectedAdmissionError", "Allocate failed due to rpc error: code = Unknown desc = boom, "
         "which is unexpected", "allocate_failed"),
    ],
)  # fmt: skip
def test_what_a_kubelet_refuses(reason: str, message: str, cause: str) -> None:
    found = find_devices(RunObjects(job(), pod(phase="Failed", reason=reason, message=message)))
    assert found is not None
    assert (found.cause, found.owner and found.owner.name) == (cause, "n1")


@pytest.mark.parametrize(
    ("limit", "failed", "remedy"),
    [(6, False, "wait: it is made again"), (6, True, "submit it"), (0, False, "submit it")],
)
def test_what_is_refused_and_tried_again_need_not_be_submitted(limit: int, failed: bool, remedy: str) -> None:
    tried = job()
    tried["spec"]["backoffLimit"] = limit
    tried["status"] = {"conditions": [{"type": "Failed", "status": "True"}] if failed else []}
    found = find_devices(RunObjects(tried, pod(phase="Failed", reason="UnexpectedAdmissionError")))
    assert found is not None and remedy in str(found.remedies[0])


def test_a_sick_device_under_a_running_pod() -> None:
    sick = {"resourceID": "GPU-1", "health": "Unhealthy", "message": "ECC errors"}
    health = [sick, {"resourceID": "GPU-2", "health": "Healthy"}]
    container = {"allocatedResourcesStatus": [{"name": "nvidia.com/gpu", "resources": health}]}
    ladder = climb(RunObjects(job(), pod({"running": {}}, phase="Running", container=container)), None)
    assert ladder.threat is not None and ladder.blocking is None
    assert (ladder.threat.step, ladder.threat.cause) == ("devices", "unhealthy_device")
    assert ladder.threat.evidence == ("nvidia.com/gpu GPU-1: Unhealthy: ECC errors",)
    states = {step["step"]: (step["state"], step["headline"]) for step in ladder.to_json()}
    assert states["devices"] == ("passed", ladder.threat.headline)
    assert states["process"] == ("under_way", None)
    assert climb(RunObjects(job(), pod({"running": {}}, phase="Running")), None).threat is None


def test_a_sick_device_holds_what_no_longer_runs() -> None:
    """Nor does a program that isn't there for the moment run on: it is to start again on that device."""
    health = [{"resourceID": "GPU-1", "health": "Unhealthy"}]
    container = {"allocatedResourcesStatus": [{"name": "nvidia.com/gpu", "resources": health}]}
    waits = pod({"waiting": {"reason": "ContainerCreating"}}, phase="Pending", container=container)
    ladder = climb(RunObjects(job(), waits), None)
    assert ladder.threat is None and ladder.blocking is not None
    assert ladder.blocking.cause == "unhealthy_device"


SINCE = "2026-01-31T12:03:00Z"


def sick_node(uuid: str = "GPU-1", since: str = SINCE) -> dict[str, Any]:
    faults = [{"index": 3, "uuid": uuid, "reason": "XID 79", "since": since}]
    return {"metadata": {"name": "n1", "annotations": {"gpuyard.io/gpu-health": json.dumps(faults)}}}


def gpu_pod(devices: str = "", ended: str = "") -> dict[str, Any]:
    state = {"terminated": {"exitCode": 1, "finishedAt": ended}} if ended else {"running": {}}
    found = pod(state, phase="Failed" if ended else "Running", startTime="2026-01-31T12:00:00Z")
    found["spec"]["containers"] = [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]
    found["metadata"]["annotations"] = {"gpuyard.io/devices": devices}
    return found


def fault_of(pod: dict[str, Any], node: dict[str, Any]) -> Finding | None:
    return find_devices(RunObjects(job(), pod, node=node))


def test_a_gpu_that_died_under_a_run() -> None:
    found = fault_of(gpu_pod("GPU-1,GPU-2"), sick_node())
    assert found is not None
    said = "XID 79 (GPU has fallen off the bus) since 2026-01-31 12:03 UTC"
    assert (found.cause, found.headline) == ("unhealthy_device", f"GPU 3 of node n1 is unhealthy: {said}")
    assert [remedy.by for remedy in found.remedies] == ["you", "operator"]
    assert len(found.evidence) == 1


def test_a_share_of_a_gpu_that_died_has_its_fault() -> None:
    found = fault_of(gpu_pod("GPU-1::2"), sick_node())
    assert found is not None and found.headline.startswith("GPU 3 of node n1 is unhealthy: XID 79")


def test_a_part_of_a_gpu_that_died_has_the_gpu_s_fault_and_what_mends_it() -> None:
    part = gpu_pod("MIG-1")
    health = {"resourceID": "MIG-1", "health": "Unhealthy"}
    resource = {"name": "nvidia.com/mig-1g.10gb", "resources": [health]}
    part["status"]["containerStatuses"][0]["allocatedResourcesStatus"] = [resource]
    found = fault_of(part, sick_node())
    assert found is not None and found.headline == "devices that it holds on node n1 are unhealthy"
    assert found.evidence[1].startswith("GPU 3 of node n1 is unhealthy: XID 79")
    assert "reboot" in found.remedies[1].text
    alone = fault_of(part, sick_node(since="2026-01-31T11:00:00Z"))
    assert alone is not None and len(alone.evidence) == 1 and "kernel log" in alone.remedies[1].text


def test_another_gpu_of_the_node_is_not_the_runs() -> None:
    assert fault_of(gpu_pod("GPU-1,GPU-2"), sick_node("GPU-7")) is None


def test_where_nobody_tells_which_gpus_a_run_has_it_says_so() -> None:
    found = fault_of(gpu_pod(), sick_node("GPU-7"))
    assert found is not None
    assert "isn't told" in found.evidence[1]


@pytest.mark.parametrize(
    ("ended", "since", "told"),
    [
        ("2026-01-31T12:02:58Z", SINCE, True),
        ("2026-01-31T12:01:00Z", SINCE, False),
        ("2026-01-31T12:05:00Z", SINCE, True),
        ("2026-01-31T12:05:00Z", "2026-01-31T11:59:00Z", False),
        ("2026-01-31T12:05:00Z", "yesterday", False),
    ],
)
def test_only_what_happened_under_a_run_ended_it(ended: str, since: str, told: bool) -> None:
    assert (fault_of(gpu_pod("GPU-1", ended), sick_node(since=since)) is not None) is told


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ('admission webhook "v.example.com" denied the request: no', "webhook"),
        ('Internal error occurred: failed calling webhook "v.example.com": Post: timeout', "webhook_away"),
        ("unable to create new content in namespace ml because it is being terminated", "namespace_ending"),
        ('Pod "a-1" is invalid: spec.containers[0].image: Required value', "invalid"),
        ('pods "a-1" is forbidden: a rule of somebody', "refused"),
    ],
)
def test_what_a_server_refuses(said: str, cause: str) -> None:
    objects = RunObjects(job(), None, [event("FailedCreate", f"Error creating: {said}", uid="j")])
    found = find_admission(objects)
    assert found is not None and found.cause == cause
    assert find_quota(objects) is None
    if "webhook" in cause:
        # Its name is that of an entry in some configuration, validating or mutating.
        assert found.owner is None and "v.example.com" in found.headline


@pytest.mark.parametrize(
    ("spec", "fields", "counts"),
    [
        ({}, {"scopes": ["BestEffort"]}, True),
        ({}, {"scopes": ["NotBestEffort"]}, False),
        ({"activeDeadlineSeconds": 5}, {"scopes": ["NotTerminating"]}, False),
        ({"priorityClassName": "low"},
         {"scopeSelector": {"matchExpressions": [
             {"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]}}, True),
        ({}, {"scopeSelector": {"matchExpressions": [
             {"scopeName": "PriorityClass", "operator": "Exists"}]}}, False),
    ],
)  # fmt: skip
def test_a_quota_counts_pods_of_its_scope_only(
    spec: dict[str, Any], fields: dict[str, Any], counts: bool
) -> None:
    quota = {
        "metadata": {"name": "q", "namespace": "ml"},
        "spec": fields,
        "status": {"hard": {"pods": "1"}, "used": {"pods": "1"}},
    }
    assert (find_quota(RunObjects(job(**spec), quotas=[quota])) is not None) == counts


@pytest.mark.parametrize(
    ("annotation", "holds"),
    [
        ("storageclass.kubernetes.io/is-default-class", False),
        ("storageclass.beta.kubernetes.io/is-default-class", False),
        ("example.com/is-default-class", True),
    ],
)
def test_a_claim_that_names_no_class_gets_the_default_one(annotation: str, holds: bool) -> None:
    claim = {"metadata": {"name": "data", "namespace": "ml"}, "spec": {}, "status": {"phase": "Pending"}}
    default = {"metadata": {"name": "disk", "annotations": {annotation: "true"}}, "provisioner": "x"}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    found = find_volumes(RunObjects(job(volumes=volumes), claims=[claim], classes=[default]))
    assert (found is not None and found.cause == "no_default_class") is holds


def test_a_volume_that_another_node_has() -> None:
    text = 'Multi-Attach error for volume "pv-1" Volume is already used by pod(s) other'
    waits = waiting("ContainerCreating", "")
    found = find_volumes(RunObjects(job(), waits, [event("FailedAttachVolume", text)]))
    assert found is not None
    assert (found.cause, found.owner and found.owner.name) == ("attached_elsewhere", "pv-1")


def unplaced(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    waits = pod(conditions=[condition])
    del waits["spec"]["nodeName"]
    return waits


def test_without_the_right_to_see_nodes_the_scheduler_speaks() -> None:
    said = (
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient nvidia.com/gpu. preemption: x"
    )
    found = find_nodes(RunObjects(job(), unplaced(said), unreadable=frozenset({"all nodes"})), None)
    assert found is not None
    assert found.headline == (
        "none of 3 nodes takes it: 1 node(s) were unschedulable, 2 Insufficient nvidia.com/gpu"
    )
    assert "you may not list nodes" in found.evidence[0]


def test_pods_that_may_not_be_seen_are_what_is_in_the_way() -> None:
    """Our own arithmetic has room, because it lacks the pods of other namespaces."""
    status = {"allocatable": {"nvidia.com/gpu": "8", "cpu": "8", "pods": "9"}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    node = {"metadata": {"name": "n1"}, "spec": {}, "status": {**status, **ready}}
    waits = unplaced("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    fits = replace(explain(PodRequest.of(waits), Snapshot.of([node], ())), incomplete=True)
    found = find_nodes(RunObjects(job(), waits, unreadable=frozenset({"all pods"})), fits)
    assert found is not None
    assert (found.cause, found.headline) == (
        "busy", "pods of other namespaces, which you may not list, hold what it needs",
    )  # fmt: skip
    assert found.evidence[0] == "the scheduler says: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    assert "incomplete" in found.evidence[-1]
    # With every pod counted it is the scheduler that is late.
    found = find_nodes(RunObjects(job(), waits), replace(fits, incomplete=False))
    assert found is not None and found.cause == "scheduler"


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (127, "ExitCode", "the shell found no such command"),
        (135, "Signal", "/dev/shm is full"),
        (137, "Signal", "SIGKILL"),
        (1, "ExitCode", "exited"),
    ],
)
def test_what_an_exit_code_means(code: int, reason: str, words: str) -> None:
    found = find_process(RunObjects(job(), pod()), RunEnd(Reason(reason), "exited", code, ("a", "b")), ())
    assert found is not None and words in found.headline
    assert found.evidence == ("its last lines: a", "  b")


def test_a_whole_line_in_quotes_is_no_program() -> None:
    text = 'exec: "python a.py; echo done": executable file not found in $PATH'
    found = find_start(RunObjects(job(), waiting("RunContainerError", text)))
    assert found is not None and found.cause is Cause.NO_EXECUTABLE
    assert [str(remedy).endswith("`gpuyard run --shell bash -- '…'`") for remedy in found.remedies] == [True]


def test_a_command_that_the_shell_misses_is_looked_for_in_the_image_only_where_there_is_one() -> None:
    ended = RunEnd(Reason.EXIT_CODE, "exited with 127", 127)
    in_image = find_process(RunObjects(job(), pod()), ended, ())
    assert in_image is not None and "image" in str(in_image.remedies[0])
    process = pod()
    process["spec"]["runtimeClassName"] = RUNTIME_CLASS_PROCESS
    on_host = find_process(RunObjects(job(), process), ended, ())
    assert on_host is not None and "image" not in str(on_host.remedies[0])
    assert "PATH" in str(on_host.remedies[0])


@pytest.mark.parametrize("reason", ["Evicted", "Preempted", "Drained", "NodeLost", "NodeRebooted"])
def test_who_was_ended_by_others_waits_only_where_another_attempt_follows(reason: str) -> None:
    firsts = []
    for is_followed in (True, False):
        ended = RunEnd(Reason(reason), "", None, is_followed=is_followed)
        found = find_process(RunObjects(job(), pod()), ended, ())
        assert found is not None
        firsts.append(str(found.remedies[0]).partition(":")[0].partition(";")[0])
    assert firsts == ["wait", "submit it again"]


def test_who_was_out_of_time_gets_more() -> None:
    found = find_process(RunObjects(job(), pod()), RunEnd(Reason.DEADLINE_EXCEEDED, "", None), ())
    assert found is not None and "--timeout" in str(found.remedies[0])


@pytest.mark.parametrize(
    ("reason", "helps"),
    [("RankMissing", "room for all"), ("EndedWithAnother", "logs of all"), ("Unused", "--idle")],
)
def test_what_ended_by_the_launcher_has_a_remedy(reason: str, helps: str) -> None:
    found = find_process(RunObjects(job(), pod()), RunEnd(Reason(reason), "", 195), ())
    assert found is not None and helps in str(found.remedies[0])


def test_evidence_is_no_dump() -> None:
    many = "\n".join("x" for _ in range(40))
    ended = RunEnd(Reason.EXIT_CODE, "exited with 1", 1, tuple(many.splitlines()))
    assert len(climb(RunObjects(job(), pod(phase="Failed")), None, ended=ended, over=True).lines()) <= 17
