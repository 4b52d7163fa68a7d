from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.project.conda import read_environment


def write(tmp_path: Path, *dependencies: str) -> Path:
    path = tmp_path / "environment.yml"
    path.write_text(
        "name: x\nchannels: [conda-forge]\ndependencies:\n" + "".join(f"  - {d}\n" for d in dependencies)
    )
    return path


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("'numpy 1.26.4'", "numpy==1.26.4"),
        ("'numpy >=1.20,<2'", "numpy>=1.20,<2"),
        ("'numpy>=1.20, <2'", "numpy>=1.20,<2"),
        ("conda-forge::scikit-learn", "scikit-learn"),
        ("pytorch=2.5", "torch==2.5.*"),
        ("PyYAML", "pyyaml"),
    ],
)
def test_a_package_that_an_index_has(written: str, line: str, tmp_path: Path) -> None:
    assert read_environment(write(tmp_path, written)).lines == (line,)


def test_what_is_no_python_is_left(tmp_path: Path) -> None:
    found = read_environment(
        write(
            tmp_path,
            "python=3.11",
            "pip",
            "numpy",
            "cudatoolkit=11.8",
            "gcc_linux-64",
            "ffmpeg",
            "pytorch-cuda=12.1",
        )
    )
    assert found.lines == ("numpy",)
    assert found.left == ("cudatoolkit=11.8", "gcc_linux-64", "ffmpeg", "pytorch-cuda=12.1")
    assert found.python == "==3.11.*"


def test_the_pip_section_is_a_requirements_file(tmp_path: Path) -> None:
    path = write(
        tmp_path, "numpy", "pip:\n    - -e .\n    - wandb>=0.16\n    - --extra-index-url https://x/simple"
    )
    assert read_environment(path).lines == (
        "numpy",
        "-e .",
        "wandb>=0.16",
        "--extra-index-url https://x/simple",
    )


@pytest.mark.parametrize(
    "text",
    ["[", "dependencies: numpy\n", "a: 1\n", "dependencies:\n- conda: [x]\n", "dependencies:\n- '>1'\n"],
)
def test_what_is_no_environment(text: str, tmp_path: Path) -> None:
    path = tmp_path / "environment.yml"
    path.write_text(text)
    with pytest.raises(errors.UsageError, match=r"environment\.yml"):
        read_environment(path)
