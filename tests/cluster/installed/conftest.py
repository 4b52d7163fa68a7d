"""A cluster on which gpuyard is installed with simulated GPUs, for the tests of this folder."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.objects import gpu_counts, wait_for_gpus
from tests.cluster.shell import ClusterShell, cluster_shell
from tests.images.conftest import debian_tar, torch_tar  # noqa: F401
from tests.images.torch_images import TorchImages, build_torch_images
from tests.waiting import until

GPUS = 8
OPTIONS = (f"--simulate=H100:{GPUS}", "--taint")


@pytest.fixture(scope="session")
def gpuyard(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Gpuyard]:
    """Eight simulated H100 on each of two tainted nodes; an install that is there already stays."""
    gpuyard = Gpuyard(cluster, tmp_path_factory.mktemp("home"))
    if all(gpu_counts(cluster, node) == (GPUS, GPUS) for node in cluster.nodes):
        yield gpuyard
        return
    tar = request.getfixturevalue("debian_tar")
    done = gpuyard.run("image", "import", str(tar), f"--tag={python_image(cluster)}")
    assert done.code == 0, done
    agent = f"{cluster.registry}/gpuyard/agent:installed"
    try:
        gpuyard.ok(
            "install",
            f"--base={python_image(cluster)}",
            f"--image={agent}",
            *OPTIONS,
        )
        for node in cluster.nodes:
            wait_for_gpus(cluster, node, GPUS, GPUS)
        yield gpuyard
    finally:
        gpuyard.ok("uninstall", "--force")


def python_image(cluster: Cluster) -> str:
    """Debian with Python 3.11, without any of gpuyard in it."""
    return f"{cluster.registry}/debian:12"


@pytest.fixture
def image(gpuyard: Gpuyard) -> str:
    """An image with Python that knows nothing of gpuyard."""
    return python_image(gpuyard.cluster)


@pytest.fixture(scope="session")
def torch_images(
    gpuyard: Gpuyard,
    torch_tar: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> TorchImages:
    """Examples 03 and 04 in the cluster's registry."""

    def run(*words: str) -> None:
        done = gpuyard.run(*words)
        assert done.code == 0, done

    folder = tmp_path_factory.mktemp("examples")
    return build_torch_images(run, torch_tar, folder, gpuyard.cluster.registry)


@pytest.fixture
def team(gpuyard: Gpuyard) -> Iterator[str]:
    """A namespace that enforces Pod Security's "restricted"; it is gone when the test is over."""
    cluster, name = gpuyard.cluster, f"team-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    cluster.kubectl("wait", f"-n={name}", "--for=create", "serviceaccount/default", "--timeout=30s")
    yield name
    cluster.kubectl("delete", "jobs,pods", "--all", f"-n={name}", "--force", "--grace-period=0")
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def shared_shell(gpuyard: Gpuyard) -> Iterator[ClusterShell]:
    with cluster_shell(gpuyard.cluster, python_image(gpuyard.cluster)) as shell:
        yield shell


@pytest.fixture
def target(shared_shell: ClusterShell) -> Iterator[ClusterShell]:
    """A shell whose commands go to a namespace without runs."""
    yield shared_shell
    shared_shell.remove_runs()


@pytest.fixture
def torch_options(target: ClusterShell, torch_images: TorchImages) -> tuple[str, ...]:
    """What `run` is called with besides, so that there is a PyTorch; both nodes have the image."""
    words = ("--image", torch_images.base)
    target.ok("run", "-d", "-n", "pulls", "--nodes", "2", "--gpus", "5", *words, "--", "true")
    until(lambda: target.state("pulls")["state"], "pulled", lambda state: state == "succeeded", timeout_s=300)
    target.ok("rm", "pulls")
    return words


@pytest.fixture
def storage(gpuyard: Gpuyard) -> Iterator[None]:
    """Two volumes for claims of up to 1 GiB, of no class, as this cluster provisions none."""
    with tempfile.TemporaryDirectory(prefix="gy-volumes-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        made = [_volume(Path(folder, name)) for name in ("one", "two")]
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
        gpuyard.cluster.kubectl("create", "-f", "-", stdin=manifest)
        try:
            yield
        finally:
            names = [volume["metadata"]["name"] for volume in made]
            gpuyard.cluster.kubectl("delete", "persistentvolume", *names, "--wait=false")


def _volume(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    # Runs there have no rights of root.
    folder.chmod(0o777)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"test-{secrets.token_hex(4)}"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }
