from __future__ import annotations

from typing import Any

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.kube.wellknown import ANNOTATION_ISOLATION, RUNTIME_CLASS_PROCESS
from gpuyard.runs.explaining.diagnosis import diagnose_lines
from gpuyard.runs.run import Run
from gpuyard.workloads.run_state import run_state


def run(*, code: int = 1, isolation: str = "bubblewrap", env: tuple[str, ...] = ()) -> Run:
    """A run of a host's Python that failed."""
    container: dict[str, Any] = {
        "name": "main",
        "command": ["/usr/bin/python3", "train.py"],
        "env": [{"name": name, "value": "x"} for name in env],
    }
    spec = {"runtimeClassName": RUNTIME_CLASS_PROCESS, "containers": [container]}
    ended = {"name": "main", "state": {"terminated": {"exitCode": code, "reason": "Error"}}}
    job = {
        "metadata": {"name": "train", "labels": {}},
        "spec": {"template": {"spec": spec}},
        "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]},
    }
    pod = {
        "metadata": {"name": "train-1", "annotations": {ANNOTATION_ISOLATION: isolation}},
        "spec": spec,
        "status": {"phase": "Failed", "containerStatuses": [ended]},
    }
    return Run("train", job, [pod], run_state(job, [pod]))


@pytest.mark.parametrize(("isolation", "causes"), [("bubblewrap", [Cause.OWN_TMP]), ("none", [])])
def test_a_run_that_isnt_isolated_has_the_hosts_tmp(isolation: str, causes: list[Cause]) -> None:
    lines = ["FileNotFoundError: [Errno 2] No such file or directory: '/tmp/data'"]
    found = diagnose_lines(run(isolation=isolation), [], lines)
    assert [each.key for each in found] == causes


def test_a_signal_alone_is_explained_where_it_is_known() -> None:
    assert [each.key for each in diagnose_lines(run(code=135), [], [])] == [Cause.SHARED_MEMORY_FULL]
    assert diagnose_lines(run(code=139), [], []) == []


@pytest.mark.parametrize("annotations", [{}, {"gpuyard.io/shell-pythonpath": "lib"}])
def test_a_pythonpath_is_blamed_only_where_the_run_lacks_it(annotations: dict[str, str]) -> None:
    """Of the shell that submitted it; that of the one who asks doesn't matter."""
    failed = run()
    failed.job["metadata"]["annotations"] = annotations
    [found] = diagnose_lines(failed, [], ["ModuleNotFoundError: No module named 'mylib'"])
    assert found.remedy.startswith("the shell that submitted it had a PYTHONPATH") == bool(annotations)
    assert "/usr/bin/python3" in found.cause
