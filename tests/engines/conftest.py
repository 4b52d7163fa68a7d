"""A real Kubernetes with simulated GPUs for engines to be installed on; `make test-engines`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import namespace, pods  # noqa: F401
from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.agent import Agent
from tests.cluster.harness.cluster import DEFAULT_FOLDER, Cluster
from tests.cluster.harness.objects import wait_for_gpus
from tests.engines.engine import Engine

NODE, COUNT = "node-a", 4


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.engines)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One of its own: an engine looks at every object that anybody makes, and its kinds outlast it."""
    folder = DEFAULT_FOLDER.with_name("run-engines")
    try:
        yield Cluster.up(folder, lambda line: print(line, file=sys.stderr))
    finally:
        Cluster.down(folder)


@pytest.fixture(scope="session")
def agent(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Our agent with four GPUs, known to the cluster."""
    agent = Agent(cluster, NODE, tmp_path_factory.mktemp("agent"), f"H100:{COUNT}")
    agent.start()
    try:
        wait_for_gpus(cluster, NODE, COUNT, COUNT)
        yield agent
    finally:
        agent.stop()


@pytest.fixture(scope="session")
def gpuyard(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Gpuyard:
    """The command line as the cluster's administrator."""
    return Gpuyard(cluster, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def engine(gpuyard: Gpuyard, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Engine]:
    """An engine that can be installed: `engine(NAME, MODULE, NAMESPACE)`."""

    def named(name: str, module: str, place: str) -> Engine:
        return Engine(gpuyard, name, module, place, tmp_path_factory.mktemp(name))

    return named
