"""`gpuyard install` and `uninstall`: what nodes show then, what pods get, and what is left afterwards."""

from __future__ import annotations

import json
import re
import shlex
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpuyard.gpus.cdi import SPEC_FILE
from gpuyard.workloads.pod_failure_policy import retry_fields
from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.agent import Agent, resident_bytes
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.cluster.harness.objects import Pods, container, wait_for_gpus
from tests.cluster.harness.parts import Node
from tests.images.conftest import debian_tar  # noqa: F401
from tests.waiting import until

NODES = ("node-a", "node-b")
SYSTEM = "gpuyard-system"
SELECTOR = "app.kubernetes.io/part-of=gpuyard"
KINDS = (
    "namespaces,serviceaccounts,clusterroles,clusterrolebindings,priorityclasses,runtimeclasses,daemonsets,"
    "pods,validatingadmissionpolicies,validatingadmissionpolicybindings"
)
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
OPTIONS = ("--simulate=H100:8", "--taint", "--policy")
MIB = 1024
REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture(scope="module")
def gpuyard(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Gpuyard:
    return Gpuyard(cluster, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def before(cluster: Cluster) -> dict[str, Any]:
    """The nodes as they were."""
    return {name: marks(cluster, name) for name in NODES}


@pytest.fixture(scope="module")
def image(gpuyard: Gpuyard, before: object, request: pytest.FixtureRequest) -> Iterator[str]:
    """The agent's, which the first install builds; nothing of gpuyard is on the cluster at the end."""
    base, tag = (f"{gpuyard.cluster.registry}/{name}" for name in ("debian:12", "gpuyard/agent:test"))
    tar = request.getfixturevalue("debian_tar")
    done = gpuyard.run("image", "import", str(tar), f"--tag={base}")
    assert done.code == 0, done
    try:
        done = gpuyard("install", f"--base={base}", f"--image={tag}", *OPTIONS)
        # A lock that goes with a temporary folder is nobody's.
        assert (done.code, "gpuyard.lock" in done.err) == (0, False), done
        yield gpuyard.json("status")["image"]
    finally:
        gpuyard.ok("uninstall", "--force")


@pytest.fixture
def installed(gpuyard: Gpuyard, image: str) -> str:
    """The image of an install with all options, complete, whatever tests before did to it."""
    gpuyard.ok("install", f"--image={image}", *OPTIONS)
    for node in NODES:
        wait_for_gpus(gpuyard.cluster, node, 8, 8)
        until(lambda node=node: TAINT in taints(gpuyard.cluster, node), f"{node} is tainted")  # type: ignore[misc]
    return image


def node_of(cluster: Cluster, name: str) -> dict[str, Any]:
    raw: dict[str, Any] = cluster.get(f"/api/v1/nodes/{name}")
    return raw


def taints(cluster: Cluster, name: str) -> list[Any]:
    return list(node_of(cluster, name)["spec"].get("taints") or ())


def marks(cluster: Cluster, name: str) -> tuple[Any, Any, Any]:
    node = node_of(cluster, name)
    metadata = node["metadata"]
    return metadata["labels"], metadata["annotations"], node["spec"].get("taints")


def objects(cluster: Cluster) -> dict[str, Any]:
    """Everything of an install, by kind and name."""
    raw = cluster.kubectl("get", KINDS, "--all-namespaces", f"--selector={SELECTOR}", "-o=json")
    return {f"{item['kind']} {item['metadata']['name']}": item for item in json.loads(raw)["items"]}


def agent_pod(cluster: Cluster, node: str) -> str:
    where = (f"--namespace={SYSTEM}", f"--selector={SELECTOR}", f"--field-selector=spec.nodeName={node}")
    return cluster.kubectl("get", "pods", *where, "-o=name").split()[0]


def in_agent(cluster: Cluster, container: str, *argv: str, node: str = "node-a") -> str:
    pod = agent_pod(cluster, node)
    return cluster.kubectl("exec", f"--namespace={SYSTEM}", pod, f"--container={container}", "--", *argv)


def holds(there: Any, wanted: Any) -> bool:
    """Whether an object has all that a manifest says; a server adds defaults."""
    if isinstance(wanted, Mapping):
        return all(name in there and holds(there[name], value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return len(there) == len(wanted) and all(map(holds, there, wanted))
    return bool(there == wanted)


def test_nodes_show_their_gpus(cluster: Cluster, installed: str) -> None:
    for name in NODES:
        node = node_of(cluster, name)
        assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
        wanted = {
            "hardware-type": "nvidia-gpu",
            "gpuyard.io/gpu-model": "H100",
            "gpuyard.io/simulated": "true",
            "nvidia.com/gpu.product": "Simulated-NVIDIA-H100-80GB-HBM3",
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.count": "8",
            "nvidia.com/gpu.memory": "81559",
            "nvidia.com/gpu.compute.major": "9",
            "nvidia.com/cuda.driver-version.full": "580.95.05",
        }
        assert wanted.items() <= node["metadata"]["labels"].items()
        described = cluster.kubectl("describe", "node", name)
        assert re.search(r"nvidia\.com/gpu: +8$", described, re.MULTILINE)
        assert "nvidia.com/gpu=present:NoSchedule" in described


def test_what_is_there_is_what_a_dry_run_prints(gpuyard: Gpuyard, installed: str) -> None:
    printed = json.loads(gpuyard.ok("install", f"--image={installed}", *OPTIONS, "--dry-run", "-o", "json"))[
        "items"
    ]
    there = objects(gpuyard.cluster)
    for manifest in printed:
        assert holds(there[f"{manifest['kind']} {manifest['metadata']['name']}"], manifest)
    assert len(printed) == len([key for key in there if not key.startswith("Pod ")])


def test_the_word_for_containers_without_gpus_comes_and_goes(gpuyard: Gpuyard, installed: str) -> None:
    served = gpuyard.cluster.kubectl("get", "--raw=/apis/admissionregistration.k8s.io/v1")
    if "mutatingadmissionpolicies" not in served:
        pytest.skip("MutatingAdmissionPolicy is there from Kubernetes 1.36 on")
    said = gpuyard.ok("install", f"--image={installed}", *OPTIONS, "--void")
    assert "MutatingAdmissionPolicy gpuyard-tenants-void created" in said
    assert gpuyard.json("status")["missing"] == []
    said = gpuyard.ok("install", f"--image={installed}", *OPTIONS)
    assert "MutatingAdmissionPolicy gpuyard-tenants-void deleted" in said


def test_installing_again_changes_nothing(gpuyard: Gpuyard, installed: str) -> None:
    def versions() -> dict[str, str]:
        return {key: item["metadata"]["resourceVersion"] for key, item in objects(gpuyard.cluster).items()}

    first = versions()
    tag = f"{gpuyard.cluster.registry}/gpuyard/agent:test"
    for image in (installed, tag):  # By the digest that it was installed with, and by the tag that means it.
        assert "Nothing changed" in gpuyard.ok("install", f"--image={image}", *OPTIONS)
        assert versions() == first


def test_a_pod_gets_its_gpus_by_cdi(gpuyard: Gpuyard, pods: Pods, installed: str) -> None:
    pods.create("trainer", node="node-a", gpus=2)
    pods.wait_running("trainer")
    assert len(pods.devices("trainer")) == 2
    assert len(pods.exec("trainer", "ls /dev | grep '^nvidia[0-9]'").split()) == 2
    assert pods.exec("trainer", "echo $GPUYARD_SIMULATED") == "1\n"
    spec = json.loads(cdi_file(gpuyard.cluster, "node-a"))
    assert set(pods.devices("trainer")) <= {device["name"] for device in spec["devices"]}


def cdi_file(cluster: Cluster, node: str) -> str:
    return (cluster.nodes[node].cdi_dir / SPEC_FILE).read_text()


def test_pods_without_gpus_stay_off_tainted_nodes(pods: Pods, installed: str) -> None:
    pods.create("web", node="node-a")

    def refused() -> str:
        conditions = pods.get("web")["status"].get("conditions") or ()
        return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")

    assert "2 node(s) had untolerated taint" in until(refused, "the scheduler says no")


def test_the_plugin_has_no_rights_and_no_credentials(cluster: Cluster, installed: str) -> None:
    status = in_agent(cluster, "plugin", "cat", "/proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["CapEff"].strip() == fields["CapBnd"].strip() == "0" * 16
    assert fields["NoNewPrivs"] == "1"
    for command in (("ls", "/var/run/secrets/kubernetes.io"), ("touch", "/here")):
        with pytest.raises(ClusterError, match=r"No such file|Read-only file system"):
            in_agent(cluster, "plugin", *command)
    mounts = in_agent(cluster, "plugin", "cat", "/proc/self/mounts")
    folders = {
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet/pod-resources",
        "/run/cdi",
        "/var/run/cdi",
    }
    assert len(folders & {line.split()[1] for line in mounts.splitlines()}) == 3


def test_the_labeller_may_touch_nodes_and_note_pods_use_only(cluster: Cluster, installed: str) -> None:
    account = f"--as=system:serviceaccount:{SYSTEM}:gpuyard-labeller"
    allowed = cluster.kubectl("auth", "can-i", "--list", account)
    rows = [line.split() for line in allowed.splitlines()[1:]]
    assert [row for row in rows if row[0] == "nodes"] == [["nodes", "[]", "[]", "[get", "watch", "patch]"]]
    own = ["daemonsets.apps", "[]", "[gpuyard-agent]", "[get]"]
    assert [row for row in rows if row[0].startswith("daemonsets")] == [own]
    assert [row for row in rows if row[0] == "pods"] == [["pods", "[]", "[]", "[patch]"]]
    assert not [row for row in rows if row[0] in {"*.*", "secrets"}]
    assert in_agent(cluster, "labeller", "id", "-u") == "65534\n"


#: With the agent's own token: a patch of each node, and what the API server says.
TRY = """
import asyncio, sys
from gpuyard import errors
from gpuyard.agent import labelling
from gpuyard.kube.objects import NODES
async def work():
    async with labelling._in_cluster() as api:
        for node, patch in (
            ("node-b", {"metadata": {"labels": {"nvidia.com/gpu.count": "9"}}}),
            ("node-a", {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
            ("node-a", {"spec": {"unschedulable": True}}),
        ):
            try:
                await api.patch(NODES, node, patch)
                print("done")
            except errors.GpuyardError as error:
                print(error.message)
asyncio.run(work())
"""


def test_a_labeller_keeps_to_its_node(gpuyard: Gpuyard, image: str) -> None:
    # Without --policy.
    gpuyard.ok("install", f"--image={image}", "--simulate=H100:8", "--taint")
    for node in NODES:
        until(lambda node=node: TAINT in taints(gpuyard.cluster, node), f"{node} is tainted")  # type: ignore[misc]
    before = [marks(gpuyard.cluster, node) for node in NODES]
    said = in_agent(gpuyard.cluster, "labeller", "python3", "-c", TRY).splitlines()
    assert "a labeller changes its own node only" in said[0]
    assert "a labeller changes labels that describe GPUs only" in said[1]
    assert "it doesn't cordon" in said[2]
    assert [marks(gpuyard.cluster, node) for node in NODES] == before


#: Marks the labeller's node as its follower does, with a fault that there isn't.
MARK = """
import asyncio, os, pathlib
from gpuyard.agent import labelling, marks_file
marks = marks_file.read_marks(pathlib.Path("/run/gpuyard/marks.json"))
sick = marks_file.NodeMarks(marks.labels, {"gpuyard.io/gpu-health": "[]"})
async def work():
    async with labelling._in_cluster() as api:
        print(await labelling.mark_node(api, os.environ["NODE_NAME"], sick, taint=True))
asyncio.run(work())
"""


def test_a_labeller_writes_the_health_of_gpus_on_its_node(cluster: Cluster, installed: str) -> None:
    assert in_agent(cluster, "labeller", "python3", "-c", MARK) == "True\n"
    # The follower sees it, and knows of no such fault.
    until(
        lambda: "gpuyard.io/gpu-health" not in node_of(cluster, "node-a")["metadata"]["annotations"],
        "it is taken back",
    )


def test_the_policies_are_without_type_errors(cluster: Cluster, installed: str) -> None:
    path = "-o=jsonpath={.items[*].status.typeChecking}"
    until(lambda: cluster.kubectl("get", "validatingadmissionpolicies", path), "they are checked")
    assert "expressionWarnings" not in cluster.kubectl("get", "validatingadmissionpolicies", path)


def test_labels_come_back_with_the_agent(cluster: Cluster, installed: str) -> None:
    def labels() -> Any:
        found = node_of(cluster, "node-a")["metadata"]["labels"]
        return {name: value for name, value in found.items() if name != "nvidia.com/gfd.timestamp"}

    before = labels()
    assert {"hardware-type", "nvidia.com/gpu.count"} <= before.keys()
    cluster.kubectl("label", "node", "node-a", "nvidia.com/gpu.count-", "hardware-type-")
    cluster.kubectl("delete", f"--namespace={SYSTEM}", agent_pod(cluster, "node-a"))
    until(labels, "the labels are back", lambda found: found == before)


@pytest.mark.parametrize("container", ["plugin", "labeller"])
def test_memory(cluster: Cluster, installed: str, container: str) -> None:
    assert resident_bytes(cluster, container) < 60 * MIB * 1024


#: A job of one GPU that fails for good with its first pod.
def one_gpu_job(name: str, registry: str) -> dict[str, Any]:
    pod = {
        "restartPolicy": "Never",
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [container("main", registry, "true", gpus=1)],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {**retry_fields(0), "template": {"spec": pod}},
    }


def test_pods_get_their_gpus_while_agents_are_rolled_out(
    cluster: Cluster, pods: Pods, installed: str
) -> None:
    """As runs do, which are made again where a kubelet refuses one: on 1.35 about one of a hundred, on a busy
    machine; without a new agent beside the old one, several.
    """
    agents = ("daemonset/gpuyard-agent", f"--namespace={SYSTEM}")
    cluster.kubectl("rollout", "restart", *agents)
    names: list[str] = []
    while "successfully rolled out" not in cluster.kubectl("rollout", "status", *agents, "--watch=false"):
        names.append(f"job-{len(names)}")
        pods.kubectl("create", "-f", "-", stdin=one_gpu_job(names[-1], cluster.registry))
    assert names
    jobs = [f"job/{name}" for name in names]
    waiting = ("wait", f"--namespace={pods.namespace}", "--for=condition=complete", "--timeout=300s")
    # A busy machine takes long to roll out, which makes many Jobs.
    cluster.kubectl(*waiting, *jobs, timeout_s=310)
    # Of the old agents no socket and no claim on the spec is left.
    for node in cluster.nodes.values():
        until(lambda node=node: len(plugin_sockets(node)) == 1, "one agent serves")  # type: ignore[misc]
        assert (node.cdi_dir / SPEC_FILE).exists()


def plugin_sockets(node: Node) -> list[Path]:
    return list((node.folder / "lib/kubelet/device-plugins").glob("gpuyard-*.sock"))


def test_a_half_done_install_is_told_and_completed(gpuyard: Gpuyard, installed: str) -> None:
    cluster = gpuyard.cluster
    cluster.kubectl("delete", "daemonset", "gpuyard-agent", f"--namespace={SYSTEM}", "--cascade=foreground")
    cluster.kubectl("delete", "clusterrole", "gpuyard-viewer")
    status = gpuyard("status")
    assert "ClusterRole gpuyard-viewer, DaemonSet gpuyard-system/gpuyard-agent" in status.out
    assert "run `gpuyard install` again" in status.err
    doctor = gpuyard("doctor")
    missing = "there is no ClusterRole gpuyard-viewer, no DaemonSet gpuyard-system/gpuyard-agent"
    first = f"The first broken link: install: the install is half done: {missing}\n"
    assert (doctor.code, first in doctor.out) == (1, True), doctor
    said = gpuyard.ok("install", f"--image={installed}", *OPTIONS)
    assert "ClusterRole gpuyard-viewer created" in said
    assert gpuyard.json("status")["missing"] == []


def test_a_rule_that_is_gone_from_a_role_is_told_and_put_back(gpuyard: Gpuyard, installed: str) -> None:
    less = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    patch = json.dumps({"rules": less})
    gpuyard.cluster.kubectl("patch", "clusterrole", "gpuyard-labeller", "--type=merge", f"--patch={patch}")
    [changed] = gpuyard.json("status")["changed"]
    assert changed.startswith("ClusterRole gpuyard-labeller (rules")
    doctor = gpuyard("doctor")
    assert doctor.code == 1 and "The first broken link: install: this isn't as gpuyard" in doctor.out, doctor
    [command] = [line.strip() for line in doctor.out.splitlines() if "→ run gpuyard install" in line]
    assert "ClusterRole gpuyard-labeller changed" in gpuyard.run(*shlex.split(command)[3:]).out
    assert gpuyard.json("status")["changed"] == []
    assert "Nothing changed" in gpuyard.ok("install", f"--image={installed}", *OPTIONS)


def test_options_that_are_dropped_are_undone(gpuyard: Gpuyard, installed: str) -> None:
    said = gpuyard.ok("install", f"--image={installed}", "--simulate=H100:8")
    assert "ValidatingAdmissionPolicy gpuyard-tenants deleted" in said
    for node in NODES:
        until(lambda node=node: TAINT not in taints(gpuyard.cluster, node), f"{node} isn't tainted")  # type: ignore[misc]


def test_deselected_nodes_lose_their_marks(gpuyard: Gpuyard, before: dict[str, Any], installed: str) -> None:
    cluster = gpuyard.cluster
    elsewhere = ("--node-selector", "kubernetes.io/hostname=node-b")
    said = gpuyard.ok("install", f"--image={installed}", *OPTIONS, *elsewhere)
    assert "node node-a: labels and taint removed" in said
    assert "Agents run on node-b." in said
    assert marks(cluster, "node-a") == before["node-a"]
    assert TAINT in taints(cluster, "node-b")
    # As kustomize and the chart do it: only the DaemonSet changes, and the labeller sees to the rest.
    patch = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "node-a"}}}}}
    cluster.kubectl("patch", "daemonset", "gpuyard-agent", f"-n={SYSTEM}", f"--patch={json.dumps(patch)}")
    until(lambda: marks(cluster, "node-b") == before["node-b"], "node-b is as it was")
    until(lambda: TAINT in taints(cluster, "node-a"), "node-a is marked")
    # As after a labeller that was killed.
    cluster.kubectl("annotate", "node", "node-b", "gpuyard.io/labels-set=nvidia.com/gpu.count")
    cluster.kubectl("label", "node", "node-b", "nvidia.com/gpu.count=8")
    # Until the new agent is ready, that is the first broken link, and only its remedy is printed.
    said = until(
        lambda: gpuyard("doctor").out,
        "doctor says how to clean node-b",
        lambda out: "as it is installed, takes them away" in out,
    )
    assert "node-b: has gpuyard's labels or taint, and is to have no agent: it lacks the label" in said
    assert "gpuyard install" in said
    elsewhere = ("--node-selector", "kubernetes.io/hostname=node-a")
    said = gpuyard.ok("install", f"--image={installed}", *OPTIONS, *elsewhere)
    assert "node node-b: labels and taint removed" in said
    assert marks(cluster, "node-b") == before["node-b"]


def test_nodes_with_taints_of_their_own(gpuyard: Gpuyard, image: str) -> None:
    cluster, taint = gpuyard.cluster, "sku=gpu:NoSchedule"
    gpuyard.ok("uninstall", "--force")
    cluster.kubectl("taint", "nodes", *NODES, taint)
    try:
        done = gpuyard("install", f"--image={image}", "--simulate=H100:8")
        assert (
            done.code,
            "with 0 agents, because node node-a has the taint sku=gpu:NoSchedule" in done.err,
        ) == (1, True)
        assert f"add --toleration {taint}, or --tolerate-all" in done.err
        assert f"there are 0 agents: node node-a has the taint {taint}" in gpuyard("doctor").out
        said = gpuyard.ok("install", f"--image={image}", "--simulate=H100:8", f"--toleration={taint}")
        assert "Agents run on node-a, node-b." in said
        # A taint that comes later leaves the agent that runs, and it is counted.
        cluster.kubectl("taint", "node", "node-b", "dedicated=ml:NoSchedule")
        # Its controller looks at nodes that it leaves as they are only when something else changes.
        agents = ("daemonset", "gpuyard-agent", f"-n={SYSTEM}")
        cluster.kubectl("annotate", *agents, "test.example/look=1")
        until(lambda: misscheduled(cluster) == 1, "the controller has seen it")
        assert gpuyard.json("status")["agents"] == {"ready": 2, "wanted": 2}
        assert "2 of 2 run" in gpuyard("doctor").out
        said = gpuyard.ok("install", f"--image={image}", "--simulate=H100:8", "--tolerate-all")
        assert "Agents run on node-a, node-b." in said
        assert gpuyard.json("status")["agents"] == {"ready": 2, "wanted": 2}
    finally:
        cluster.kubectl("taint", "nodes", *NODES, f"{taint}-")
        cluster.kubectl("taint", "node", "node-b", "dedicated=ml:NoSchedule-")


def misscheduled(cluster: Cluster) -> int:
    path = "-o=jsonpath={.status.numberMisscheduled}"
    return int(cluster.kubectl("get", "daemonset", "gpuyard-agent", f"-n={SYSTEM}", path))


def test_uninstall_refuses_while_gpus_are_used(gpuyard: Gpuyard, pods: Pods, installed: str) -> None:
    pods.create("trainer", node="node-a", gpus=1)
    pods.wait_running("trainer")
    done = gpuyard("uninstall")
    assert done.code == 2
    assert f"1 pod has GPUs now: {pods.namespace}/trainer" in done.err
    assert len(objects(gpuyard.cluster)) > 10
    gpuyard.ok("uninstall", "--force")
    assert pods.status("trainer")["state"].keys() == {"running"}


def test_uninstall_leaves_nothing(gpuyard: Gpuyard, before: dict[str, Any], installed: str) -> None:
    cluster = gpuyard.cluster
    cluster.kubectl("label", "node", "node-a", "mine=yes")
    gpuyard.ok("uninstall")
    assert objects(cluster) == {}
    with pytest.raises(ClusterError, match="not found"):
        cluster.kubectl("get", "namespace", SYSTEM)
    labels, annotations, tainted = marks(cluster, "node-a")
    assert (labels.pop("mine"), labels, annotations, tainted) == ("yes", *before["node-a"])
    assert marks(cluster, "node-b") == before["node-b"]
    cluster.kubectl("label", "node", "node-a", "mine-")
    for node in NODES:
        assert not list(cluster.nodes[node].cdi_dir.glob("*"))
        wait_for_gpus(cluster, node, 0, 8)
    assert "isn't installed" in gpuyard.ok("uninstall")


def test_another_plugin_is_noticed(gpuyard: Gpuyard, pods: Pods, image: str, tmp_path: Path) -> None:
    cluster = gpuyard.cluster
    gpuyard.ok("uninstall")
    wait_for_gpus(cluster, "node-a", 0, 8)
    agent = Agent(cluster, "node-a", tmp_path)
    pods.kubectl("create", "-f", "-", stdin=foreign_daemon_set(cluster.registry))
    pods.kubectl("rollout", "status", "daemonset/nvidia-device-plugin-daemonset", "--timeout=60s")
    agent.start()
    try:
        until(lambda: int(node_of(cluster, "node-a")["status"]["allocatable"]["nvidia.com/gpu"]), "it serves")
        done = gpuyard("install", f"--image={image}", *OPTIONS)
    finally:
        agent.stop()
        pods.kubectl("delete", "daemonset/nvidia-device-plugin-daemonset", "--cascade=foreground")
    remedy = f"kubectl delete daemonset/nvidia-device-plugin-daemonset -n {pods.namespace}"
    assert (done.code, remedy in done.err) == (2, True), done
    assert objects(cluster) == {}


def test_a_service_of_a_node_is_noticed(gpuyard: Gpuyard, image: str, tmp_path: Path) -> None:
    cluster = gpuyard.cluster
    gpuyard.ok("uninstall")
    agent = Agent(cluster, "node-a", tmp_path)
    agent.start()
    try:
        until(lambda: int(node_of(cluster, "node-a")["status"]["allocatable"]["nvidia.com/gpu"]), "it serves")
        done = gpuyard("install", f"--image={image}", *OPTIONS)
        assert (done.code, objects(cluster)) == (2, {}), done
        assert "something that is no pod serves nvidia.com/gpu already, on node-a" in done.err
        said = gpuyard("doctor").out
        assert "warning  install      gpuyard isn't installed here; something else serves the GPUs" in said
        assert "warning  plugins      GPUs of node-a are served by what is no pod" in said
        # Elsewhere it is in nobody's way.
        elsewhere = "--node-selector=kubernetes.io/hostname=node-b"
        gpuyard.ok("install", f"--image={image}", *OPTIONS, elsewhere)
        wait_for_gpus(cluster, "node-b", 8, 8)
        assert "GPUs of node-a are served by what is no pod" in gpuyard("doctor").out
    finally:
        agent.stop()
    gpuyard.ok("uninstall", "--force")


def foreign_daemon_set(registry: str) -> dict[str, Any]:
    labels = {"app": "nvidia"}
    folder = "/var/lib/kubelet/device-plugins"
    container = {
        "name": "nvidia-device-plugin-ctr",
        "image": f"{registry}/busybox:1",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"],
        "volumeMounts": [{"name": "plugins", "mountPath": folder}],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "plugins", "hostPath": {"path": folder}}],
        "terminationGracePeriodSeconds": 1,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "nvidia-device-plugin-daemonset"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def test_the_image_can_be_built_without_a_cluster(gpuyard: Gpuyard, image: str, tmp_path: Path) -> None:
    """For a registry that only others reach, and for the chart: it is the same image."""
    base, file = f"{gpuyard.cluster.registry}/debian:12", tmp_path / "agent.tar"
    done = gpuyard.run("install", f"--base={base}", f"--image=oci-archive:{file}:v1", "--build-only")
    assert done.code == 0, done
    with tarfile.open(file) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        tags = {m.get("annotations", {}).get(REF_NAME): m for m in json.load(index)["manifests"]}
    assert image.endswith(f"@{tags['v1']['digest']}")


def test_an_image_that_isnt_there(gpuyard: Gpuyard, image: str) -> None:
    missing = f"{gpuyard.cluster.registry}/gpuyard/agent:missing"
    done = gpuyard("install", f"--image={missing}", "--simulate=H100:8", "--timeout=15s")
    assert done.code == 1
    assert "node-a: labeller" in done.err or "node-a: plugin" in done.err
    assert "ErrImagePull" in done.err or "ImagePullBackOff" in done.err
    doctor = gpuyard("doctor")
    first = doctor.out.splitlines()[-1]
    assert doctor.code == 1 and first.startswith("The first broken link: agents: node-"), doctor
    assert "ErrImagePull" in first or "ImagePullBackOff" in first


def test_ways_to_a_driver_that_isnt_there(gpuyard: Gpuyard, image: str) -> None:
    """What the node and the agent say of it is what `install` and `doctor` say."""

    def broken() -> dict[str, Any]:
        report = json.loads(gpuyard("doctor", "-o", "json").out)
        return {check["name"]: check for check in report["checks"] if check["outcome"] == "broken"}

    why = 'no runtime for "nvidia" is configured'
    try:
        done = gpuyard("install", f"--image={image}", "--timeout=10s")
        assert done.code == 1 and why in done.err, done
        agents = until(broken, "doctor says why agents don't run", lambda found: "agents" in found)["agents"]
        assert why in agents["message"] and "--driver-access privileged" in agents["remedy"]
        gpuyard.ok("install", f"--image={image}", "--driver-access=privileged")
        gpus = until(
            broken, "doctor says why there are no GPUs", lambda f: "driver root" in str(f.get("gpus"))
        )
        assert "no libnvidia-ml.so.1 under the driver root" in gpus["gpus"]["message"]
    finally:
        gpuyard.ok("uninstall", "--force")


def test_the_yard_is_no_cluster(gpuyard: Gpuyard) -> None:
    done = gpuyard.run("install", "--image=a/b:1")
    assert done.code == 2
    assert "--context" in done.err
