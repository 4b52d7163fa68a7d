from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath

import pytest

from gpuyard.cli.output.submit_message import stdin_has_data, submitted_text, torch_note
from gpuyard.workloads.resolved_run import CodeSnapshot, HostContext, ResolvedRun
from gpuyard.workloads.spec.gpu_request import parse_gpus
from gpuyard.workloads.spec.run_spec import RunSpec

OWN = f"{sys.prefix}/bin/python"


def text(spec: RunSpec, python: str, *, simulated: bool = False, **environ: str) -> str:
    host = HostContext(python=python, workdir="/", path="/bin", home="/root", user="root")
    run = ResolvedRun(spec, "train-x", "default", host=host)
    return submitted_text(run, environ, simulated=simulated)


@pytest.mark.parametrize(
    ("gpus", "simulated", "said"),
    [
        ("0", True, "(no GPUs)"),
        ("1", False, "(1 GPU)"),
        ("2", True, "(2 GPUs, simulated)"),
        ("1g.10gb:2", False, "(2 parts 1g.10gb)"),
        ("shared", True, "(1 share of a GPU, simulated)"),
    ],
)
def test_gpus(gpus: str, simulated: bool, said: str) -> None:
    spec = RunSpec(run=("true",), gpus=parse_gpus(gpus))
    assert text(spec, "true", simulated=simulated) == f"Submitted train-x {said}"


def test_an_interpreter_that_was_found_is_named() -> None:
    spec = RunSpec(run=("train.py",))
    assert text(spec, "/usr/bin/python3").endswith("(no GPUs) with /usr/bin/python3")
    assert text(spec, "/venv/bin/python", VIRTUAL_ENV="/venv").endswith("(no GPUs)")
    assert text(spec, OWN, VIRTUAL_ENV=sys.prefix).endswith("(no GPUs)")


def test_one_that_was_named_is_not() -> None:
    assert text(RunSpec(run=("train.py",), python="/usr/bin/python3"), "/usr/bin/python3").endswith("GPUs)")
    assert text(RunSpec(run=("/usr/bin/python3", "train.py")), "/usr/bin/python3").endswith("GPUs)")


def note(folder: Path, *words: str, python: str | None = None) -> str:
    host = HostContext(python=OWN, workdir=str(folder), path="/bin", home="/root", user="root")
    return torch_note(ResolvedRun(RunSpec(run=words, python=python), "train-x", "default", host=host))


def test_gpuyards_own_is_warned_of_where_a_script_speaks_of_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("import os\nfrom torch import nn\n")
    (tmp_path / "plain.py").write_text("import os\n")
    said = f"Note: {OWN} is gpuyard's own Python, which has no torch: --python names another"
    assert note(tmp_path, "train.py") == said
    assert note(tmp_path, "python", "-u", "train.py") == said
    assert note(tmp_path, "python", "-m", "torch.distributed.run", "plain.py") == said
    for words in (
        ("plain.py",),
        ("missing.py",),
        ("python", "-c", "1"),
        ("cat", "train.py"),
        (OWN, "train.py"),
    ):
        assert note(tmp_path, *words) == ""
    assert note(tmp_path, "train.py", python=OWN) == ""
    (tmp_path / "torch.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert note(tmp_path, "train.py") == ""


def test_what_becomes_of_a_copy_of_the_code_is_told() -> None:
    copy = CodeSnapshot(PurePosixPath("/home/me/code"), PurePosixPath("/data/train-x-1"), "/home/me/code")
    host = HostContext("/usr/bin/python3", "/data/train-x-1", "/bin", "/root", "root", snapshot=copy)
    run = ResolvedRun(RunSpec(run=("true",), snapshot=True), "train-x", "default", host=host)
    said = submitted_text(run, {}, simulated=False)
    assert said.startswith("Submitted train-x (no GPUs). It runs in a copy of /home/me/code; `gpuyard rm`")


def test_data_on_standard_input(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        assert not stdin_has_data(reader)
        os.write(writer, b"data")
        assert stdin_has_data(reader)
    finally:
        os.close(reader)
        os.close(writer)
    (tmp_path / "empty").write_text("")
    (tmp_path / "full").write_text("data")
    for name, expected in (("empty", False), ("full", True)):
        with (tmp_path / name).open() as file:
            assert stdin_has_data(file.fileno()) is expected
    with open(os.devnull) as null:
        assert not stdin_has_data(null.fileno())
