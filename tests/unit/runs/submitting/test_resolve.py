from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.environment import ENTRYPOINT
from gpuyard.runs.submitting.resolve import check_for_cluster, resolve
from gpuyard.workloads.resolved_run import ResolvedRun, Script
from gpuyard.workloads.spec.run_spec import ImageBuild, RunSpec


def resolved(spec: RunSpec, folder: Path) -> ResolvedRun:
    return resolve(spec, folder, os.environ, namespace="ml")


def test_a_process_has_its_host_and_no_image(tmp_path: Path) -> None:
    run = resolved(RunSpec(run=("true",)), tmp_path)
    assert run.host is not None
    assert (run.image, run.host.workdir, run.namespace) == ("", str(tmp_path), "ml")
    assert run.name.startswith("true-")


def test_a_script_goes_with_its_run_to_an_image(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    run = resolved(RunSpec(run=("train.py",), image="i:1", name="n"), tmp_path)
    assert (run.name, run.image, run.script) == ("n", "i:1", Script("train.py", "print(1)\n"))
    assert "import" in run.launcher["launcher.py"]


@pytest.mark.parametrize(
    ("pulled_as", "image"),
    [
        (None, "here:5000/me/train:v1"),
        ("there:5000/me/train", "there:5000/me/train:v1"),
    ],
)
def test_an_image_that_is_built_is_named_as_nodes_pull_it(
    tmp_path: Path, pulled_as: str | None, image: str
) -> None:
    (tmp_path / "train.py").write_text("")
    build = ImageBuild("python:3.12", "here:5000/me/train:v1", pull_repository=pulled_as)
    run = resolved(RunSpec(run=("train.py",), build=build, workdir="src"), tmp_path)
    # The script is in the image.
    assert (run.image, run.entrypoint, run.script) == (image, ENTRYPOINT, None)


def test_a_layout_is_named_by_its_whole_path(tmp_path: Path) -> None:
    run = resolved(RunSpec(run=("a",), image="oci:../layout:v1"), tmp_path / "x")
    assert run.image == f"oci:{tmp_path}/layout:v1"


@pytest.mark.parametrize("image", ["oci-archive:out/a.tar:v1", "oci:out/a.tar:v1"])
def test_an_archive_is_refused_with_its_folder(tmp_path: Path, image: str) -> None:
    for spec in (RunSpec(run=("a",), image=image), RunSpec(run=("a",), build=ImageBuild("b", image))):
        with pytest.raises(errors.UsageError, match=f"^{image} is an archive") as caught:
            resolved(spec, tmp_path)
        assert "mkdir out/a && tar -xf out/a.tar -C out/a, and name oci:out/a:v1" in caught.value.remedy


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (RunSpec(run="a", image="oci-archive:x"), "oci-archive:x is a file of this machine"),
        (RunSpec(run="a"), "a run without an image is a process of this machine"),
        (RunSpec(run="a", image="oci:x"), "oci:x is a folder of this machine"),
        (RunSpec(run="a", build=ImageBuild("b", "oci:x")), "oci:x is a folder of this machine"),
    ],
)
def test_what_no_cluster_has(spec: RunSpec, said: str) -> None:
    with pytest.raises(errors.UsageError, match=said):
        check_for_cluster(spec)


@pytest.mark.parametrize(
    "spec",
    [
        RunSpec(run="a", image="python:3.12"),
        RunSpec(run="a", build=ImageBuild("b", "oci:x", pull_repository="r/x")),
    ],
)
def test_what_a_cluster_may_have(spec: RunSpec) -> None:
    check_for_cluster(spec)
    with pytest.raises(errors.UsageError):  # The same without what makes it right.
        check_for_cluster(replace(spec, image="", build=None))


@pytest.mark.parametrize("line", ["python train.py", "LR=2 python3.12 train.py"])
def test_a_line_in_quotes_is_no_script_of_an_image(line: str, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="there is no program") as caught:
        resolved(RunSpec(run=(line,), image="i:1"), tmp_path)
    assert "gpuyard run …" in caught.value.remedy
    # A script of the image's own may have such a name, and one of this folder has any.
    assert resolved(RunSpec(run=("my train.py",), image="i:1"), tmp_path).script is None
    (tmp_path / line).write_text("")
    assert resolved(RunSpec(run=(line,), image="i:1"), tmp_path).script == Script(line, "")
