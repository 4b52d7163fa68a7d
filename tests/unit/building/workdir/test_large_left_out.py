from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuyard.building.workdir.application import read_application
from gpuyard.building.workdir.large_left_out import large_left_out
from tests.unit.building.test_revision import git


def large(path: Path, megabytes: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, megabytes * 1_000_000)


@pytest.mark.parametrize(("more", "file"), [("", ".gpuyardignore"), (".dockerignore", ".dockerignore")])
def test_what_git_ignores_is_said_with_its_rule(tmp_path: Path, more: str, file: str) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*.log\n/weights/\n*.pt\n.venv/\nenv/\n")
    if more:
        (tmp_path / more).write_text("data\n")
    for path in ("weights/deep/a.bin", "model.pt", "env/lib/torch.so", ".venv/lib/torch.so", "data/x.pt"):
        large(tmp_path / path)
    (tmp_path / "env/pyvenv.cfg").touch()
    large(tmp_path / "weights/b.bin", 30)
    large(tmp_path / "small.log", 3)
    told = [text for text in read_application(tmp_path, os.environ).notices if text.startswith("left out")]
    if not more:
        (tmp_path / "data/x.pt").unlink()
        told = [
            text for text in read_application(tmp_path, os.environ).notices if text.startswith("left out")
        ]
    (line,) = told
    assert line == (
        "left out: weights/ (50 MB, .gitignore:2), model.pt (20 MB, .gitignore:3); "
        f"`!weights/` in {file} takes the first back"
    )
    with (tmp_path / file).open("a") as ignore:
        ignore.write("!weights/\n")
    taken = read_application(tmp_path, os.environ)
    assert {"weights/b.bin", "weights/deep/a.bin"} <= {path for path, _ in taken.files}
    assert not any("weights" in text for text in taken.notices)


def test_what_the_user_keeps_out_is_no_news(tmp_path: Path) -> None:
    (tmp_path / ".gpuyardignore").write_text("*.pt\n")
    large(tmp_path / "model.pt")
    assert not read_application(tmp_path, os.environ).notices


def test_some_are_named(tmp_path: Path) -> None:
    for number in range(5):
        large(tmp_path / f"{number}.pt", 20 + number)
    (line,) = large_left_out(tmp_path, [(f"{n}.pt", "sub/.gitignore:1: *.pt") for n in range(5)])
    assert (
        "4.pt (24 MB, sub/.gitignore:1), 3.pt" in line and "2.pt (22 MB, sub/.gitignore:1) and 2 more" in line
    )
