"""A run with a snapshot keeps the code that it was submitted with."""

from __future__ import annotations

import subprocess

from tests.waiting import until

from .conftest import Yard

CODE = "import os; print({!r}, os.environ['GPUYARD_SUBMIT_DIR'])\n"


def test_editing_while_a_run_waits_does_not_change_it(yard: Yard) -> None:
    subprocess.run(["git", "init", "-q", str(yard.work)], check=True)
    yard.background("first", "--gpus", "8", "--", "sh", "-c", yard.waiting)
    yard.script("train.py", CODE.format("old"))
    for name, options in (("kept", ["--snapshot"]), ("changed", ["--env", "GPUYARD_SUBMIT_DIR=none"])):
        yard.ok("run", "-d", "-n", name, *options, "--gpus", "8", "train.py")
    yard.script("train.py", CODE.format("new"))
    yard.open_gate("first")
    yard.wait_for("kept", "succeeded")
    yard.wait_for("changed", "succeeded")
    assert yard.ok("logs", "kept") == f"old {yard.work}\n"
    assert yard.ok("logs", "changed") == "new none\n"
    (folder,) = yard.paths.snapshots_dir.iterdir()
    assert folder.name.startswith("kept-")
    yard.ok("rm", "kept")
    until(lambda: not list(yard.paths.snapshots_dir.iterdir()), "the snapshot goes with its run")


def test_a_snapshot_of_no_repository_and_of_an_image(yard: Yard) -> None:
    yard.script("train.py", "")
    said = yard.refused(2, "run", "--snapshot", "train.py")
    assert "not a git repository" in said and "git init" in said
    said = yard.refused(2, "run", "--snapshot", "--image", "example.org/a:1", "train.py")
    assert "--snapshot" in said and "image" in said
