"""The end-to-end tests that hold of a cluster as of a yard: all those that ask for `target`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.shell import ClusterShell, cluster_shell
from tests.e2e import (
    test_environment,
    test_explain,
    test_interrupt,
    test_listing,
    test_logs,
    test_run,
    test_stop_and_rm,
)

from .conftest import python_image

_MODULES = (
    *(test_run, test_environment, test_logs, test_interrupt),
    *(test_stop_and_rm, test_listing, test_explain),
)


@pytest.fixture(scope="module")
def shared_shell(gpuyard: Gpuyard) -> Iterator[ClusterShell]:
    with cluster_shell(gpuyard.cluster, python_image(gpuyard.cluster)) as shell:
        yield shell


@pytest.fixture
def target(shared_shell: ClusterShell) -> Iterator[ClusterShell]:
    """A namespace without runs."""
    yield shared_shell
    shared_shell.remove_runs()


def _shared(module: ModuleType) -> dict[str, object]:
    return {
        name: test
        for name, test in vars(module).items()
        if name.startswith("test_") and "target" in inspect.signature(test).parameters
    }


for _module in _MODULES:
    _tests = _shared(_module)
    assert not _tests.keys() & globals().keys(), f"{_module.__name__} repeats a test's name"
    globals().update(_tests)
