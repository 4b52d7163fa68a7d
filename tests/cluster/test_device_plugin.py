"""The scenarios of the kubelet's own device plugin tests, with our plugin on a real kubelet: with whole GPUs,
and those in which it matters what a device is with MIG instances and with replicas that share a GPU, too.

Source: Kubernetes 1.34, test/e2e_node/device_plugin_test.go, device_plugin_failures_test.go and
device_plugin_failures_pod_status_test.go. Each test is named after its scenario.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness.agent import WHOLE, Agent, GpuShape, allocatable, held
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.objects import GPU, WAIT, Pods, container, wait_for_gpus
from tests.waiting import until

NODE = "node-a"
COUNT = 4
#: A kubelet keeps the devices of a plugin that is gone for 5 minutes.
GRACE_S = 5 * 60
#: What restarts and kills is tried so many times.
REPEATS = int(os.environ.get("GPUYARD_TEST_REPEATS", "2"))
repeated = pytest.mark.parametrize("round", range(1, REPEATS + 1))
MIG = GpuShape(
    "H100:2",
    "nvidia.com/mig-3g.40gb",
    {"0": ["3g.40gb@0", "3g.40gb@4"], "1": ["3g.40gb@0", "3g.40gb@4"]},
    ("--mig-strategy=mixed",),
)
_REPLICAS = {"resources": [{"name": GPU, "replicas": 2}]}
SHARED = GpuShape(
    "H100:2",
    arguments=("--config", json.dumps({"version": "v1", "sharing": {"timeSlicing": _REPLICAS}})),
)
#: With each of these once beside whole GPUs, which are tried as often as `repeated`.
in_each_shape = pytest.mark.parametrize(
    "agent",
    [
        *(pytest.param(WHOLE, id=f"whole-{number}") for number in range(1, REPEATS + 1)),
        pytest.param(MIG, id="mig"),
        pytest.param(SHARED, id="shared"),
    ],
    indirect=True,
)


@pytest.fixture(scope="session", autouse=True)
def gone_from_the_start(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """On the second node a plugin came and went before all these tests: its grace passes meanwhile."""
    agent = Agent(cluster, "node-b", tmp_path_factory.mktemp("agent"))
    agent.start()
    try:
        wait_for_gpus(cluster, "node-b", COUNT, COUNT)
    finally:
        agent.stop()
    wait_for_gpus(cluster, "node-b", 0, COUNT)


@pytest.fixture
def agent(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Agent]:
    """Our agent with four devices, whole GPUs if nothing is said, known to the kubelet."""
    agent = Agent(cluster, NODE, tmp_path, getattr(request, "param", WHOLE))
    # The node's status lags behind: it may still be that of the plugin of the test before.
    until(lambda: not listed(agent), "the kubelet has let go of the last plugin")
    agent.start()
    try:
        wait_for_devices(agent)
        yield agent
    finally:
        if f"kubelet@{NODE}" not in cluster.state.parts:
            cluster.start(f"kubelet@{NODE}")
        agent.stop()


@pytest.fixture
def pods(cluster: Cluster, namespace: str, agent: Agent) -> Pods:
    """Pods that ask for what the agent offers."""
    return Pods(cluster, namespace, agent.shape.resource)


def listed(agent: Agent) -> tuple[str, ...]:
    """The healthy devices, says the kubelet."""
    return allocatable(agent.node, agent.shape.resource)


def wait_for_devices(agent: Agent, count: int = COUNT) -> None:
    """Until the kubelet, and then the node, have so many of four."""
    if count:
        until(lambda: len(listed(agent)) == count, "the plugin is registered")
    wait_for_gpus(agent.cluster, NODE, count, COUNT, resource=agent.shape.resource)


def start_kubelet(agent: Agent) -> None:
    """Starts the kubelet; returns when it knows our plugin again."""
    agent.cluster.start(f"kubelet@{NODE}")
    wait_for_devices(agent)


def restart_kubelet(agent: Agent) -> None:
    agent.cluster.stop(f"kubelet@{NODE}")
    start_kubelet(agent)


def holds(pods: Pods, name: str, container: str = "main") -> tuple[str, ...]:
    """The container's devices, says the kubelet; empty when it knows of none."""
    return held(pods.cluster.nodes[NODE], pods.resource).get((pods.namespace, name, container), ())


def keeps(pods: Pods, name: str, devices: tuple[str, ...], container: str = "main") -> bool:
    """Whether the container, as it runs now, has these, by its kubelet and by what it sees."""
    seen = tuple(sorted({device.partition("::")[0] for device in devices}))
    # A kubelet that has just started has yet to hear of its pods.
    known = until(lambda: holds(pods, name, container), f"the kubelet knows pod {name}")
    return known == devices and pods.devices(name, container) == seen


def run_trainer(pods: Pods, name: str = "trainer", gpus: int = 1) -> tuple[str, ...]:
    """Runs a pod with GPUs that waits; gives its devices, on which it and the kubelet agree."""
    pods.create(name, node=NODE, gpus=gpus)
    pods.wait_running(name)
    given = holds(pods, name)
    assert len(given) == gpus and keeps(pods, name, given)
    return given


@in_each_shape
def test_a_pod_gets_its_device_and_podresources_agrees(agent: Agent, pods: Pods) -> None:
    seen = run_trainer(pods)
    assert set(seen) <= set(listed(agent))


def test_a_cdi_device_is_visible_once(agent: Agent, pods: Pods) -> None:
    (uuid,) = run_trainer(pods)
    index = sorted_by_index(agent).index(uuid)
    assert pods.exec("trainer", "ls /dev | grep nvidia") == f"nvidia{index}\n"
    # The simulated GPU is /dev/null: writing to it shows that the cgroup lets the container at it.
    assert pods.exec("trainer", f"echo x >/dev/nvidia{index} && echo written") == "written\n"
    # Only the CDI spec sets it so: the devices came by their CDI names.
    assert pods.exec("trainer", "echo $NVIDIA_VISIBLE_DEVICES") == "void\n"


def sorted_by_index(agent: Agent) -> list[str]:
    """The UUIDs of the node's GPUs, in the driver's order, from its CDI spec."""
    spec = json.loads((agent.node.cdi_dir / "gpuyard.io-gpu.json").read_text())
    by_node = {
        device["containerEdits"]["deviceNodes"][0]["path"]: device["name"]
        for device in spec["devices"]
        if device["name"].startswith("GPU-")
    }
    return [by_node[f"/dev/nvidia{index}"] for index in range(COUNT)]


@in_each_shape
def test_the_same_device_after_a_container_restart(agent: Agent, pods: Pods) -> None:
    before = run_trainer(pods)
    pods.exit("trainer")
    pods.wait_running("trainer", restarts=1)
    assert keeps(pods, "trainer", before)


@in_each_shape
def test_the_same_device_after_a_kubelet_restart(agent: Agent, pods: Pods, cluster: Cluster) -> None:
    before = run_trainer(pods)
    restart_kubelet(agent)
    pods.wait_running("trainer")  # And was never restarted.
    assert keeps(pods, "trainer", before)
    # The kubelet gives no other pod what is taken.
    assert not set(run_trainer(pods, "rest", gpus=COUNT - 1)) & set(before)


@repeated
def test_the_same_device_after_a_container_and_a_kubelet_restart(
    agent: Agent, pods: Pods, cluster: Cluster, round: int
) -> None:
    before = run_trainer(pods)
    restart_kubelet(agent)
    pods.exit("trainer")
    pods.wait_running("trainer", restarts=1)
    assert keeps(pods, "trainer", before)


@repeated
def test_the_same_device_for_a_container_that_ended_while_the_kubelet_was_down(
    agent: Agent, pods: Pods, cluster: Cluster, round: int
) -> None:
    before = run_trainer(pods)
    running = pods.status("trainer")["containerID"].removeprefix("containerd://")
    cluster.stop(f"kubelet@{NODE}")
    cluster.on_node(NODE, str(cluster.folder / "bin/ctr"), "-n=k8s.io", "task", "kill", "-s=SIGKILL", running)
    start_kubelet(agent)
    pods.wait_running("trainer", restarts=1)
    assert keeps(pods, "trainer", before)


@in_each_shape
def test_a_second_pod_gets_another_device(agent: Agent, pods: Pods) -> None:
    first, second = run_trainer(pods, "first"), run_trainer(pods, "second")
    assert not set(first) & set(second)


@repeated
def test_a_succeeded_pod_stays_so_after_the_plugin_is_gone_and_the_kubelet_restarts(
    agent: Agent, pods: Pods, cluster: Cluster, round: int
) -> None:
    pods.run("trainer", node=NODE, gpus=1, command="true")
    cluster.stop(f"kubelet@{NODE}")
    agent.stop()
    cluster.start(f"kubelet@{NODE}")
    # Once a new pod has run, this kubelet has looked at the old one, too.
    pods.run("later", node=NODE, command="true")
    assert pods.get("trainer")["status"]["phase"] == "Succeeded"
    assert pods.status("trainer")["state"]["terminated"]["reason"] == "Completed"


@in_each_shape
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_assignments_are_kept_across_a_plugin_restart(
    agent: Agent, pods: Pods, cluster: Cluster, number: int
) -> None:
    before = run_trainer(pods)
    agent.stop(number)
    wait_for_devices(agent, 0)
    pods.wait_running("trainer")  # Its container is the first one still.
    assert holds(pods, "trainer") == before
    agent.start()
    wait_for_devices(agent)
    pods.wait_running("trainer")
    assert keeps(pods, "trainer", before)
    assert not set(run_trainer(pods, "rest", gpus=COUNT - 1)) & set(before)


@repeated
def test_the_same_device_after_a_container_and_a_plugin_restart(
    agent: Agent, pods: Pods, cluster: Cluster, round: int
) -> None:
    before = run_trainer(pods)
    agent.stop()
    wait_for_gpus(cluster, NODE, 0, COUNT)
    agent.start()
    wait_for_gpus(cluster, NODE, COUNT, COUNT)
    pods.exit("trainer")
    pods.wait_running("trainer", restarts=1)
    assert keeps(pods, "trainer", before)


@repeated
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_plugin_that_another_replaces_at_once_is_not_forgotten(
    agent: Agent, pods: Pods, number: int, round: int
) -> None:
    # Kubelets 1.34 and 1.35 drop whoever is registered when the stream of a predecessor ends.
    before = run_trainer(pods)
    agent.restart(number)
    until(lambda: agent.log.count("registered nvidia.com/gpu") >= 2, "the new one has registered")
    assert not set(run_trainer(pods, "rest", gpus=COUNT - 1)) & set(before)
    pods.wait_running("trainer")


@in_each_shape
def test_a_pod_force_deleted_while_the_kubelet_is_down_leaves_no_assignment(
    agent: Agent, pods: Pods, cluster: Cluster
) -> None:
    run_trainer(pods)
    cluster.stop(f"kubelet@{NODE}")
    pods.kubectl("delete", "pod", "trainer", "--force", "--grace-period=0")
    start_kubelet(agent)
    # A kubelet clears what gone pods held when it admits a pod, but not for those of its first list.
    pods.run("later", node=NODE, command="true")
    assert not holds(pods, "trainer")
    run_trainer(pods, "next", gpus=COUNT)


def test_init_and_restartable_init_containers_share_a_device_and_the_regular_one_gets_another(
    agent: Agent, pods: Pods, cluster: Cluster
) -> None:
    def part(name: str, command: str, **fields: Any) -> dict[str, Any]:
        return container(name, cluster.registry, command, gpus=1, **fields)

    inits = [
        part("init", 'echo "devices=$CUDA_VISIBLE_DEVICES"'),
        part("sidecar", WAIT, restartPolicy="Always"),
    ]
    pods.create_spec("trainer", node=NODE, initContainers=inits, containers=[part("main", WAIT)])
    pods.wait_running("trainer")
    init, sidecar, main = (pods.devices("trainer", name) for name in ("init", "sidecar", "main"))
    assert len(init) == len(main) == 1
    assert init == sidecar == holds(pods, "trainer", "sidecar")
    assert init != main == holds(pods, "trainer", "main")


@repeated
def test_healthy_unhealthy_healthy(cluster: Cluster, tmp_path: Path, agent: Agent, round: int) -> None:
    agent.stop()
    one = Agent(cluster, NODE, tmp_path, "H100:1")
    one.start()
    try:
        wait_for_gpus(cluster, NODE, 1, 1)
        one.set_unhealthy(allocatable(one.node))
        wait_for_gpus(cluster, NODE, 0, 1)
        one.set_unhealthy(())
        wait_for_gpus(cluster, NODE, 1, 1)
    finally:
        one.stop()


def test_a_pod_keeps_running_when_its_device_fails(agent: Agent, pods: Pods, cluster: Cluster) -> None:
    before = run_trainer(pods)
    agent.set_unhealthy(before)
    wait_for_gpus(cluster, NODE, COUNT - 1, COUNT)
    pods.wait_running("trainer")
    assert holds(pods, "trainer") == before
    # And no other pod gets it: of the three that are allocatable, the scheduler counts one as taken.
    assert not set(run_trainer(pods, "rest", gpus=COUNT - 2)) & set(before)
    agent.set_unhealthy(())
    wait_for_gpus(cluster, NODE, COUNT, COUNT)
    pods.wait_running("trainer")


def test_four_devices_with_partial_failures(agent: Agent, cluster: Cluster) -> None:
    uuids = sorted_by_index(agent)
    for broken in ([3], [], [1, 2], [0], []):  # 4 → 3 → 4 → 2 → 3 → 4
        agent.set_unhealthy(uuids[index] for index in broken)
        wait_for_gpus(cluster, NODE, COUNT - len(broken), COUNT)
        assert set(allocatable(agent.node)) == set(uuids) - {uuids[index] for index in broken}


def test_allocated_resources_status_follows_health(agent: Agent, pods: Pods) -> None:
    (uuid,) = run_trainer(pods)

    def health() -> str:
        for resource in pods.status("trainer").get("allocatedResourcesStatus", ()):
            if resource["name"] == GPU:
                (entry,) = resource["resources"]
                assert entry["resourceID"] == uuid
                return str(entry["health"])
        return ""

    until(lambda: health() == "Healthy", "the device is shown as healthy")
    agent.set_unhealthy([uuid])
    until(lambda: health() == "Unhealthy", "the device is shown as unhealthy")
    agent.set_unhealthy(())
    until(lambda: health() == "Healthy", "the device is shown as healthy again")


@pytest.mark.slow
def test_a_plugin_that_is_gone_for_five_minutes_leaves_no_capacity(cluster: Cluster) -> None:
    # See gone_from_the_start: there it went from 4/4 to 0/4.
    wait_for_gpus(cluster, "node-b", 0, 0, timeout_s=GRACE_S + 60)
