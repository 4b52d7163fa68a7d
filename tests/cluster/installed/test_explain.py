"""`gpuyard explain` over what a real cluster says, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.objects import GPU, wait_for_gpus
from tests.cluster.installed.users import account
from tests.waiting import until

Explained = Callable[..., dict[str, Any]]
STEPS = ("job", "quota", "admission", "nodes", "volumes", "image", "devices", "start", "process")
_POD = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.fixture
def explained(gpuyard: Gpuyard, team: str) -> Explained:
    """What `explain -o json` says, once it names this step and cause: `explained(NAME, "quota/quota")`."""

    def explained(name: str, wanted: str) -> dict[str, Any]:
        said: dict[str, Any] = {}

        def names_it() -> bool:
            nonlocal said
            said = gpuyard.json("explain", name, f"--namespace={team}")
            blocked = said["blocked"] or {"step": "", "cause": ""}
            return f"{blocked['step']}/{blocked['cause']}" == wanted

        try:
            until(names_it, f"explain {name} names {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(said, indent=1)}") from None
        assert [entry["step"] for entry in said["ladder"]] == list(STEPS)
        return said

    return explained


def submit(gpuyard: Gpuyard, team: str, image: str, name: str, *words: str) -> None:
    """A run that nobody follows."""
    options = (f"--image={image}", f"--namespace={team}", f"--name={name}", "-d", "--wait")
    before = words.index("--")
    gpuyard.ok("run", *options, *words[:before], *words[before:])


def make_job(
    gpuyard: Gpuyard,
    team: str,
    name: str,
    *,
    job: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> None:
    """A Job that kubectl makes, within "restricted" unless `spec`, its pod's, says otherwise."""
    container = {
        "name": "main",
        "image": f"{gpuyard.cluster.registry}/busybox:1",
        "command": ["sleep", "600"],
        "securityContext": _CONTAINER,
        **spec.pop("container", {}),
    }
    template = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": _POD,
        "tolerations": [{"key": GPU, "operator": "Exists"}],
        "containers": [container],
        **spec,
    }
    raw = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"backoffLimit": 0, "template": {"spec": template}, **(job or {})},
    }
    gpuyard.cluster.kubectl("create", f"-n={team}", "-f", "-", stdin=raw)


def texts(said: dict[str, Any]) -> list[str]:
    """What would help, in order."""
    return [remedy["text"] for remedy in said["blocked"]["remedies"]]


def test_a_quota_that_another_run_uses_up(
    gpuyard: Gpuyard, image: str, team: str, explained: Explained
) -> None:
    gpuyard.cluster.kubectl("create", "quota", "gpus", f"-n={team}", "--hard=requests.nvidia.com/gpu=2")
    submit(gpuyard, team, image, "holder", "--gpus=1", "--", "sleep", "600")
    submit(gpuyard, team, image, "waiter", "--gpus=2", "--", "true")
    said = explained("waiter", "quota/quota")
    assert said["blocked"]["headline"] == "quota gpus lets no more in: 1 of 2 GPUs used, needs 2"
    assert said["blocked"]["owner"] == {"kind": "ResourceQuota", "namespace": team, "name": "gpus"}
    assert said["blocked"]["evidence"][0].startswith("used by run holder (1 GPU, since ")
    assert texts(said) == [
        "ask for 1 GPU instead of 2",
        "wait for run holder to end, or stop it",
        "raise requests.nvidia.com/gpu to 3 in quota gpus",
    ]
    # What it says is true: the command that it gives lets the run go.
    command = said["blocked"]["remedies"][2]["command"]
    patch = command.partition(" -p ")[2].strip("'")
    gpuyard.cluster.kubectl("patch", "resourcequota", "gpus", f"-n={team}", "-p", patch)
    until(lambda: state(gpuyard, team, "waiter") == "succeeded", "waiter runs")


def state(gpuyard: Gpuyard, team: str, name: str) -> str:
    """As `ps` has it."""
    rows = gpuyard.json("ps", f"--namespace={team}")
    return next(str(row["state"]) for row in rows if row["name"] == name)


def test_a_follower_says_what_it_waits_for(
    gpuyard: Gpuyard, image: str, team: str, explained: Explained
) -> None:
    kubectl = gpuyard.cluster.kubectl
    kubectl("create", "quota", "gpus", f"-n={team}", "--hard=requests.nvidia.com/gpu=0")
    words = ("--image", image, "--gpus=1", "--name=waiter", f"--namespace={team}", "--", "echo", "at last")
    with gpuyard.started("run", *words) as process:
        assert process.stderr
        # A follower on a pipe says so once the wait has lasted for three seconds.
        said = next((line for line in process.stderr if line.startswith("waiter: pending: quota: ")), "")
        assert "quota gpus lets no more in: 0 of 0 GPUs used, needs 1" in said
        explained("waiter", "quota/quota")
        kubectl("delete", "quota", "gpus", f"-n={team}")
        out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "at last\n")


def test_a_quota_that_wants_amounts(gpuyard: Gpuyard, image: str, team: str, explained: Explained) -> None:
    gpuyard.cluster.kubectl("create", "quota", "cpus", f"-n={team}", "--hard=requests.cpu=1")
    submit(gpuyard, team, image, "silent", "--gpus=1", "--", "true")
    said = explained("silent", "quota/quota_unset")
    assert texts(said)[0] == "set --cpus (at most 1)"


def test_gpus_that_others_hold(gpuyard: Gpuyard, image: str, team: str, explained: Explained) -> None:
    container = {
        "name": "main",
        "image": f"{gpuyard.cluster.registry}/busybox:1",
        "command": ["sleep", "600"],
        "securityContext": _CONTAINER,
        "resources": {"limits": {GPU: 1}},
    }
    pod = {
        "nodeSelector": {"kubernetes.io/hostname": "node-b"},
        "tolerations": [{"key": GPU, "operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        "securityContext": _POD,
        "containers": [container],
    }
    labels = {"app": "web"}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}}
    raw = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    template = {"metadata": {"labels": labels}, "spec": pod}
    try:
        gpuyard.cluster.kubectl(
            "create", f"-n={team}", "-f", "-", stdin={**raw, "spec": {**spec, "template": template}}
        )
        gpuyard.cluster.kubectl("rollout", "status", f"-n={team}", "deployment/web", "--timeout=60s")
        selector = "--node-selector=kubernetes.io/hostname=node-b"
        submit(gpuyard, team, image, "waiter", "--gpus=8", selector, "--", "true")
        said = explained("waiter", "nodes/busy")
        node = next(node for node in said["explanation"]["nodes"] if node["name"] == "node-b")
        (web,) = (h for h in node["holders"] if (h["namespace"], h["name"]) == (team, "web"))
        assert (web["kind"], web["pods"], web["holds"][GPU]) == ("deployment", 2, "2")
        assert not said["explanation"]["incomplete"]
        assert any(f"deployment {team}/web (2 GPUs, since" in line for line in said["blocked"]["evidence"])
    finally:
        gpuyard.cluster.kubectl("delete", "deployment", "web", f"-n={team}", "--wait=false")


def test_a_label_that_no_node_has(gpuyard: Gpuyard, image: str, team: str, explained: Explained) -> None:
    selector = "--node-selector=hardware-typ=nvidia-gpu"
    submit(gpuyard, team, image, "picky", "--gpus=1", selector, "--", "true")
    said = explained("picky", "nodes/selector")
    assert "no node has a label hardware-typ; there is hardware-type" in said["blocked"]["evidence"]
    assert texts(said)[0].startswith("select hardware-type=nvidia-gpu instead of hardware-typ=nvidia-gpu")


def test_a_taint(gpuyard: Gpuyard, image: str, team: str, explained: Explained) -> None:
    submit(gpuyard, team, image, "plain", "--", "true")
    said = explained("plain", "nodes/taints")
    assert texts(said)[0].startswith("tolerate the taint nvidia.com/gpu=present:NoSchedule")


def test_a_claim_that_is_not_there(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "datasets"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    gpuyard.cluster.kubectl("create", f"-n={team}", "-f", "-", stdin=claim)
    for name, volume, wanted in (
        ("absent", "dataset", "volumes/no_claim"),
        ("unbound", "datasets", "volumes/no_default_class"),
    ):
        make_job(
            gpuyard, team, name, volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": volume}}]
        )
        said = explained(f"job/{name}", wanted)
        assert said["blocked"]["owner"]["name"] == volume
    assert texts(explained("job/absent", "volumes/no_claim"))[0] == "use datasets instead of dataset"


def test_what_no_scheduler_and_no_node_knows(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    def asks_for(resource: str) -> dict[str, Any]:
        return {"container": {"resources": {"limits": {resource: 1}}}}

    claims = [{"name": "gpu", "resourceClaimName": "gpuss"}]
    make_claim(gpuyard, team, "gpus")
    claiming = {"resources": {"claims": [{"name": "gpu"}]}}
    spread = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    for name, cause, remedy, spec in (
        ("stranger", "no_scheduler", "leave schedulerName out", {"schedulerName": "nope"}),
        # It would wait for a toleration as well, if the scheduler looked at it.
        ("claims", "no_resource_claim", "use gpus instead of gpuss",
         {"resourceClaims": claims, "container": claiming, "tolerations": []}),
        ("plural", "no_resource", "ask for nvidia.com/gpu instead of nvidia.com/gpus (", asks_for(f"{GPU}s")),
        ("mig", "no_resource", "ask for nvidia.com/gpu instead of nvidia.com/mig-1g.10gb",
         asks_for("nvidia.com/mig-1g.10gb")),
        ("spread", "spread_label", "leave that constraint out", {"topologySpreadConstraints": [spread]}),
    ):  # fmt: skip
        make_job(gpuyard, team, name, **spec)
        said = explained(f"job/{name}", f"nodes/{cause}")
        assert texts(said)[0].startswith(remedy)


def make_claim(gpuyard: Gpuyard, team: str, name: str) -> None:
    """A ResourceClaim of devices that nobody serves."""
    request = {"name": "r", "exactly": {"deviceClassName": "nope"}}
    raw = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": {"requests": [request]}},
    }
    gpuyard.cluster.kubectl("create", f"-n={team}", "-f", "-", stdin=raw)


def test_a_job_that_has_no_pod_yet(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    """This API server adds the toleration of a GPU's taint to its pod, which the Job needn't have."""
    gpu = {"resources": {"limits": {GPU: 1}}}
    make_job(gpuyard, team, "foreign", job={"managedBy": "example.com/other"}, container=gpu, tolerations=[])
    said = explained("job/foreign", "job/managed")
    assert "example.com/other (managedBy), which has made none" in said["blocked"]["headline"]
    assert said["explanation"]["blocker"] is None, said["explanation"]


def test_kueue_s_label_without_kueue(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    label = {"kueue.x-k8s.io/queue-name": "team"}
    make_job(gpuyard, team, "queued", labels=label, job={"suspend": True})
    said = explained("job/queued", "job/no_kueue")
    assert "Kueue isn't installed here" in said["blocked"]["headline"]


def test_a_config_map_that_is_not_there(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    gpuyard.cluster.kubectl("create", "configmap", "settings", f"-n={team}", "--from-literal=a=b")
    mounts = {"volumeMounts": [{"name": "c", "mountPath": "/c"}]}
    volumes = [{"name": "c", "configMap": {"name": "setting"}}]
    make_job(gpuyard, team, "mounts", container=mounts, volumes=volumes)
    assert texts(explained("job/mounts", "volumes/no_config_map"))[0] == "use settings instead of setting"
    source = {"configMapKeyRef": {"name": "settings", "key": "b"}}
    make_job(gpuyard, team, "reads", container={"env": [{"name": "B", "valueFrom": source}]})
    said = explained("job/reads", "start/no_key")
    assert said["blocked"]["headline"] == "ConfigMap settings has no key b"


def test_an_image_that_is_not_there(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    image = f"{gpuyard.cluster.registry}/no/such/image:1"
    submit(gpuyard, team, image, "unpulled", "--gpus=1", "--", "true")
    said = explained("unpulled", "image/image_not_found")
    assert image in said["blocked"]["headline"]
    states = {entry["step"]: entry["state"] for entry in said["ladder"]}
    assert (states["nodes"], states["image"], states["process"]) == ("passed", "blocked", "not_reached")


def test_a_registry_that_does_not_answer(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    submit(gpuyard, team, "127.0.0.1:1/x:1", "refused", "--gpus=1", "--", "true")
    said = explained("refused", "image/registry_unreachable")
    assert "connection refused" in said["blocked"]["evidence"][0]


def test_pod_security(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    make_job(gpuyard, team, "privileged", container={"securityContext": {"privileged": True}})
    said = explained("job/privileged", "admission/pod_security")
    assert said["blocked"]["owner"] == {"kind": "Namespace", "namespace": None, "name": team}
    assert any("privileged=true" in line for line in said["blocked"]["evidence"])


def test_a_service_account_that_is_not_there(gpuyard: Gpuyard, team: str, explained: Explained) -> None:
    make_job(gpuyard, team, "nobody", serviceAccountName="defualt")
    said = explained("job/nobody", "admission/no_service_account")
    assert texts(said)[0] == "use default instead of defualt"


def test_a_limit_range(gpuyard: Gpuyard, image: str, team: str, explained: Explained) -> None:
    limits = [{"type": "Container", "max": {GPU: "1"}}]
    raw = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "one"}, "spec": {"limits": limits}}
    gpuyard.cluster.kubectl("create", f"-n={team}", "-f", "-", stdin=raw)
    submit(gpuyard, team, image, "two", "--gpus=2", "--", "true")
    said = explained("two", "quota/limit_range")
    assert said["blocked"]["owner"]["name"] == "one"
    assert texts(said) == ["ask for 1 GPU instead of 2"]


def test_a_program_that_is_not_there(gpuyard: Gpuyard, image: str, team: str, explained: Explained) -> None:
    make_job(gpuyard, team, "typo", container={"command": ["pyton", "train.py"]})
    said = explained("job/typo", "start/no_executable")
    assert said["blocked"]["headline"] == "the image has no program pyton"
    submit(gpuyard, team, image, "shell", "--gpus=1", "--", "sh", "-c", "pyton train.py")
    said = explained("shell", "process/exit_code")
    assert said["blocked"]["headline"] == "exited with 127: the shell found no such command"
    assert "pyton: not found" in said["blocked"]["evidence"][0]


def test_an_exit_code_and_what_the_output_says_of_it(
    gpuyard: Gpuyard, image: str, team: str, explained: Explained
) -> None:
    line = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    submit(gpuyard, team, image, "cuda", "--gpus=1", "--", "sh", "-c", f"echo '{line}'; exit 1")
    submit(gpuyard, team, image, "plain", "--gpus=1", "--", "sh", "-c", "echo no luck; exit 3")
    said = explained("cuda", "process/NoKernelImage")
    assert said["blocked"]["evidence"] == [f"its output says: {line}"]
    assert [diagnosis["key"] for diagnosis in said["diagnoses"]] == ["NoKernelImage"]
    said = explained("plain", "process/exit_code")
    assert (said["blocked"]["headline"], said["run"]["exit_code"]) == ("exited with 3", 3)
    assert said["blocked"]["evidence"] == ["its last lines: no luck"]
    text = gpuyard.ok("explain", "plain", f"--namespace={team}")
    assert "failed at process: exited with 3" in text and "gpuyard logs plain" in text


def test_jobs_and_pods_that_gpuyard_did_not_make(gpuyard: Gpuyard, team: str) -> None:
    make_job(gpuyard, team, "foreign", nodeSelector={"disk": "fast"})
    done = gpuyard("explain", "foreign", f"--namespace={team}")
    assert done.code == 2 and "explain job/foreign" in done.err
    said = gpuyard.json("explain", "job/foreign", f"--namespace={team}")
    assert said["run"]["name"] == "foreign" and said["explanation"]["blocker"] == "selector"
    pod = gpuyard.cluster.kubectl("get", "pods", f"-n={team}", "-o=name").split()[0]
    assert gpuyard.json("explain", pod, f"--namespace={team}")["explanation"]["blocker"] == "selector"
    done = gpuyard("explain", "deployment/x", f"--namespace={team}")
    assert done.code == 2 and "job/NAME or pod/NAME" in done.err


def test_who_may_not_see_nodes_gets_the_schedulers_words(
    gpuyard: Gpuyard, image: str, team: str, tmp_path: Path
) -> None:
    bob = account(gpuyard, tmp_path, team)
    binding = ("create", "rolebinding", "bob", f"-n={team}", f"--serviceaccount={team}:bob")
    gpuyard.cluster.kubectl(*binding, "--clusterrole=gpuyard-submitter")
    submit(gpuyard, team, image, "large", "--gpus=9", "--", "true")

    def said() -> dict[str, Any]:
        blocked = bob.json("explain", "large", f"--namespace={team}")["blocked"]
        return dict(blocked or {})

    blocked = until(said, "the scheduler has spoken")
    assert (blocked["step"], blocked["cause"]) == ("nodes", "scheduler")
    assert "2 Insufficient nvidia.com/gpu" in blocked["headline"]
    assert "you may not list nodes" in blocked["evidence"][0]


# The tests below change a node for all who use the cluster, and put it back.


@pytest.fixture
def cordoned(gpuyard: Gpuyard) -> Iterator[str]:
    """A node that takes no new pods for now."""
    node = min(gpuyard.cluster.nodes)
    gpuyard.cluster.kubectl("cordon", node)
    yield node
    gpuyard.cluster.kubectl("uncordon", node)


def test_a_cordoned_node(
    gpuyard: Gpuyard, image: str, team: str, cordoned: str, explained: Explained
) -> None:
    selector = f"--node-selector=kubernetes.io/hostname={cordoned}"
    submit(gpuyard, team, image, "waiter", "--gpus=1", selector, "--", "true")
    said = explained("waiter", "nodes/node")
    assert said["blocked"]["headline"].startswith(f"node {cordoned} is cordoned")
    remedy = said["blocked"]["remedies"][-1]
    assert (remedy["by"], remedy["command"]) == ("operator", f"kubectl uncordon {cordoned}")


@pytest.fixture
def unserved(gpuyard: Gpuyard) -> Iterator[str]:
    """A node whose device plugin is gone for now."""
    gone, kept = sorted(gpuyard.cluster.nodes)
    patch = ("patch", "daemonset", "gpuyard-agent", "-n=gpuyard-system", "--type=merge", "-p")

    def elsewhere(node: str | None) -> str:
        spec = {"nodeSelector": {"kubernetes.io/hostname": node}}
        return json.dumps({"spec": {"template": {"spec": spec}}})

    gpuyard.cluster.kubectl(*patch, elsewhere(kept))
    try:
        wait_for_gpus(gpuyard.cluster, gone, 0, 8)
        yield gone
    finally:
        gpuyard.cluster.kubectl(*patch, elsewhere(None))
        for node in gpuyard.cluster.nodes:
            wait_for_gpus(gpuyard.cluster, node, 8, 8)
        gpuyard.cluster.kubectl("rollout", "status", "-n=gpuyard-system", "daemonset/gpuyard-agent")


def test_a_device_plugin_that_is_gone(
    gpuyard: Gpuyard, image: str, team: str, unserved: str, explained: Explained
) -> None:
    selector = f"--node-selector=kubernetes.io/hostname={unserved}"
    submit(gpuyard, team, image, "waiter", "--gpus=1", selector, "--", "true")
    said = explained("waiter", "devices/unhealthy")
    assert said["blocked"]["owner"] == {"kind": "Node", "namespace": None, "name": unserved}
    assert f"node {unserved}: no agent of gpuyard runs there" in said["blocked"]["evidence"]
    # A pod that goes round the scheduler gets there, and the kubelet refuses it.
    make_job(gpuyard, team, "direct", nodeName=unserved, container={"resources": {"limits": {GPU: 1}}})
    said = explained("job/direct", "devices/no_healthy_devices")
    assert said["blocked"]["owner"]["name"] == unserved
