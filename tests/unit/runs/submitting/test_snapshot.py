from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.submitting import snapshot
from gpuyard.runs.submitting.snapshot import in_snapshot, take_snapshot, taken
from gpuyard.workloads.resolved_run import HostContext
from gpuyard.workloads.spec.run_spec import RunSpec

SPEC = RunSpec(run=("python", "train.py"), snapshot=True)


def git(folder: Path, *arguments: str) -> None:
    config = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", str(folder), *config, *arguments], check=True, capture_output=True)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A repository with a file that is committed, one that is new, one that is ignored, one that is gone."""
    folder = tmp_path / "code"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "src/train.py").write_text("print(1)\n")
    (folder / "gone.py").write_text("")
    (folder / ".gitignore").write_text("data\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    (folder / "gone.py").unlink()
    (folder / "src/train.py").write_text("print(2)\n")
    (folder / "src/new\nname.py").write_text("")
    (folder / "src/train.py").chmod(0o755)
    (folder / "link").symlink_to("src")
    (folder / "data").mkdir()
    (folder / "data/weights").write_bytes(bytes(1000))
    return folder


def context(workdir: Path) -> HostContext:
    return HostContext(python="/usr/bin/python3", workdir=str(workdir), path="/bin", home="/", user="u")


def test_what_git_knows_and_what_is_new_as_it_is_now(code: Path, tmp_path: Path) -> None:
    host = in_snapshot(context(code / "src"), SPEC, "train", tmp_path / "snapshots")
    assert host.snapshot is not None
    assert (str(host.snapshot.source), host.snapshot.submit_dir) == (str(code), str(code / "src"))
    target = Path(host.snapshot.target)
    assert host.workdir == str(target / "src") and target.parent == tmp_path / "snapshots"
    take_snapshot(code, target, Path(host.workdir))
    found = sorted(str(p.relative_to(target)) for p in target.rglob("*") if not p.is_dir() or p.is_symlink())
    assert found == [".gitignore", "link", "src/new\nname.py", "src/train.py"]
    assert (target / "src/train.py").stat().st_mode & 0o777 == 0o755
    # An editor that writes into the file that is there.
    with (code / "src/train.py").open("r+") as file:
        file.write("print(3)\n")
    assert (target / "src/train.py").read_text() == "print(2)\n"


def test_submodules_come_along(code: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    (library / "lib.py").write_text("")
    git(library, "add", ".")
    git(library, "commit", "-q", "-m", "first")
    git(code, "submodule", "add", "-q", str(library), "vendored")
    take_snapshot(code, tmp_path / "copy", tmp_path / "copy")
    assert (tmp_path / "copy/vendored/lib.py").exists()


def test_a_folder_that_git_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="not a git repository"):
        in_snapshot(context(tmp_path), SPEC, "train", tmp_path / "snapshots")


def test_a_script_by_its_absolute_path_would_leave_the_snapshot(code: Path, tmp_path: Path) -> None:
    spec = RunSpec(run=("python", str(code / "src/train.py")), snapshot=True)
    with pytest.raises(errors.UsageError, match="absolute path") as refused:
        in_snapshot(context(code), spec, "train", tmp_path)
    assert "src/train.py" in refused.value.remedy


@pytest.mark.parametrize(("bound", "most", "said"), [("MAX_FILES", 2, "2 files"), ("MAX_BYTES", 5, "0 MiB")])
async def test_one_that_is_too_large_is_refused_and_leaves_nothing(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, said: str
) -> None:
    monkeypatch.setattr(snapshot, bound, most)
    host = in_snapshot(context(code), SPEC, "train", tmp_path / "snapshots")
    assert host.snapshot is not None
    with pytest.raises(errors.UsageError, match=f"more than {said}"):
        async with taken(host.snapshot, host.workdir):
            pass
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_a_script_that_git_ignores_is_told_before_the_submit(code: Path, tmp_path: Path) -> None:
    (code / "data/a.py").write_text("")
    for run in (("data/a.py",), ("python", "./data/a.py")):
        with pytest.raises(errors.UsageError, match=r"git ignores .*a\.py, so a snapshot doesn't have it"):
            in_snapshot(context(code), RunSpec(run=run, snapshot=True), "a", tmp_path)
    (code / "new*.py").write_text("")
    for script in ("link/train.py", "src/train.py", "new*.py"):
        in_snapshot(context(code), RunSpec(run=("python", script), snapshot=True), "a", tmp_path)


def test_the_repository_is_the_folders_not_the_one_that_a_hook_is_of(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    host = in_snapshot(context(code / "src"), SPEC, "train", tmp_path / "snapshots")
    assert host.snapshot is not None
    assert str(host.snapshot.source) == str(code)
