"""A real Kubernetes of two nodes; `make test-cluster` and, for one that stays, `make cluster-up`."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness.cluster import DEFAULT_FOLDER, Cluster
from tests.cluster.harness.objects import Pods


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """What needs nodes without an install comes before what makes one, and what shares one last of all.

    Five minutes pass after a plugin is gone, and other tests meanwhile.
    """
    if item.path.parent.name == "installed":
        return 4
    if item.path.name in ("test_deploy.py", "test_install.py"):
        return 3
    if item.name == "test_a_plugin_that_is_gone_for_five_minutes_leaves_no_capacity":
        return 2
    return int(item.path.name != "test_device_plugin.py")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The one that KUBECONFIG_GPUYARD_TEST names or that runs already, and stays; else one for now.

    It belongs to one process: where tests run in several, each but the first has one of its own.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    named = os.environ.get("KUBECONFIG_GPUYARD_TEST") if worker == "gw0" else None
    folder = Path(named).parent if named else DEFAULT_FOLDER
    if worker != "gw0":
        folder = folder.with_name(f"{folder.name}-{worker}")
    if running := Cluster.open(folder):
        yield running
        return
    assert not named, f"KUBECONFIG_GPUYARD_TEST={named}: no cluster runs there; `make cluster-up` starts one"
    try:
        yield Cluster.up(folder, lambda line: print(line, file=sys.stderr))
    finally:
        Cluster.down(folder)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own; its pods are gone when the test is over."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    # Pods are refused until the namespace has its account.
    cluster.kubectl("wait", f"-n={name}", "--for=create", "serviceaccount/default", "--timeout=30s")
    yield name
    cluster.kubectl("delete", "pods", "--all", f"-n={name}", "--force", "--grace-period=0")
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def pods(cluster: Cluster, namespace: str) -> Pods:
    """Makes and looks at pods in the test's namespace."""
    return Pods(cluster, namespace)
