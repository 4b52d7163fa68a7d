"""The two manifests that users bring, unchanged but for the registry, with real PyTorch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.agent import held
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.images.torch_images import TorchImages
from tests.waiting import until

#: Pulling 0.9 GB to two nodes and training there, on two busy cores.
PATIENCE_S = 300
_JOB = "distributed-training-job"


@pytest.fixture
def claim(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[str]:
    """The claim that the training Job names, bound to a folder of the nodes."""
    data = tmp_path / "imagenet"
    data.mkdir(mode=0o755)
    size, name = {"storage": "1Gi"}, "imagenet-pvc"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": {
            "capacity": size,
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "hostPath": {"path": str(data), "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": name},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": namespace,
            "resources": {"requests": size},
        },
    }
    cluster.kubectl("create", "-f", "-", stdin=volume)
    cluster.kubectl("create", f"-n={namespace}", "-f", "-", stdin=claim)
    yield name
    cluster.kubectl("delete", "persistentvolume", namespace, "--wait=false")


def gpus_of(cluster: Cluster, namespace: str) -> list[tuple[str, ...]]:
    """The GPUs of each container in the namespace, say the kubelets."""
    return [
        uuids for node in cluster.nodes.values() for key, uuids in held(node).items() if key[0] == namespace
    ]


def test_nodes_are_labelled_and_tainted(gpuyard: Gpuyard) -> None:
    for node in json.loads(gpuyard.cluster.kubectl("get", "nodes", "-o=json"))["items"]:
        assert node["metadata"]["labels"]["hardware-type"] == "nvidia-gpu"
        assert {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"} in node["spec"]["taints"]


def test_the_training_job_trains_to_its_end(
    gpuyard: Gpuyard, torch_images: TorchImages, namespace: str, claim: str
) -> None:
    cluster, within = gpuyard.cluster, f"-n={namespace}"
    cluster.kubectl("apply", within, "-f", "-", stdin=torch_images.manifest("train-job.yaml"))

    # The kubelet allots GPUs before it pulls the image.
    [uuids] = until(lambda: gpus_of(cluster, namespace), "the training has GPUs")
    assert len(set(uuids)) == 2

    def pod() -> Any:
        [found] = json.loads(cluster.kubectl("get", "pods", within, "-o=json"))["items"]
        return found

    phases = ("Running", "Succeeded", "Failed")
    until(
        lambda: pod()["status"]["phase"],
        "the training starts",
        lambda phase: phase in phases,
        timeout_s=PATIENCE_S,
    )
    log = cluster.kubectl("logs", "-f", within, f"job/{_JOB}", timeout_s=PATIENCE_S)
    for rank in range(2):
        assert f"rank {rank} of 2: Using device: cpu (gloo, GPUs simulated)" in log
    assert "step 30/30 loss " in log
    assert "All 2 ranks hold the same weights" in log
    cluster.kubectl("wait", within, "--for=condition=Complete", f"job/{_JOB}", "--timeout=60s")
    status = json.loads(cluster.kubectl("get", within, "job", _JOB, "-o=json"))["status"]
    assert (status["succeeded"], status.get("failed")) == (1, None)
    # The manifest tolerates nothing; that a pod with GPUs may run where GPUs are is the cluster's own word.
    tolerated = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert tolerated in pod()["spec"]["tolerations"]


def test_three_workers_answer_each_on_a_gpu_of_its_own(
    gpuyard: Gpuyard, torch_images: TorchImages, namespace: str
) -> None:
    cluster, within = gpuyard.cluster, f"-n={namespace}"
    cluster.kubectl("apply", within, "-f", "-", stdin=torch_images.manifest("diffusion-worker.yaml"))
    rollout = ("rollout", "status", within, "deployment/diffusion-worker", f"--timeout={PATIENCE_S}s")
    cluster.kubectl(*rollout, timeout_s=PATIENCE_S + 10)
    pods = cluster.kubectl("get", "pods", within, "-o=jsonpath={.items[*].metadata.name}").split()
    assert len(pods) == 3

    def ask(pod: str, path: str) -> str:
        return cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}:8000/proxy{path}")

    def ready(pod: str) -> bool:
        try:
            return ask(pod, "/readyz") == "ready\n"
        except ClusterError as error:
            # Running isn't listening yet, and listening isn't trained yet: the manifest has no probes.
            if "ServiceUnavailable" in str(error) or "isn't ready" in str(error):
                return False
            raise

    for name in pods:
        until(partial(ready, name), f"{name} has trained", timeout_s=PATIENCE_S)
        answer = json.loads(ask(name, "/generate?n=2&seed=1&digit=7"))
        assert [len(image) for image in answer["images"]] == [12, 12]
        assert "Using device: cpu (the GPUs are simulated)" in cluster.kubectl("logs", within, name)
    uuids = gpus_of(cluster, namespace)
    assert [len(own) for own in uuids] == [1, 1, 1]
    assert len({uuid for own in uuids for uuid in own}) == 3
