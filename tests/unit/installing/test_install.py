import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.installing.install import check_cluster, install_options
from gpuyard.tenancy.options import InstallOptions

IMAGE = "registry.example.com/gpuyard/agent:v1"


def options(**changes: Any) -> InstallOptions:
    given: dict[str, Any] = {
        "namespace": None,
        "simulate": None,
        "driver_access": "runtimeclass",
        "mig_strategy": "none",
        "gpu_config": "",
        "gpu_backend": "",
        "host_pid": False,
        "node_selector": (),
        "toleration": (),
        "tolerate_all": False,
        "metrics": False,
        "taint": False,
        "policy": False,
        "void": False,
    }
    return install_options(IMAGE, **(given | changes))


def test_what_is_not_said_is_as_the_defaults_are() -> None:
    assert options() == InstallOptions(IMAGE)


def test_values_are_completed() -> None:
    made = options(simulate="h100:2", node_selector=("gpu=yes",), namespace="gpus")
    assert made.simulate == "H100:2"
    assert made.node_selector == {"kubernetes.io/os": "linux", "gpu": "yes"}
    assert made.namespace == "gpus"


def test_taints_are_tolerated_as_kubectl_writes_them() -> None:
    assert options(toleration=("sku=gpu:NoSchedule", "dedicated=ml", "spot")).tolerations == (
        {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
        {"key": "dedicated", "operator": "Equal", "value": "ml"},
        {"key": "spot", "operator": "Exists"},
    )
    assert options(toleration=("spot",), tolerate_all=True).tolerations == ({"operator": "Exists"},)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"simulate": "H900:8"}, "no GPU model"),
        ({"simulate": "H100:0"}, "no number of GPUs"),
        ({"namespace": "Kube_System"}, "can't be a namespace's name"),
        ({"node_selector": ("gpu",)}, "is no label"),
        ({"toleration": ("=gpu:NoSchedule",)}, "is no toleration"),
        ({"toleration": ("sku=gpu:NoSchedul",)}, "is no toleration"),
    ],
)
def test_wrong_values(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.UsageError, match=message):
        options(**changes)


class Cluster:
    """A cluster's answers to what is looked at before an install."""

    def __init__(self, **version: str) -> None:
        self.version = version
        self.namespaces: list[dict[str, Any]] = []
        self.nodes: list[dict[str, Any]] = []
        #: The Prometheus operator's kinds, where it has been installed.
        self.monitoring: list[str] | None = None
        #: How often it was asked for them; asked again it has `later`, when there are some.
        self.asked_for_nodes = 0
        self.later: list[dict[str, Any]] | None = None

    def reply(self, path: str) -> dict[str, Any] | None:
        if path == "/version":
            return self.version
        if path == "/api/v1/namespaces":
            return {"items": [n for n in self.namespaces if n["metadata"]["labels"]]}
        if path.startswith("/api/v1/namespaces/"):
            return next((n for n in self.namespaces if path.endswith("/" + n["metadata"]["name"])), None)
        if path == "/api/v1/nodes":
            self.asked_for_nodes += 1
            late = self.later is not None and self.asked_for_nodes > 1
            return {"items": self.later if late else self.nodes}
        if path.startswith("/apis/monitoring.coreos.com/v1"):
            kinds = self.monitoring
            return {"resources": [{"name": name} for name in kinds]} if kinds else None
        return {"items": []}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, path, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        assert method == "GET"
        found = self.reply(path.partition("?")[0])
        body = json.dumps(found or {}).encode()
        head = f"HTTP/1.1 {404 if found is None else 200} X\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async def check(self, options: InstallOptions, **how: Any) -> InstallOptions:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            socket = Path(folder, "api")
            async with (
                await asyncio.start_unix_server(self.answer, socket),
                RestApi(unix_socket=socket) as api,
            ):
                return await check_cluster(api, options, on_wait=print, **how)


async def test_old_clusters_are_refused() -> None:
    with pytest.raises(errors.UsageError, match=r"Kubernetes 1\.27, and gpuyard needs 1\.28"):
        await Cluster(major="1", minor="27+").check(options())
    await Cluster(major="1", minor="28").check(options())


async def test_the_policy_needs_a_newer_one() -> None:
    with pytest.raises(errors.UsageError, match=r"1\.29, and --policy needs 1\.30"):
        await Cluster(major="1", minor="29").check(options(policy=True))
    await Cluster(major="1", minor="30").check(options(policy=True))


async def test_labellers_are_confined_where_the_cluster_can() -> None:
    assert not (await Cluster(major="1", minor="29").check(options())).confine
    assert (await Cluster(major="1", minor="30").check(options())).confine


async def test_metrics_are_found_by_a_pod_monitor_where_there_is_that_kind() -> None:
    cluster = Cluster(major="1", minor="34")
    assert not (await cluster.check(options(metrics=True))).pod_monitor
    cluster.monitoring = ["servicemonitors"]
    assert not (await cluster.check(options(metrics=True))).pod_monitor
    cluster.monitoring = ["servicemonitors", "podmonitors"]
    assert (await cluster.check(options(metrics=True))).pod_monitor
    assert not (await cluster.check(options())).pod_monitor


async def test_the_word_for_containers_without_gpus_needs_a_newer_one() -> None:
    with pytest.raises(errors.UsageError, match=r"1\.35, and --void needs 1\.36"):
        await Cluster(major="1", minor="35").check(options(void=True))
    await Cluster(major="1", minor="36").check(options(void=True))


async def test_namespaces_of_others_are_left_alone() -> None:
    cluster = Cluster(major="1", minor="34")
    cluster.namespaces = [{"metadata": {"name": "kube-system", "labels": {}}}]
    with pytest.raises(errors.UsageError, match="exists and isn't gpuyard's"):
        await cluster.check(options(namespace="kube-system"))


async def test_a_cluster_has_one_install() -> None:
    cluster = Cluster(major="1", minor="34")
    labels = {"app.kubernetes.io/part-of": "gpuyard"}
    cluster.namespaces = [{"metadata": {"name": "there", "labels": labels}}]
    with pytest.raises(errors.UsageError, match="installed in the namespace there already"):
        await cluster.check(options(namespace="here"))
    await cluster.check(options(namespace="there"))


def gpu_node(gpus: str, **labels: str) -> dict[str, Any]:
    status = {"allocatable": {"nvidia.com/gpu": gpus}}
    return {
        "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"} | labels},
        "spec": {},
        "status": status,
    }


async def test_gpus_that_no_pod_serves_are_noticed() -> None:
    cluster = Cluster(major="1", minor="34")
    cluster.nodes = [gpu_node("8", pool="a")]
    with pytest.raises(
        errors.UsageError, match=r"(?m)no pod serves nvidia\.com/gpu already, on n$"
    ) as caught:
        await cluster.check(options(), gone_s=0)
    assert "--node-selector" in caught.value.remedy and "--force" in caught.value.remedy
    await cluster.check(options(), gone_s=0, force=True)
    # Nodes that get no agent don't matter.
    await cluster.check(options(node_selector=("pool=b",)), gone_s=0)


async def test_a_plugin_that_has_just_gone_is_waited_for() -> None:
    cluster = Cluster(major="1", minor="34")
    cluster.nodes, cluster.later = [gpu_node("8")], [gpu_node("0")]
    await cluster.check(options(), gone_s=60)
    assert cluster.asked_for_nodes == 2


def test_a_backends_file_is_a_module_in_the_image() -> None:
    assert options(gpu_backend="./of/acme_gpus.py").gpu_backend == "acme_gpus"
    assert options(gpu_backend="acme.gpus").gpu_backend == "acme.gpus"


MPS = json.dumps({"version": "v1", "sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 2}]}}})


def test_sharing_by_mps_takes_a_privileged_agent_where_gpus_are_real() -> None:
    with pytest.raises(errors.UsageError, match="takes daemons of the driver's") as caught:
        options(gpu_config=MPS)
    assert "--driver-access privileged" in caught.value.remedy
    assert options(gpu_config=MPS, driver_access="privileged").gpu_config == MPS
    assert options(gpu_config=MPS, simulate="H100:8").gpu_config == MPS


SCRUB = json.dumps({"version": "v1", "flags": {"plugin": {"preStart": "scrub"}}})


def test_a_scrub_takes_a_privileged_agent_where_gpus_are_real() -> None:
    with pytest.raises(errors.UsageError, match="takes the driver's libcuda") as caught:
        options(gpu_config=SCRUB)
    assert "--driver-access privileged" in caught.value.remedy
    assert options(gpu_config=SCRUB, driver_access="privileged").gpu_config == SCRUB
    assert options(gpu_config=SCRUB, simulate="H100:8").gpu_config == SCRUB


def shared(**fields: Any) -> str:
    resources = [{"name": "gpu", "replicas": 4, **fields}]
    return json.dumps({"version": "v1", "sharing": {"timeSlicing": {"resources": resources}}})


def test_with_the_policy_shared_gpus_have_a_name_that_it_knows() -> None:
    with pytest.raises(errors.UsageError, match=r"kept off shared GPUs, which nvidia\.com/gpu doesn't tell"):
        options(policy=True, gpu_config=shared())
    assert options(gpu_config=shared()).gpu_config == shared()
    renamed = shared(rename="gpu.shared")
    assert options(policy=True, gpu_config=renamed).gpu_config == renamed
