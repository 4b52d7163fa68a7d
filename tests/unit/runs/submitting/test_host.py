from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.submitting.host import find_python, host_context
from gpuyard.workloads.resolved_run import HostContext
from gpuyard.workloads.spec.run_spec import RunSpec


def test_a_current_folder_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(errors.UsageError, match="the current folder was removed"):
        host_context(RunSpec(run=("true",)), Path(), {"PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize(
    "spec", [RunSpec(run=("x" * 300 + ".py",)), RunSpec(run=("true",), workdir="x" * 300)]
)
def test_what_cannot_be_looked_at_is_named(spec: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"can't look at .*x{300}.*: File name too long"):
        host_context(spec, tmp_path, {"PATH": "/usr/bin:/bin"})


def program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


ELF = "\x7fELF"
SPEC = RunSpec(run=("true",))


def test_what_is_taken_over_from_the_shell(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    python = program(tmp_path / "bin" / "python3", ELF)
    environ = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": "/home/me",
        "USER": "me",
        "LANG": "de_DE.UTF-8",
        "SECRET": "leaked",
    }
    context = host_context(RunSpec(run=("true",), workdir="work"), tmp_path, environ)
    assert context == HostContext(
        python=str(python),
        workdir=str(tmp_path / "work"),
        path=environ["PATH"],
        home="/home/me",
        user="me",
        lang="de_DE.UTF-8",
        virtual_env="",
    )


def test_a_shell_without_variables(tmp_path: Path) -> None:
    context = host_context(RunSpec(run=("true",), python=sys.executable), tmp_path, {})
    assert (context.path, context.lang) == (os.defpath, "C.UTF-8")
    assert context.user == pwd.getpwuid(os.getuid()).pw_name


def test_a_link_of_the_users_stays_the_workdir(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    spec = RunSpec(run=("true",), workdir="real/../link")
    assert host_context(spec, tmp_path, {"PATH": "/usr/bin:/bin"}).workdir == str(tmp_path / "link")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (RunSpec(run=("true",), workdir="gone"), "workdir .*/gone isn't there"),
        (RunSpec(run=("true",), workdir="file"), "workdir .*/file is a file"),
        (RunSpec(run=("train.py",)), r"train\.py isn't there \(in .*\)"),
        (RunSpec(run=("/nowhere/train.py",)), r"(?m)/nowhere/train\.py isn't there$"),
        (RunSpec(run=("folder.py",)), r"folder\.py is a folder without a __main__\.py"),
        (RunSpec(run=("true",), python="python9"), "python 'python9' isn't an executable here"),
        (RunSpec(run=("true",), python="./file"), "python './file' isn't an executable here"),
    ],
)
def test_what_is_not_there_is_named(spec: RunSpec, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(errors.UsageError, match=message) as caught:
        host_context(spec, tmp_path, {"PATH": "/usr/bin:/bin"})
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["PATH", "HOME", "USER", "LANG", "PYTHONPATH"])
def test_a_variable_of_the_shell_that_is_no_text_is_named(name: str, tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin"}
    environ[name] = environ.get(name, "") + ":/a\udcff"
    with pytest.raises(errors.UsageError, match=rf"{name} isn't text in UTF-8: b'.*\\xff'") as caught:
        host_context(SPEC, tmp_path, environ)
    assert caught.value.remedy == f"set {name} to other text"


def test_a_workdir_whose_name_is_no_text(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff"))
    odd.mkdir()
    with pytest.raises(errors.UsageError, match=r"the workdir isn't text in UTF-8: b'.*a\\xff'"):
        host_context(SPEC, odd, {"PATH": "/usr/bin:/bin"})


def test_scripts_that_are_there_pass(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "folder.py" / "__main__.py").write_text("")
    for script in ("train.py", "folder.py", str(tmp_path / "train.py")):
        context = host_context(RunSpec(run=(script,)), tmp_path, {"PATH": "/usr/bin:/bin"})
        assert Path(context.python).is_file()


def test_the_active_virtual_environment_comes_before_path(tmp_path: Path) -> None:
    own = program(tmp_path / "venv" / "bin" / "python", ELF)
    other = program(tmp_path / "bin" / "python3", ELF)
    environ = {"PATH": f"{other.parent}:/usr/bin:/bin", "VIRTUAL_ENV": str(tmp_path / "venv")}
    context = host_context(SPEC, tmp_path, environ)
    assert (context.python, context.virtual_env) == (str(own), str(tmp_path / "venv"))
    # Another interpreter isn't the environment's.
    named = host_context(RunSpec(run=("true",), python=str(other)), tmp_path, environ)
    assert (named.python, named.virtual_env) == (str(other), "")
    # Nor is it one any more when its interpreter is gone.
    own.unlink()
    left = host_context(SPEC, tmp_path, environ)
    assert (left.python, left.virtual_env) == (str(other), "")


def test_an_interpreter_is_looked_for_on_path_or_from_the_workdir(tmp_path: Path) -> None:
    named = program(tmp_path / "bin" / "python3.99", ELF)
    environ = {"PATH": str(named.parent)}
    assert find_python("python3.99", tmp_path, environ) == named
    assert find_python("./bin/python3.99", tmp_path, environ) == named
    with pytest.raises(errors.UsageError, match="there is no python3 on PATH") as caught:
        find_python(None, tmp_path, environ)
    assert "--python" in caught.value.remedy


def test_a_shim_is_asked_once_for_what_stands_behind_it(tmp_path: Path) -> None:
    shim = program(tmp_path / "python3", f'#!/bin/sh\necho asked >> "$LOG"\nexec {sys.executable} "$@"\n')
    environ = {"PATH": f"{shim.parent}:/usr/bin:/bin", "LOG": str(tmp_path / "log")}
    assert find_python(None, tmp_path, environ) == Path(sys.executable)
    assert (tmp_path / "log").read_text() == "asked\n"


def test_a_shim_that_fails_is_named_with_its_last_word(tmp_path: Path) -> None:
    shim = program(
        tmp_path / "python3", "#!/bin/sh\necho looking >&2\necho no version is set >&2\nexit 127\n"
    )
    with pytest.raises(errors.UsageError, match=f"(?m){shim} doesn't start: no version is set$"):
        find_python(None, tmp_path, {"PATH": str(shim.parent)})
    broken = program(tmp_path / "python9", "#!/nowhere/sh\n")
    with pytest.raises(errors.UsageError, match=f"{broken} doesn't start: .*No such file"):
        find_python("python9", tmp_path, {"PATH": str(broken.parent)})


def test_a_shim_is_asked_in_the_folder_of_the_run(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / ".python-version").write_text("/opt/python3.13\n")
    (tmp_path / ".python-version").write_text("/opt/python3.11\n")
    # As pyenv's does it: what stands in the nearest file, seen from the current folder.
    shim = program(tmp_path / "python3", "#!/bin/sh\ncat .python-version\n")
    environ = {"PATH": f"{shim.parent}:/usr/bin:/bin", "PWD": str(tmp_path)}
    assert find_python(None, work, environ) == Path("/opt/python3.13")
    assert find_python("python3", work, environ) == Path("/opt/python3.13")


@pytest.mark.parametrize(
    ("run", "remedy"),
    [
        (("agrs.py",), "did you mean args.py?"),
        (("python", "agrs.py", "--lr", "1"), "did you mean args.py?"),
        (("src/trian.py",), "did you mean train.py?"),
        (("unlike.py",), "name a file that is, or another --workdir"),
        # The ending makes no two names alike.
        (("b.py",), "name a file that is, or another --workdir"),
        (("nowhere/args.py",), "name a file that is, or another --workdir"),
    ],
)
def test_a_script_that_is_misspelt(run: tuple[str, ...], remedy: str, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for name in ("args.py", "model.py", "a.py", "src/train.py", "args.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(errors.UsageError, match="isn't there") as caught:
        host_context(RunSpec(run=run, python=sys.executable), tmp_path, {"PATH": "/usr/bin:/bin"})
    assert caught.value.remedy == remedy


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("python ck.py", "leave the quotes out: gpuyard run … -- python ck.py"),
        ("python src/train.py --lr 1", "leave the quotes out: gpuyard run … -- python src/train.py --lr 1"),
        ("bash jobs/job.sh 3", "leave the quotes out: gpuyard run … -- bash jobs/job.sh 3"),
        ("LR=2 python train.py", "let a shell read it: gpuyard run … --shell bash -- 'LR=2 python train.py'"),
        ("cd src && train.py", "let a shell read it: gpuyard run … --shell bash -- 'cd src && train.py'"),
        ("my traning.py", "did you mean my training.py?"),
        ("a b.py", None),
    ],
)
def test_a_line_in_quotes_that_looks_like_a_path(line: str, remedy: str | None, tmp_path: Path) -> None:
    for name in ("ck.py", "train.py", "my training.py", "a b.py"):
        (tmp_path / name).write_text("")
    spec, environ = RunSpec(run=(line,), python=sys.executable), {"PATH": "/usr/bin:/bin"}
    if remedy is None:  # a name may have blanks
        host_context(spec, tmp_path, environ)
        return
    with pytest.raises(errors.UsageError) as caught:
        host_context(spec, tmp_path, environ)
    assert caught.value.remedy == remedy
