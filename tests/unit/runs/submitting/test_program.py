from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.submitting.program import check_program

PATH = "/usr/bin:/bin"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name in ("train.py", "gpuyard.yaml", "job.sh", "tool", "nb.ipynb"):
        (tmp_path / name).write_text("")
    (tmp_path / "env.sh").write_text("#!/usr/bin/env bash -x\necho\n")
    (tmp_path / "split.sh").write_text("#!/usr/bin/env -S python3 -u\n")
    (tmp_path / "zsh.sh").write_text("#! /bin/zsh\n")
    (tmp_path / "hog.py").write_text("")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "bin").mkdir()
    for name, mode in (("rsync-of-mine", 0o755), ("not-executable", 0o644)):
        (tmp_path / "bin" / name).write_text("")
        (tmp_path / "bin" / name).chmod(mode)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "message", "remedy"),
    [
        (("gpuyard.yaml",), "a spec file goes after -f", "gpuyard run -f gpuyard.yaml"),
        (("job.sh",), "needs ./", "gpuyard run -- sh job.sh"),
        (("tool",), "needs ./", "gpuyard run ./tool"),
        (("./job.sh",), "./job.sh isn't executable", "chmod +x ./job.sh"),
        (("python train.py 1",), "no program 'python train.py 1'", "gpuyard run … -- python train.py 1"),
        (("LR=1 2", "python", "t.py"), "sets a variable", "gpuyard run --env 'LR=1 2' -- python t.py"),
        (("python a.py; echo done",), "no program", "gpuyard run … --shell bash -- 'python a.py; echo done'"),
        (("LR=1 python t.py",), "no program", "gpuyard run … --shell bash -- 'LR=1 python t.py'"),
        (("python t.py | tee log",), "no program", "gpuyard run … --shell bash -- 'python t.py | tee log'"),
        (("./env.sh",), "isn't executable", "gpuyard run -- bash -x ./env.sh"),
        (("./split.sh",), "isn't executable", "gpuyard run -- python3 -u ./split.sh"),
        (("zsh.sh",), "needs ./", "gpuyard run -- /bin/zsh zsh.sh"),
        ((".",), "is a folder", "name the script in it"),
        (("src",), "is a folder", "did you mean main.py?"),
        (("train",), "no program train on PATH", "did you mean train.py?"),
        (("nb.ipynb",), "is a notebook", "jupyter nbconvert --to script nb.ipynb"),
        (("no-such-thing",), "no program no-such-thing on PATH", "install it"),
        (("pyhton", "train.py"), "no program pyhton on PATH", "did you mean python?"),
        (("traln",), "no program traln on PATH", "did you mean train.py?"),
        (("rsyncc-of-mine",), "no program rsyncc-of-mine on PATH", "did you mean rsync-of-mine?"),
        (("not-executablee",), "no program not-executablee on PATH", "install it"),
    ],
)
def test_what_was_meant(work: Path, argv: tuple[str, ...], message: str, remedy: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        check_program(argv, work, f"{PATH}:bin")
    assert message in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("argv", [("sh", "-c", "x"), ("./tool",), ("/bin/sh",), ("tool",)])
def test_what_can_start_passes(work: Path, argv: tuple[str, ...]) -> None:
    # "" in PATH is the process's own folder.
    check_program(argv, work, f"{PATH}:" if argv == ("tool",) else PATH)
    with pytest.raises(errors.UsageError):
        check_program((f"{argv[0]}-that-is-not-there", *argv[1:]), work, PATH)


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("$PATH:/foo", "nothing expands $PATH in it"),
        ("/foo", "leave PATH to your shell"),
    ],
)
def test_a_path_of_the_runs_own_is_named(work: Path, path: str, remedy: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        check_program(("bash",), work, path, own_path=True)
    assert (
        caught.value.message == f"there is no program bash on PATH, which --env or the spec sets to {path!r}"
    )
    assert remedy in caught.value.remedy
