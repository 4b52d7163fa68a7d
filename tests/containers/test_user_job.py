"""The training Job that a user brings, on a yard: real PyTorch, in an image, run by podman."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard.local.runtime.podman.host import Podman
from tests.e2e.conftest import Yard, own_yard, stopped_yard
from tests.images.conftest import Site, torch_tar
from tests.images.torch_images import TorchImages, build_torch_images
from tests.registry.conftest import docker_registry
from tests.waiting import until

__all__ = ["own_yard", "stopped_yard", "torch_tar"]

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.kubectl]

_NAME = "distributed-training-job"


@pytest.fixture
def images(podman: Podman, torch_tar: Path, tmp_path: Path) -> Iterator[TorchImages]:
    with docker_registry(tmp_path) as registry:
        images = build_torch_images(Site(registry, tmp_path).ok, torch_tar, tmp_path, registry)
        yield images
    subprocess.run(["podman", "rmi", "--force", "--ignore", images.train], capture_output=True, check=True)


_CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: imagenet-pvc
spec:
  accessModes: [ReadWriteOnce]
  resources:
    requests:
      storage: 1Gi
"""


def test_the_job_trains_on_a_yard_unchanged(own_yard: Yard, images: TorchImages) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    own_yard.kubectl("apply", "-f", str(own_yard.script("job.yaml", images.manifest("train-job.yaml"))))
    told = until(
        lambda: own_yard.kubectl("describe", "pod", f"-l=job-name={_NAME}"),
        "its pod waits for its claim",
        lambda told: "persistentvolumeclaim" in told,
    )
    assert 'persistentvolumeclaim "imagenet-pvc" not found' in told
    own_yard.kubectl("apply", "-f", str(own_yard.script("claim.yaml", _CLAIM)))

    def phase() -> str:
        return own_yard.kubectl("get", "pods", f"-l=job-name={_NAME}", "-o=jsonpath={.items[*].status.phase}")

    phases = ("Running", "Succeeded", "Failed")
    until(phase, "the image is pulled", lambda phase: phase in phases, timeout_s=300)
    [claim] = json.loads(own_yard.ok("volume", "ls", "-o", "json"))
    assert (claim["name"], claim["state"], claim["used_by"]) == ("imagenet-pvc", "bound", [f"job/{_NAME}"])
    log = own_yard.kubectl("logs", "-f", f"job/{_NAME}")
    own_yard.kubectl("wait", "--for=condition=Complete", f"job/{_NAME}", "--timeout=50s")
    for rank in range(2):
        assert f"rank {rank} of 2: Using device: cpu (gloo, GPUs simulated)" in log
    assert "step 30/30 loss " in log
    assert "All 2 ranks hold the same weights" in log
    status = json.loads(own_yard.kubectl("get", "job", _NAME, "-o=json"))["status"]
    assert (status["succeeded"], status.get("failed")) == (1, None)
