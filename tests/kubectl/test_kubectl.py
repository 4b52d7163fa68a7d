"""What people type: kubectl against the yard's API server."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from gpuyard.kube.objects import (
    CONFIG_MAPS,
    DISRUPTION_BUDGETS,
    EVENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    Manifest,
)

from .conftest import TIMEOUT_S, Yard

pytestmark = pytest.mark.kubectl


def pod(name: str = "trainer", *containers: str) -> Manifest:
    made = [
        {
            "name": container,
            "image": "gpuyard.io/host-process",
            "command": ["sleep", "1"],
            "resources": {"limits": {"nvidia.com/gpu": 1}},
        }
        for container in containers or ("main",)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"runtimeClassName": "gpuyard-process", "restartPolicy": "Never", "containers": made},
    }


def job(name: str = "sweep") -> Manifest:
    template = {"spec": pod()["spec"]}
    spec = {"suspend": True, "completions": 3, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def create(yard: Yard, namespace: str, *manifests: Manifest) -> str:
    items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    return yard.kubectl("-n", namespace, "create", "-f", "-", stdin=items)


def run_pod(yard: Yard, namespace: str, name: str = "trainer") -> None:
    """Lets the pod run on a node, as scheduler and kubelet would."""
    state = {
        "name": "main",
        "ready": True,
        "restartCount": 2,
        "state": {"running": {}},
        "image": "",
        "imageID": "",
    }
    status = {"status": {"phase": "Running", "containerStatuses": [state]}}
    yard.do(yard.api.bind(namespace, name, "node-a"))
    yard.do(yard.api.patch(PODS, name, status, namespace, subresource="status"))


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def next_lines(process: subprocess.Popen[str], count: int) -> list[list[str]]:
    assert process.stdout is not None
    return [process.stdout.readline().split() for _ in range(count)]


def until_watching(process: subprocess.Popen[str]) -> None:
    """Reads until kubectl, started with -v=6, logs that its watch is answered."""
    assert process.stdout is not None
    for line in process.stdout:
        if "watch=true" in line:
            return
    raise AssertionError("kubectl ended without a watch")


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_create_and_get_with_kubernetes_own_columns(yard: Yard, namespace: str) -> None:
    made = create(yard, namespace, pod(), job())
    assert made.splitlines() == ["pod/trainer created", "job.batch/sweep created"]
    run_pod(yard, namespace)
    [head, row] = rows(yard.kubectl("-n", namespace, "get", "pods"))
    assert head == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row[:4] == ["trainer", "1/1", "Running", "2"]
    [head, row] = rows(yard.kubectl("-n", namespace, "get", "po", "trainer", "-o", "wide"))
    assert head[5:7] == ["IP", "NODE"]
    assert row[6] == "node-a"
    [head, row] = rows(yard.kubectl("-n", namespace, "get", "jobs"))
    assert head == ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"]
    assert row[2] == "0/3"
    everything = yard.kubectl("-n", namespace, "get", "all")
    assert "pod/trainer" in everything
    assert "job.batch/sweep" in everything
    assert "NAMESPACE" in yard.kubectl("get", "pods", "-A").splitlines()[0]


def test_get_of_the_other_kinds(yard: Yard, namespace: str) -> None:
    yard.do(yard.api.create(NODES, {"metadata": {"name": "node-a"}, "status": {"capacity": {"cpu": "4"}}}))
    settings = {"metadata": {"name": "settings", "namespace": namespace}, "data": {"a": "1", "b": "2"}}
    yard.do(yard.api.create(CONFIG_MAPS, settings))
    secret = {"metadata": {"name": "key", "namespace": namespace}, "stringData": {"token": "hush"}}
    yard.do(yard.api.create(SECRETS, secret))
    for kind, columns in {
        "nodes": ["NAME", "STATUS", "ROLES", "AGE", "VERSION"],
        "namespaces": ["NAME", "STATUS", "AGE"],
        "configmaps": ["NAME", "DATA", "AGE"],
        "secrets": ["NAME", "TYPE", "DATA", "AGE"],
        "priorityclasses": ["NAME", "VALUE", "GLOBAL-DEFAULT", "AGE"],
    }.items():
        assert rows(yard.kubectl("-n", namespace, "get", kind))[0][: len(columns)] == columns
    assert rows(yard.kubectl("-n", namespace, "get", "cm"))[1][:2] == ["settings", "2"]
    assert yard.kubectl("-n", namespace, "get", "secret", "key", "-o", "jsonpath={.data.token}") == "aHVzaA=="


def test_get_by_selector_and_in_pieces(yard: Yard, namespace: str) -> None:
    create(yard, namespace, *(pod(f"p{number}") for number in range(5)))
    run_pod(yard, namespace, "p3")
    names = yard.kubectl("-n", namespace, "get", "pods", "-o", "name", "--chunk-size=2")
    assert names.splitlines() == [f"pod/p{number}" for number in range(5)]
    by_label = yard.kubectl("-n", namespace, "get", "pods", "-l", "app in (p1,p2)", "-o", "name")
    assert by_label.splitlines() == ["pod/p1", "pod/p2"]
    running = ("--field-selector", "status.phase=Running", "-o", "name")
    assert yard.kubectl("-n", namespace, "get", "pods", *running).split() == ["pod/p3"]


def test_get_says_what_is_not_there(yard: Yard, namespace: str) -> None:
    message = yard.kubectl("-n", namespace, "get", "pod", "nobody", fails=True)
    assert message == 'Error from server (NotFound): pods "nobody" not found\n'
    message = yard.kubectl("-n", namespace, "get", "statefulsets", fails=True)
    assert """the server doesn't have a resource type "statefulsets\"""" in message


def test_create_refuses_what_is_wrong(yard: Yard, namespace: str) -> None:
    misspelt = pod() | {"spec": pod()["spec"] | {"restartPolice": "Never"}}
    message = yard.kubectl("-n", namespace, "create", "-f", "-", stdin=misspelt, fails=True)
    assert 'unknown field "spec.restartPolice"' in message
    broken = pod() | {"spec": pod()["spec"] | {"restartPolicy": "Sometimes"}}
    message = yard.kubectl("-n", namespace, "create", "-f", "-", stdin=broken, fails=True)
    assert 'The Pod "trainer" is invalid: spec.restartPolicy: Unsupported value: "Sometimes"' in message
    create(yard, namespace, pod())
    message = yard.kubectl("-n", namespace, "create", "-f", "-", stdin=pod(), fails=True)
    assert 'pods "trainer" already exists' in message
    message = yard.kubectl("-n", "nowhere", "create", "-f", "-", stdin=pod(), fails=True)
    assert 'namespaces "nowhere" not found' in message


def test_a_dry_run_of_create(yard: Yard, namespace: str) -> None:
    made = yard.kubectl("-n", namespace, "create", "-f", "-", "--dry-run=server", "-o", "name", stdin=pod())
    assert made == "pod/trainer\n"
    assert yard.kubectl("-n", namespace, "get", "pods", "-o", "name") == ""


def test_describe_shows_events(yard: Yard, namespace: str) -> None:
    create(yard, namespace, pod())
    made = yard.do(yard.api.get(PODS, "trainer", namespace))
    event = {
        "metadata": {"name": "trainer.1", "namespace": namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "trainer",
            "namespace": namespace,
            "uid": made["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": "FailedScheduling",
        "message": "0/1 nodes are available",
        "count": 3,
        "firstTimestamp": made["metadata"]["creationTimestamp"],
        "lastTimestamp": made["metadata"]["creationTimestamp"],
        "source": {"component": "default-scheduler"},
    }
    yard.do(yard.api.create(EVENTS, event))
    described = yard.kubectl("-n", namespace, "describe", "pod", "trainer")
    assert "Runtime Class Name:  gpuyard-process" in described
    assert "nvidia.com/gpu:  1" in described
    assert "FailedScheduling" in described
    assert "0/1 nodes are available" in described
    create(yard, namespace, job())
    assert "Completions:      3" in yard.kubectl("-n", namespace, "describe", "job", "sweep")
    listed = rows(yard.kubectl("-n", namespace, "get", "events"))
    assert listed[0] == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert listed[1][1:4] == ["Warning", "FailedScheduling", "pod/trainer"]


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", {"spec": {"parallelism": 2}}),
        ("merge", {"spec": {"parallelism": 2}}),
        ("json", [{"op": "replace", "path": "/spec/parallelism", "value": 2}]),
    ],
)
def test_patch(yard: Yard, namespace: str, kind: str, patch: Any) -> None:
    create(yard, namespace, job())
    arguments = ("patch", "job", "sweep", f"--type={kind}", "-p", orjson.dumps(patch).decode())
    assert yard.kubectl("-n", namespace, *arguments) == "job.batch/sweep patched\n"
    assert yard.kubectl("-n", namespace, *arguments) == "job.batch/sweep patched (no change)\n"
    assert yard.do(yard.api.get(JOBS, "sweep", namespace))["spec"]["parallelism"] == 2


def test_patch_of_a_status(yard: Yard, namespace: str) -> None:
    create(yard, namespace, job())
    yard.kubectl(
        "-n", namespace, "patch", "job", "sweep", "--subresource=status", "--type=merge",
        "-p", '{"status":{"active":1},"spec":{"parallelism":9}}',
    )  # fmt: skip
    found = yard.do(yard.api.get(JOBS, "sweep", namespace))
    assert (found["status"]["active"], found["spec"]["parallelism"]) == (1, 1)


def test_label_and_annotate(yard: Yard, namespace: str) -> None:
    create(yard, namespace, pod())
    assert yard.kubectl("-n", namespace, "label", "pod", "trainer", "team=vision") == "pod/trainer labeled\n"
    yard.kubectl("-n", namespace, "annotate", "pod", "trainer", "note=two words")
    metadata = yard.do(yard.api.get(PODS, "trainer", namespace))["metadata"]
    assert metadata["labels"] == {"app": "trainer", "team": "vision"}
    assert metadata["annotations"] == {"note": "two words"}
    yard.kubectl("-n", namespace, "label", "pod", "trainer", "team-")
    assert yard.do(yard.api.get(PODS, "trainer", namespace))["metadata"]["labels"] == {"app": "trainer"}
    message = yard.kubectl("-n", namespace, "label", "pod", "trainer", "team=a b", fails=True)
    assert "a valid label must be an empty string or consist of alphanumeric characters" in message


def test_apply_and_replace(yard: Yard, namespace: str) -> None:
    for parallelism, said in ((1, "created"), (4, "configured")):
        wanted = job()
        wanted["spec"]["parallelism"] = parallelism
        assert said in yard.kubectl("-n", namespace, "apply", "-f", "-", stdin=wanted)
    found = yard.do(yard.api.get(JOBS, "sweep", namespace))
    assert found["spec"]["parallelism"] == 4
    found["spec"]["parallelism"] = 5
    assert "replaced" in yard.kubectl("-n", namespace, "replace", "-f", "-", stdin=found)
    stale = yard.kubectl("-n", namespace, "replace", "-f", "-", stdin=found, fails=True)
    assert "the object has been modified" in stale


def test_delete_waits_for_what_holds_the_object(yard: Yard, namespace: str) -> None:
    held = pod() | {"metadata": {"name": "trainer", "finalizers": ["gpuyard.io/test"]}}
    create(yard, namespace, held)
    deleting = yard.start("-n", namespace, "delete", "pod", "trainer")
    # Newer ones say from where.
    assert next_lines(deleting, 1)[0][:3] == ["pod", '"trainer"', "deleted"]
    yard.kubectl("-n", namespace, "wait", "pod/trainer", "--for=jsonpath={.metadata.deletionTimestamp}")
    assert deleting.poll() is None
    yard.do(yard.api.patch(PODS, "trainer", {"metadata": {"finalizers": None}}, namespace))
    assert deleting.wait(60) == 0
    stop(deleting)


def test_delete(yard: Yard, namespace: str) -> None:
    create(yard, namespace, pod("a"), pod("b"), pod("c"), job())
    assert yard.kubectl("-n", namespace, "delete", "pod", "a").startswith('pod "a" deleted')
    assert yard.kubectl("-n", namespace, "delete", "job", "sweep").startswith('job.batch "sweep" deleted')
    run_pod(yard, namespace, "b")
    yard.kubectl("-n", namespace, "delete", "pod", "b", "--wait=false", "--grace-period=5")
    found = yard.do(yard.api.get(PODS, "b", namespace))["metadata"]
    assert found["deletionGracePeriodSeconds"] == 5
    assert "Terminating" in yard.kubectl("-n", namespace, "get", "pod", "b")
    yard.kubectl("-n", namespace, "delete", "pods", "--all", "--force", "--grace-period=0")
    assert yard.kubectl("-n", namespace, "get", "all", "-o", "name") == ""
    assert "forbidden" in yard.kubectl("delete", "namespace", "default", fails=True)


def test_wait_for_a_condition(yard: Yard, namespace: str) -> None:
    create(yard, namespace, job())
    waiting = yard.start("-n", namespace, "wait", "--for=condition=Complete", "job/sweep", "-v=6")
    until_watching(waiting)
    now = yard.do(yard.api.get(JOBS, "sweep", namespace))["metadata"]["creationTimestamp"]
    done = {
        "succeeded": 3,
        "startTime": now,
        "completionTime": now,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now}
            for kind in ("SuccessCriteriaMet", "Complete")
        ],
    }
    yard.do(yard.api.patch(JOBS, "sweep", {"status": done}, namespace, subresource="status"))
    assert "job.batch/sweep condition met" in waiting.communicate(timeout=TIMEOUT_S)[0]
    assert waiting.returncode == 0
    arguments = ("wait", "--for=condition=Failed", "job/sweep", "--timeout=1s")
    assert "timed out waiting" in yard.kubectl("-n", namespace, *arguments, fails=True)


def test_wait_for_the_end(yard: Yard, namespace: str) -> None:
    create(yard, namespace, pod())
    waiting = yard.start("-n", namespace, "wait", "--for=delete", "pod/trainer", "-v=6")
    until_watching(waiting)
    yard.do(yard.api.delete(PODS, "trainer", namespace))
    assert "pod/trainer condition met" in waiting.communicate(timeout=TIMEOUT_S)[0]
    assert waiting.returncode == 0


def test_logs(yard: Yard, namespace: str) -> None:
    create(yard, namespace, pod(), pod("two", "left", "right"))
    assert "does not have a host assigned" in yard.kubectl("-n", namespace, "logs", "trainer", fails=True)
    for name in ("trainer", "two"):
        yard.do(yard.api.bind(namespace, name, "node-a"))
    assert yard.kubectl("-n", namespace, "logs", "trainer").splitlines()[0] == "line 1"
    assert yard.kubectl("-n", namespace, "logs", "trainer", "--tail=2") == "line 4\nline 5\n"
    assert "line 5" in yard.kubectl("-n", namespace, "logs", "two", "-c", "right")
    assert "line 5" in yard.kubectl("-n", namespace, "logs", "-l", "app=trainer")
    yard.kubectl("-n", namespace, "logs", "trainer", "--timestamps", "--since-time=2026-01-01T00:00:00Z")
    assert yard.logs.asked[-1].timestamps and yard.logs.asked[-1].since is not None
    previous = yard.kubectl("-n", namespace, "logs", "trainer", "--previous", fails=True)
    assert 'previous terminated container "main" in pod "trainer" not found' in previous
    following = yard.start("-n", namespace, "logs", "-f", "trainer", "--tail=1")
    assert next_lines(following, 1) == [["line", "5"]]
    yard.loop.call_soon_threadsafe(yard.logs.more.set)
    assert following.communicate(timeout=60)[0] == "line 6\n"


def test_get_watch(yard: Yard, namespace: str) -> None:
    create(yard, namespace, pod("old"))
    watching = yard.start("-n", namespace, "get", "pods", "-w", "--output-watch-events")
    try:
        [head, first] = next_lines(watching, 2)
        assert head == ["EVENT", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        assert first[:4] == ["ADDED", "old", "0/1", "Pending"]
        create(yard, namespace, pod("new"))
        assert next_lines(watching, 1)[0][:4] == ["ADDED", "new", "0/1", "Pending"]
        yard.do(yard.api.bind(namespace, "new", "node-a"))
        assert next_lines(watching, 1)[0][:2] == ["MODIFIED", "new"]
        yard.do(yard.api.delete(PODS, "new", namespace, grace_period_s=0))
        assert next_lines(watching, 1)[0][:2] == ["DELETED", "new"]
    finally:
        stop(watching)


def test_get_watch_only(yard: Yard, namespace: str) -> None:
    create(yard, namespace, pod("old"))
    watching = yard.start("-n", namespace, "get", "pods", "--watch-only", "-v=6")
    try:
        until_watching(watching)
        create(yard, namespace, pod("new"))
        [head, row] = next_lines(watching, 2)
        assert head == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        assert row[:3] == ["new", "0/1", "Pending"]
    finally:
        stop(watching)


def test_version_and_resources(yard: Yard) -> None:
    version = orjson.loads(yard.kubectl("version", "-o", "json"))["serverVersion"]
    assert version["gitVersion"].startswith("v1.37.0+gpuyard-")
    resources = [row[0] for row in rows(yard.kubectl("api-resources", "--no-headers"))]
    assert resources == [
        "configmaps", "events", "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes", "pods",
        "secrets", "serviceaccounts", "services", "deployments", "replicasets",
        "selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews",
        "horizontalpodautoscalers", "jobs", "leases", "endpointslices", "poddisruptionbudgets",
        "priorityclasses", "storageclasses",
    ]  # fmt: skip
    assert "batch/v1" in yard.kubectl("api-versions").split()


def test_explain(yard: Yard) -> None:
    explained = yard.kubectl("explain", "job.spec.template.spec.containers.resources.limits")
    assert "FIELD: limits" in explained
    assert "maximum amount of compute resources" in explained


def test_without_the_token_kubectl_is_told_to_log_in(yard: Yard) -> None:
    message = yard.kubectl("get", "pods", "--token=wrong", "--kubeconfig", _without_token(yard), fails=True)
    assert "You must be logged in to the server" in message


def _without_token(yard: Yard) -> str:
    config = orjson.loads((yard.folder / "kubeconfig").read_bytes())
    config["users"][0]["user"] = {}
    file = yard.folder / "no-token"
    file.write_bytes(orjson.dumps(config))
    return str(file)


@pytest.mark.parametrize(
    ("arguments", "resource", "name", "expected"),
    [
        (("configmap", "made", "--from-literal=a=b"), "configmap", "made", {"data": {"a": "b"}}),
        (
            ("secret", "generic", "made", "--from-literal=a=b"),
            "secret",
            "made",
            {"data": {"a": "Yg=="}, "type": "Opaque"},
        ),
        (
            ("secret", "docker-registry", "pull", "--docker-username=u", "--docker-password=p"),
            "secret",
            "pull",
            {"type": "kubernetes.io/dockerconfigjson"},
        ),
        (("serviceaccount", "made"), "serviceaccount", "made", {"kind": "ServiceAccount"}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_create_sends_protobuf(
    yard: Yard, namespace: str, arguments: tuple[str, ...], resource: str, name: str, expected: dict[str, Any]
) -> None:
    assert f"{name} created" in yard.kubectl("create", *arguments, "-n", namespace)
    found = orjson.loads(yard.kubectl("get", resource, name, "-n", namespace, "-o", "json"))
    assert {key: found[key] for key in expected} == expected


def test_create_of_what_has_no_namespace(yard: Yard, namespace: str) -> None:
    other = f"{namespace}-other"
    assert "created" in yard.kubectl("create", "namespace", other)
    assert "created" in yard.kubectl("create", "priorityclass", other, "--value=7", "--description=seven")
    found = orjson.loads(yard.kubectl("get", "priorityclass", other, "-o", "json"))
    assert (found["value"], found["description"], found.get("globalDefault")) == (7, "seven", False)
    assert "deleted" in yard.kubectl("delete", "priorityclass", other)
    assert "deleted" in yard.kubectl("delete", "namespace", other, "--wait=false")


def test_create_job_and_its_refusal_by_the_yard(yard: Yard, namespace: str) -> None:
    # The yard of this test has images; what the job runs is of no matter.
    command = ("create", "job", "made", "--image=busybox", "-n", namespace, "--", "echo", "")
    assert "job.batch/made created" in yard.kubectl(*command)
    job = orjson.loads(yard.kubectl("get", "job", "made", "-n", namespace, "-o", "json"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["command"]) == ("busybox", ["echo", ""])
    assert "already exists" in yard.kubectl(*command, fails=True)


def test_services(yard: Yard, namespace: str) -> None:
    create(yard, namespace, pod())
    exposed = yard.kubectl("-n", namespace, "expose", "pod", "trainer", "--port=80", "--target-port=8000")
    assert exposed == "service/trainer exposed\n"
    yard.kubectl("-n", namespace, "create", "deployment", "web", "--image=i", "--replicas=0", "--port=8000")
    yard.kubectl("-n", namespace, "expose", "deployment", "web")
    found = orjson.loads(yard.kubectl("-n", namespace, "get", "svc", "web", "-o", "json"))["spec"]
    assert (found["selector"], found["ports"][0]["targetPort"]) == ({"app": "web"}, 8000)
    yard.kubectl("-n", namespace, "delete", "service,deployment", "web")
    yard.kubectl("-n", namespace, "create", "service", "clusterip", "names", "--clusterip=None")
    [head, headless, row] = rows(yard.kubectl("-n", namespace, "get", "svc", "-o", "wide"))
    assert head == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]
    assert headless[:5] == ["names", "ClusterIP", "None", "<none>", "<none>"]
    assert row[:2] + row[3:5] == ["trainer", "ClusterIP", "<none>", "80/TCP"]
    assert row[2].startswith("127.96.")
    said = yard.kubectl("-n", namespace, "describe", "service", "trainer")
    assert f"IP:                       {row[2]}" in said
    assert "TargetPort:               8000/TCP" in said
    yard.kubectl("-n", namespace, "set", "selector", "service/trainer", "app=other")
    assert rows(yard.kubectl("-n", namespace, "get", "svc", "trainer"))[1][2] == row[2]


def test_endpoint_slices(yard: Yard, namespace: str) -> None:
    create(yard, namespace, {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8000}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    })  # fmt: skip
    yard.kubectl("-n", namespace, "create", "service", "clusterip", "web", "--tcp=80:http")
    [head, row] = rows(yard.kubectl("-n", namespace, "get", "endpointslices"))
    assert head == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert row[:4] == ["web-1", "IPv4", "8000", "127.0.0.1"]
    assert "127.0.0.1" in yard.kubectl("-n", namespace, "describe", "endpointslice", "web-1")
    assert "Endpoints:" in yard.kubectl("-n", namespace, "describe", "service", "web")


def test_disruption_budgets(yard: Yard, namespace: str) -> None:
    node = f"guarded-{namespace}"
    yard.do(yard.api.create(NODES, {"metadata": {"name": node}}))
    create(yard, namespace, pod())
    yard.do(yard.api.bind(namespace, "trainer", node))
    running = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    yard.do(yard.api.patch(PODS, "trainer", running, namespace, subresource="status"))
    guard = ("create", "poddisruptionbudget", "trainer", "--selector=app=trainer", "--min-available=1")
    assert "poddisruptionbudget.policy/trainer created" in yard.kubectl("-n", namespace, *guard)
    seen = {"status": {"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}
    yard.do(yard.api.patch(DISRUPTION_BUDGETS, "trainer", seen, namespace, subresource="status"))
    listed = yard.kubectl("-n", namespace, "get", "pdb")
    assert "".join(rows(listed)[0]) == "NAMEMINAVAILABLEMAXUNAVAILABLEALLOWEDDISRUPTIONSAGE"
    assert rows(listed)[1][:4] == ["trainer", "1", "N/A", "0"]
    assert "Min available:  1" in yard.kubectl("-n", namespace, "describe", "pdb", "trainer")
    said = yard.kubectl("drain", node, "--force", "--timeout=1s", fails=True)
    assert "Cannot evict pod as it would violate the pod's disruption budget." in said
    allowed = {"status": {"disruptionsAllowed": 1}}
    yard.do(yard.api.patch(DISRUPTION_BUDGETS, "trainer", allowed, namespace, subresource="status"))
    # Nobody ends the pod here; that it may go is what counts.
    yard.kubectl("drain", node, "--force", "--timeout=1s", fails=True)
    going = yard.do(yard.api.get(PODS, "trainer", namespace))
    assert "deletionTimestamp" in going["metadata"]
    yard.kubectl("delete", "node", node)


def test_autoscalers(yard: Yard, namespace: str) -> None:
    pods = {
        "metric": {"name": "gpuyard_service_requests_in_flight"},
        "target": {"type": "AverageValue", "averageValue": "4"},
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "maxReplicas": 8,
        "metrics": [{"type": "Pods", "pods": pods}],
    }
    wanted = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": spec}
    file = {**wanted, "metadata": {"name": "web"}}
    assert "web created" in yard.kubectl("-n", namespace, "apply", "-f", "-", stdin=file)
    listed = yard.kubectl("-n", namespace, "get", "hpa")
    assert "".join(rows(listed)[0]) == "NAMEREFERENCETARGETSMINPODSMAXPODSREPLICASAGE"
    assert rows(listed)[1][:6] == ["web", "Deployment/web", "<unknown>/4", "1", "8", "0"]
    described = yard.kubectl("-n", namespace, "describe", "hpa", "web")
    assert '"gpuyard_service_requests_in_flight" on pods' in described
    assert "Min replicas:" in described
    yard.kubectl("-n", namespace, "create", "deployment", "d", "--image=i")
    # By the use of processors, which a yard doesn't measure; kubectl asks for it in autoscaling/v1. Newer
    # ones try version 2 first, and don't pass on what they were told.
    refused = yard.kubectl("-n", namespace, "autoscale", "deployment", "d", "--max=2", fails=True)
    assert KINDS in refused or "failed to create autoscaling/v2 HPA" in refused


KINDS = "this gpuyard yard serves configmaps, deployments, endpointslices, events,"
CLUSTER_IP = "this yard serves Services of type ClusterIP"
NO_TYPE = "the server doesn't have a resource type"
IMMUTABLE = "field is immutable"
FIXED = "pod updates may not change fields other than"

#: What kubectl can be asked to do and a yard doesn't do, and what it says then. PATH is a file with a
#: ConfigMap.
REFUSED = {
    "create service nodeport s --tcp=80": CLUSTER_IP,
    "create service loadbalancer s --tcp=80": CLUSTER_IP,
    "create service externalname s --external-name=example.com": CLUSTER_IP,
    "create ingress i --rule=a/b=c:80": KINDS,
    "create role r --verb=get --resource=pods": KINDS,
    "create rolebinding r --role=x --user=u": KINDS,
    "create clusterrole r --verb=get --resource=pods": KINDS,
    "create clusterrolebinding r --clusterrole=x --user=u": KINDS,
    "create quota q --hard=cpu=1": KINDS,
    "create cronjob c --image=i --schedule=@hourly": KINDS,
    "create job j --from=cronjob/x": NO_TYPE,
    "create token default": "this gpuyard yard serves no token of serviceaccounts",
    "run -it r --image=i --restart=Never -- sh": "gives terminals to processes of the host only",
    "expose pod trainer --port=80 --type=NodePort": CLUSTER_IP,
    "autoscale job sweep --max=2": "could not find scale subresource",
    "scale job/sweep --replicas=2": "this gpuyard yard serves no scale of jobs",
    "scale statefulset/d --replicas=2": NO_TYPE,
    "rollout status daemonset/d": NO_TYPE,
    "rollout status job/sweep": "no status viewer",
    "rollout undo statefulset/d": NO_TYPE,
    "rollout restart statefulset/d": NO_TYPE,
    "set image pod/trainer main=i": "a process of the host has no image",
    "set image job/sweep main=i": "a process of the host has no image",
    "set env pod/trainer A=B": FIXED,
    "set env job/sweep A=B": IMMUTABLE,
    "set resources pod/trainer --limits=cpu=1": FIXED,
    "set resources job/sweep --limits=cpu=1": IMMUTABLE,
    "set serviceaccount job/sweep other": IMMUTABLE,
    "set selector service/s a=b": 'services "s" not found',
    "set subject clusterrolebinding x --user=u": NO_TYPE,
    "get pods --as=bob": "this gpuyard yard has one user, whom nobody can impersonate",
    "top pod": "Metrics API not available",
    "top node": "Metrics API not available",
    "debug trainer --image=i": "this gpuyard yard serves no ephemeralcontainers of pods",
    "certificate approve c": NO_TYPE,
    "apply --server-side -f PATH": "Server-side apply not available",
}


@pytest.fixture(scope="module")
def with_a_run(yard: Yard) -> str:
    """A namespace with the running pod `trainer` and the job `sweep`, which nobody changes."""
    name = str(
        yard.do(yard.api.create(NAMESPACES, {"metadata": {"generateName": "test-"}}))["metadata"]["name"]
    )
    create(yard, name, pod(), job())
    run_pod(yard, name)
    return name


@pytest.mark.parametrize("line", REFUSED)
def test_what_a_yard_does_not_do_is_refused_clearly(
    yard: Yard, with_a_run: str, tmp_path: Path, line: str
) -> None:
    file = tmp_path / "file"
    file.write_text(CONFIG_MAP)
    arguments = [argument.replace("PATH", str(file)) for argument in line.split()]
    said = yard.kubectl("-n", with_a_run, *arguments, fails=True)
    assert REFUSED[line] in said
    assert "panic" not in said


def test_a_deployment_is_made_scaled_and_changed(yard: Yard, namespace: str) -> None:
    here = ("-n", namespace)
    assert "deployment.apps/d created" in yard.kubectl(
        "create", "deployment", "d", "--image=i", "--replicas=2", *here
    )
    assert "scaled" in yard.kubectl("scale", "deployment/d", "--replicas=3", *here)
    assert "paused" in yard.kubectl("rollout", "pause", "deployment/d", *here)
    assert "resumed" in yard.kubectl("rollout", "resume", "deployment/d", *here)
    assert "restarted" in yard.kubectl("rollout", "restart", "deployment/d", *here)
    assert "image updated" in yard.kubectl("set", "image", "deployment/d", "i=j", *here)
    found = orjson.loads(yard.kubectl("get", "deploy", "d", "-o", "json", *here))
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (3, 6)
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "j"
    assert "replicas: 3" in yard.kubectl("get", "deploy", "d", "--subresource=scale", "-o", "yaml", *here)
    assert "StrategyType:" in yard.kubectl("describe", "deployment", "d", *here)


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\ndata: {a: b}\n"


def test_run(yard: Yard, namespace: str) -> None:
    command = ("run", "made", "--image=busybox", "--restart=Never", "-n", namespace, "--env=A=B")
    assert "pod/made created" in yard.kubectl(*command, "--", "echo", "hello")
    (container,) = orjson.loads(yard.kubectl("get", "pod", "made", "-n", namespace, "-o", "json"))["spec"][
        "containers"
    ]
    assert (container["image"], container["args"]) == ("busybox", ["echo", "hello"])
    assert container["env"] == [{"name": "A", "value": "B"}]


def test_apply_and_what_belongs_to_it(yard: Yard, namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "made.yaml"
    file.write_text(CONFIG_MAP)
    here = ("-n", namespace)
    assert "created" in yard.kubectl("apply", "-f", str(file), *here)
    assert "unchanged" in yard.kubectl("apply", "-f", str(file), *here)
    assert "a: b" in yard.kubectl("apply", "view-last-applied", "configmap/made", *here)
    file.write_text(CONFIG_MAP.replace("a: b", "a: c"))
    yard.kubectl("diff", "-f", str(file), *here, fails=True)
    assert "configured" in yard.kubectl("apply", "-f", str(file), *here)
    assert "configured" in yard.kubectl("apply", "set-last-applied", "-f", str(file), *here)
    assert yard.kubectl("diff", "-f", str(file), *here) == ""
    assert "replaced" in yard.kubectl("replace", "--force", "-f", str(file), *here)
    assert "batch/v1" in yard.kubectl("api-versions")
    yard.kubectl("events", *here)


def test_commands_that_change_an_object(yard: Yard, namespace: str) -> None:
    here = ("-n", namespace)
    yard.kubectl("create", "configmap", "a", "--from-literal=k=1", *here)
    assert "labeled" in yard.kubectl("label", "configmap", "a", "x=y", *here)
    assert "annotated" in yard.kubectl("annotate", "configmap", "a", "note=1", *here)
    assert "patched" in yard.kubectl("patch", "configmap", "a", "-p", '{"data":{"k":"2"}}', *here)
    found = orjson.loads(yard.kubectl("get", "configmap", "a", "-o", "json", *here))
    assert (found["metadata"]["labels"], found["data"]) == ({"x": "y"}, {"k": "2"})
    yard.environment_more = {"EDITOR": "sed -i s/2/3/", "KUBE_EDITOR": 'sed -i \'s/k: "2"/k: "3"/\''}
    assert "edited" in yard.kubectl("edit", "configmap", "a", *here)
    found["data"] = {"k": "4"}
    del found["metadata"]["resourceVersion"]
    assert "replaced" in yard.kubectl("replace", "-f", "-", *here, stdin=found)
    assert yard.kubectl("get", "configmap", "a", "-o", "jsonpath={.data.k}", *here) == "4"
    assert "condition met" in yard.kubectl("wait", "configmap/a", "--for=jsonpath={.data.k}=4", *here)
    assert "deleted" in yard.kubectl("delete", "configmap", "a", *here)


def test_commands_about_a_node(yard: Yard) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "imperative"}}
    yard.kubectl("create", "-f", "-", stdin=node)
    assert "tainted" in yard.kubectl("taint", "node", "imperative", "a=b:NoSchedule")
    assert "cordoned" in yard.kubectl("cordon", "imperative")
    assert "drained" in yard.kubectl("drain", "imperative")
    assert "uncordoned" in yard.kubectl("uncordon", "imperative")
    assert "untainted" in yard.kubectl("taint", "node", "imperative", "a-")
    assert "deleted" in yard.kubectl("delete", "node", "imperative")


def test_who_asks_and_what_it_may_do(yard: Yard, namespace: str) -> None:
    """kubectl sends these in protobuf."""
    for allowed in (
        ("create", "jobs"),
        ("get", "pods/log"),
        ("create", "pods/exec"),
        ("*", "*"),
        ("get", "/version"),
    ):
        assert yard.kubectl("-n", namespace, "auth", "can-i", *allowed) == "yes\n"
    refused = yard.kubectl(
        "-n", namespace, "auth", "can-i", "create", "pods", "--subresource=proxy", fails=True
    )
    assert refused == ""
    listed = rows(yard.kubectl("-n", namespace, "auth", "can-i", "--list"))
    assert any(row[0] == "jobs.batch" and "[create" in " ".join(row) for row in listed)
    assert "gpuyard" in yard.kubectl("auth", "whoami")
    assert "selfsubjectaccessreviews" in yard.kubectl("api-resources")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "statefulsets", "group": "apps"}},
    }
    answer = yard.kubectl("create", "-f", "-", "-o", "jsonpath={.status.reason}", stdin=review)
    assert answer == "this gpuyard yard serves no statefulsets.apps"
