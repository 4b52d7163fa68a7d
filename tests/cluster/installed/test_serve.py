"""Example 04 on a cluster, as its README says: a Deployment behind a Service, and a run of its image."""

from __future__ import annotations

import json
import shlex

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.images.torch_images import EXAMPLES, TorchImages
from tests.waiting import until

#: Pulling 0.9 GB to two nodes and training there, on two busy cores.
PATIENCE_S = 300
_FOLDER = EXAMPLES / "04-serve"
#: As the example has it.
_IMAGE = "registry.example.com/me/serve:v1"


def ask(cluster: Cluster, namespace: str, what: str, path: str) -> str:
    """What a pod or a Service answers, through the API server."""
    return cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/{what}/proxy{path}")


def log_of(cluster: Cluster, namespace: str, pod: str) -> list[str]:
    return cluster.kubectl("logs", f"-n={namespace}", pod).splitlines()


def test_a_deployment_is_ready_when_it_has_trained(
    gpuyard: Gpuyard, torch_images: TorchImages, team: str
) -> None:
    cluster, within = gpuyard.cluster, f"-n={team}"
    manifest = (_FOLDER / "deployment.yaml").read_text()
    assert _IMAGE in manifest
    cluster.kubectl("apply", within, "-f", "-", stdin=manifest.replace(_IMAGE, torch_images.serve))
    rollout = ("rollout", "status", within, "deployment/serve", f"--timeout={PATIENCE_S}s")
    cluster.kubectl(*rollout, timeout_s=PATIENCE_S + 10)
    pods = cluster.kubectl("get", "pods", within, "-o=jsonpath={.items[*].metadata.name}").split()
    assert len(pods) == 2
    for pod in pods:
        log = log_of(cluster, team, pod)
        assert log.index("There are no weights: training") < log.index("Ready")
    answer = json.loads(ask(cluster, team, "services/serve:http", "/generate?n=12&seed=5"))
    assert answer["digits"] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert len(answer["images"]) == 12
    cluster.kubectl("delete", within, "deployment/serve", "service/serve")


def test_a_run_of_the_image_serves_until_it_is_stopped(
    gpuyard: Gpuyard, torch_images: TorchImages, team: str
) -> None:
    cluster, within = gpuyard.cluster, f"--namespace={team}"
    [line] = [line for line in (_FOLDER / "README.md").read_text().splitlines() if "run --context" in line]
    words = shlex.split(line.replace(_IMAGE, torch_images.serve))
    assert words[:4] == ["gpuyard", "run", "--context", "gpu-cluster"]
    gpuyard.ok("run", within, "--env", "TRAIN_STEPS=20", *words[4:])

    def pod() -> str:
        return cluster.kubectl("get", "pods", within, "-o=jsonpath={.items[*].metadata.name}")

    def answers() -> str:
        try:
            return ask(cluster, team, f"pods/{pod()}:8000", "/generate?n=1&digit=3")
        except ClusterError:
            return ""  # There is no pod yet, or it doesn't listen, or it isn't ready.

    assert json.loads(until(answers, "the run answers", timeout_s=PATIENCE_S))["digits"] == [3]
    gpuyard.ok("stop", within, "serve")
    [row] = gpuyard.json("ps", within)
    assert (row["state"], row["gpus"]) == ("stopped", 1)
    assert log_of(cluster, team, pod())[-1] == "Stopped"
