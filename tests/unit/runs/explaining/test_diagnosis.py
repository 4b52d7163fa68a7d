from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.kube.wellknown import ANNOTATION_ISOLATION, RUNTIME_CLASS_PROCESS
from gpuyard.runs.explaining.diagnosis import diagnose_lines
from gpuyard.runs.run import Run
from gpuyard.workloads.run_state import run_state


def run(
    *,
    code: int = 1,
    isolation: str = "bubblewrap",
    env: tuple[str, ...] = (),
    command: tuple[str, ...] = ("/usr/bin/python3", "train.py"),
    workdir: Path = Path("/nowhere"),
) -> Run:
    """A run of a host's Python that failed."""
    container: dict[str, Any] = {
        "name": "main",
        "command": list(command),
        "workingDir": str(workdir),
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
    assert [each.key for each in diagnose_lines(run(code=135), [], [])] == [Cause.BUS_ERROR]
    assert diagnose_lines(run(code=139), [], []) == []


@pytest.mark.parametrize("annotations", [{}, {"gpuyard.io/shell-pythonpath": "lib"}])
def test_a_pythonpath_is_blamed_only_where_the_run_lacks_it(annotations: dict[str, str]) -> None:
    """Of the shell that submitted it; that of the one who asks doesn't matter."""
    failed = run()
    failed.job["metadata"]["annotations"] = annotations
    [found] = diagnose_lines(failed, [], ["ModuleNotFoundError: No module named 'mylib'"])
    assert found.remedy.startswith("the shell that submitted it had a PYTHONPATH") == bool(annotations)
    assert "/usr/bin/python3" in found.cause


def module_remedy(module: str, *command: str, workdir: Path = Path("/nowhere")) -> str:
    failed = run(command=command, workdir=workdir)
    [found] = diagnose_lines(failed, [], [f"ModuleNotFoundError: No module named '{module}'"])
    return found.remedy


def test_the_interpreter_in_use_isnt_the_other_one() -> None:
    assert "/usr/bin/python3" not in module_remedy("mylib", "/usr/bin/python3", "train.py")
    if Path("/usr/bin/python3").exists():
        assert "/usr/bin/python3" in module_remedy("mylib", sys.executable, "train.py")
    # Nobody knows which one torchrun's is.
    assert "/usr/bin/python3" not in module_remedy("mylib", "torchrun", "train.py")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with modules beside the one of its scripts."""
    scripts = ("t.py", "scripts/t.py", "scripts/a-b.py")
    for file in (*scripts, "pkg/deep/__init__.py", "one.py", "src/lib/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("module", "command", "folder", "as_module"),
    [
        ("pkg", ("python3", "scripts/t.py"), ".", "scripts.t"),
        ("pkg.deep", ("python3", "scripts/t.py"), ".", "scripts.t"),
        ("one", ("python3", "-u", "scripts/t.py", "--x"), ".", "scripts.t"),
        ("one", ("python3", "scripts/a-b.py"), ".", ""),
        ("lib", ("python3", "scripts/t.py"), "src", ""),
        ("lib", ("python3", "t.py"), "src", ""),
        ("lib", ("python3", "-m", "scripts.t"), "src", ""),
        ("pkg", ("torchrun", "scripts/t.py"), ".", ""),
        ("pkg.gone", ("python3", "scripts/t.py"), "", ""),
        ("pkg", ("python3", "t.py"), "", ""),
        ("gone", ("python3", "scripts/t.py"), "", ""),
    ],
)
def test_a_module_that_is_in_the_runs_folder(
    project: Path, module: str, command: tuple[str, ...], folder: str, as_module: str
) -> None:
    remedy = module_remedy(module, *command, workdir=project)
    assert (f"--env PYTHONPATH={folder} " in remedy) == bool(folder)
    assert ("python -m" in remedy) == bool(as_module)
    assert remedy.endswith(f"python -m {as_module}") or not as_module


def test_a_script_by_its_whole_path(project: Path) -> None:
    remedy = module_remedy("pkg", "python3", str(project / "scripts/t.py"), workdir=project)
    assert remedy.endswith("python -m scripts.t")
    elsewhere = module_remedy("pkg", "python3", "/elsewhere/t.py", workdir=project)
    assert "--env PYTHONPATH=. " in elsewhere and "python -m" not in elsewhere
