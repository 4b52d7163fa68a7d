"""The examples' scripts on their own, with Debian's PyTorch, and their specs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gpuyard.workloads.command import needed_script, resolve_command
from gpuyard.workloads.spec.run_spec import load_spec

EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON = "/usr/bin/python3"


def run(arguments: list[str], cwd: Path, **env: str) -> str:
    ended = subprocess.run(
        [PYTHON, *arguments], cwd=cwd, env=clean_env(**env), capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def clean_env(**env: str) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), **env}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/gpuyard.yaml")), ids=lambda path: path.parent.name)
def test_specs_are_valid_and_name_scripts_that_are_there(path: Path) -> None:
    spec = load_spec(path.read_text(), str(path), (), {})
    assert spec.python == PYTHON
    assert spec.gpus.count > 0
    script = needed_script(resolve_command(spec.run, spec.python))
    assert script is not None
    assert (path.parent / script).is_file()
    assert (path.parent / "README.md").is_file()


@pytest.mark.torch
def test_verify_tells_the_truth(tmp_path: Path) -> None:
    script = str(EXAMPLES / "01-verify" / "verify.py")
    out = run([script], tmp_path)
    assert out.startswith("Using device: cpu\n")
    assert "Computed on cpu: [[5.0, 14.0], [14.0, 50.0]]" in out
    assert "simulated" not in out
    out = run([script], tmp_path, CUDA_VISIBLE_DEVICES="GPU-1,GPU-2", GPUYARD_SIMULATED="1")
    assert out.startswith("Using device: cpu\n")
    assert "GPUs allotted: 2 (simulated)" in out
    out = run([script], tmp_path, CUDA_VISIBLE_DEVICES="GPU-1")
    assert "Warning: this PyTorch can't use the allotted GPUs" in out


@pytest.mark.torch
def test_training_resumes_after_a_kill_and_ends_as_if_nothing_happened(tmp_path: Path) -> None:
    script = str(EXAMPLES / "02-train" / "train.py")
    whole = run([script, "--epochs", "5", "--checkpoint", "whole.pt"], tmp_path)
    killed = subprocess.Popen(
        [PYTHON, script, "--epochs", "5", "--pause", "60"],
        cwd=tmp_path, env=clean_env(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if line.startswith("epoch 1/5"):
                killed.send_signal(signal.SIGKILL)
    resumed = run([script, "--epochs", "5"], tmp_path)
    assert "Resuming after epoch 1 from checkpoints/last.pt" in resumed
    assert "epoch 1/5" not in resumed
    assert resumed.splitlines()[-1] == whole.splitlines()[-1]
    assert whole.splitlines()[-1].startswith("Trained 5 epochs, loss 0.")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.pt"]
    assert run([script], tmp_path, EPOCHS="5").splitlines()[-1] == whole.splitlines()[-1]


@pytest.mark.torch
def test_ddp_ends_with_the_same_weights_on_all_ranks() -> None:
    folder = EXAMPLES / "03-ddp"
    spec = load_spec((folder / "gpuyard.yaml").read_text(), "gpuyard.yaml", (), {})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    out = run(list(resolve_command(spec.run, PYTHON)[1:]), folder, PET_MASTER_PORT=port, **spec.env)
    assert re.search(r"rank 0 of 2: Using device: cpu \(gloo\)", out)
    assert re.search(r"rank 1 of 2: Using device: cpu \(gloo\)", out)
    assert "All 2 ranks hold the same weights" in out


@pytest.mark.torch
def test_a_search_s_task_ends_by_its_values(tmp_path: Path) -> None:
    script = str(EXAMPLES / "06-sweep" / "search.py")
    out = run([script, "--lr", "0.1", "--steps", "10"], tmp_path, SEED="2")
    assert re.fullmatch(r"lr 0\.1 seed 2: loss 0\.\d{6}\n", out)
    diverged = subprocess.run(
        [PYTHON, script, "--lr", "10"], cwd=tmp_path, env=clean_env(), capture_output=True, text=True
    )
    assert (diverged.returncode, diverged.stderr) == (1, "lr 10 seed 0: loss nan: it diverged\n")


@pytest.fixture(autouse=True)
def _torch(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("torch") is None:
        return
    if (
        shutil.which(PYTHON) is None
        or subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode
    ):
        pytest.fail(f"{PYTHON} has no torch; `make system` installs it (python3-torch)", pytrace=False)
    assert sys.executable != PYTHON
