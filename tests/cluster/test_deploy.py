"""deploy/ renders to what `gpuyard install` sends: the Helm chart by helm, the kustomize base by kubectl."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gpuyard.tenancy.install import install
from gpuyard.tenancy.options import TOLERATE_ALL, DriverAccess, InstallOptions
from tests.cluster.harness.cluster import Cluster

ROOT = Path(__file__).parents[2]
IMAGE = "registry.example.com/gpuyard/agent:v1"
SKU = {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}
MPS = '{"sharing":{"mps":{"resources":[{"name":"gpu","replicas":2}]}},"version":"v1"}'
#: What the chart is told, and the same for an install.
VALUES = {
    "defaults": ({}, InstallOptions(IMAGE)),
    "simulated": (
        {"simulate": "H100:8", "taint": True, "tolerations": [SKU]},
        InstallOptions(IMAGE, simulate="H100:8", taint=True, tolerations=(SKU,)),
    ),
    "privileged": (
        {
            "driverAccess": "privileged",
            "policy": True,
            "void": True,
            "namespace": "gpus",
            "nodeSelector": {"gpu": "yes"},
            "gpuConfig": json.loads(MPS),
            "gpuBackend": "acme_gpus",
            "hostPID": True,
            "metrics": True,
        },
        InstallOptions(
            IMAGE,
            namespace="gpus",
            driver_access=DriverAccess.PRIVILEGED,
            policy=True,
            void=True,
            gpu_config=MPS,
            gpu_backend="acme_gpus",
            host_pid=True,
            metrics=True,
            node_selector={"kubernetes.io/os": "linux", "gpu": "yes"},
        ),
    ),
}
COMPONENTS = {
    "none": ((), InstallOptions(IMAGE)),
    "simulated": (("simulate", "taint"), InstallOptions(IMAGE, simulate="H100:8", taint=True)),
    "tolerant": (
        ("taint", "tolerate-all"),
        InstallOptions(IMAGE, taint=True, tolerations=(TOLERATE_ALL,)),
    ),
    "old": (("before-1.30",), InstallOptions(IMAGE, confine=False)),
    "watched": (("metrics", "taint"), InstallOptions(IMAGE, metrics=True, taint=True)),
    "seeing": (("metrics", "host-pid"), InstallOptions(IMAGE, metrics=True, host_pid=True)),
    "operated": (("metrics", "pod-monitor"), InstallOptions(IMAGE, metrics=True, pod_monitor=True)),
    "operated-simulated": (
        ("metrics-simulate", "pod-monitor", "taint"),
        InstallOptions(IMAGE, metrics=True, pod_monitor=True, simulate="H100:8", taint=True),
    ),
    "watched-simulated": (("metrics-simulate",), InstallOptions(IMAGE, metrics=True, simulate="H100:8")),
    "privileged": (
        ("privileged", "taint", "policy", "void"),
        InstallOptions(IMAGE, driver_access=DriverAccess.PRIVILEGED, taint=True, policy=True, void=True),
    ),
}


OLD = {"1.29.0": InstallOptions(IMAGE, confine=False), "1.30.0-eks-1": InstallOptions(IMAGE)}


@pytest.fixture(scope="session")
def helm() -> str:
    """Built from its module, once per machine."""
    done = subprocess.run([ROOT / "tools/helm/build"], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def by_name(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{m['kind']} {m['metadata']['name']}": json.loads(json.dumps(m)) for m in manifests}


def parsed(text: str) -> dict[str, Any]:
    return by_name([document for document in YAML(typ="safe").load_all(text) if document])


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_renders_to_an_install(helm: str, tmp_path: Path, name: str) -> None:
    values, options = VALUES[name]
    file = tmp_path / "values.json"
    file.write_text(json.dumps({"image": IMAGE, **values}))
    command = [helm, "template", "gpuyard", str(ROOT / "deploy/helm/gpuyard"), f"--values={file}"]
    done = subprocess.run([*command, "--kube-version=1.37.0"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert parsed(done.stdout) == by_name(install(options))


@pytest.mark.parametrize("kind", ["", "monitoring.coreos.com/v1/PodMonitor"])
def test_the_chart_has_a_pod_monitor_where_the_cluster_knows_the_kind(helm: str, kind: str) -> None:
    command = [helm, "template", "gpuyard", str(ROOT / "deploy/helm/gpuyard"), f"--set=image={IMAGE}"]
    command += ["--set=metrics=true", "--kube-version=1.37.0", *([f"--api-versions={kind}"] if kind else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert parsed(done.stdout) == by_name(
        install(InstallOptions(IMAGE, metrics=True, pod_monitor=bool(kind)))
    )


@pytest.mark.parametrize("version", OLD)
def test_the_chart_confines_labellers_where_the_cluster_can(helm: str, version: str) -> None:
    command = [helm, "template", "gpuyard", str(ROOT / "deploy/helm/gpuyard"), f"--set=image={IMAGE}"]
    done = subprocess.run([*command, f"--kube-version={version}"], capture_output=True, text=True, check=True)
    assert parsed(done.stdout) == by_name(install(OLD[version]))


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_kustomize_base_renders_to_an_install(cluster: Cluster, tmp_path: Path, name: str) -> None:
    components, options = COMPONENTS[name]
    deploy = Path(os.path.relpath(ROOT / "deploy/kustomize", tmp_path))
    image, tag = IMAGE.rsplit(":", 1)
    overlay = {
        "resources": [str(deploy / "base")],
        "components": [str(deploy / "components" / component) for component in components],
        "images": [{"name": "gpuyard-agent", "newName": image, "newTag": tag}],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    assert parsed(cluster.kubectl("kustomize", str(tmp_path))) == by_name(install(options))


def test_a_cluster_takes_the_chart(helm: str, cluster: Cluster) -> None:
    command = [helm, "install", "gpuyard", str(ROOT / "deploy/helm/gpuyard"), f"--set=image={IMAGE}"]
    done = subprocess.run(
        [*command, "--dry-run=server", "--namespace=default", "--set", "policy=true"],
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_kustomization_may_move_the_install(cluster: Cluster, tmp_path: Path) -> None:
    deploy = Path(os.path.relpath(ROOT / "deploy/kustomize", tmp_path))
    image, tag = IMAGE.rsplit(":", 1)
    overlay = {
        "resources": [str(deploy / "base")],
        "namespace": "gpus",
        "images": [{"name": "gpuyard-agent", "newName": image, "newTag": tag}],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    rendered = parsed(cluster.kubectl("kustomize", str(tmp_path)))
    for name, manifest in rendered.items():
        if name.startswith("ValidatingAdmissionPolicy"):
            # kustomize takes them for namespaced; the API server drops that.
            assert manifest["metadata"].pop("namespace") == "gpus"
    assert rendered == by_name(install(InstallOptions(IMAGE, namespace="gpus")))
