"""Whether the program of a command can start, and what was probably meant when it can't.

Looked at before the submit: afterwards the same mistake costs a run that failed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from gpuyard import errors
from gpuyard.advice import advice, run_call
from gpuyard.workloads.command import CommandLine, is_python, needs_shell

#: Linux reads no more of a script's `#!` line (execve(2)).
_MAX_FIRST_LINE = 256
#: From this ratio on a name is probably another, mistyped: `bsah` is just as like `bash`.
_ALIKE = 0.75
_NOT_ON_PATH = " on PATH"
_ASSIGNMENT = r"[A-Za-z_][A-Za-z0-9_]*="


def check_program(argv: Sequence[str], workdir: Path, path: str, *, own_path: bool = False) -> None:
    """Looks for the program as execvp(3) will.

    Args:
        argv: of the process.
        workdir: that it starts in.
        path: the PATH that it gets.
        own_path: whether the run itself sets that, and not the shell.

    Raises:
        UsageError: it isn't there or can't be executed; the remedy is what was probably meant.
    """
    name = argv[0]
    if "/" in name:
        if not os.access(workdir / name, os.X_OK):
            raise _not_executable(name, workdir)
        return
    # A relative folder in PATH starts from the process's own folder, not from ours.
    folders = ":".join(str(workdir / folder) for folder in path.split(":"))
    if find_program(name, folders) is None:
        message, remedy = _missing(argv, workdir, folders)
        if own_path and message.endswith(_NOT_ON_PATH):
            message += f", which {advice('--env or the spec')} sets to {path!r}"
            remedy = _mended_path(path)
        raise errors.UsageError(message, remedy=remedy)


def find_program(name: str, path: str) -> Path | None:
    """The program that execvp(3) finds on this PATH; `shutil.which` does the same, and is long to import."""
    for folder in path.split(":") if "/" not in name else ("",):
        found = Path(folder, name)
        if os.access(found, os.X_OK) and found.is_file():
            return found
    return None


def _not_executable(name: str, workdir: Path) -> errors.UsageError:
    by_interpreter = f", or run it by its interpreter: {run_call(_interpreted(name, workdir))}"
    return errors.UsageError(
        f"{name} isn't executable", remedy=f"chmod +x {shlex.quote(name)}{by_interpreter}"
    )


def _interpreted(name: str, workdir: Path) -> list[str]:
    """The command that runs this script without its being executable, by the interpreter of its `#!` line.

    A script without such a line is run by sh, as execvp(3) does it.
    """
    try:
        with (workdir / name).open("rb") as file:
            first = file.readline(_MAX_FIRST_LINE)
    except OSError:
        first = b""
    words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
    if words and Path(words[0]).name == "env":
        # `env -S` splits what follows into words, which a command line does anyway.
        words = [word for word in words[1:] if word not in ("-S", "--split-string")]
    return [*(words or ["sh"]), name]


def _missing(argv: Sequence[str], workdir: Path, path: str) -> tuple[str, str]:
    """Message and remedy."""
    name, here = argv[0], workdir / argv[0]
    if line := quoted_line(tuple(argv)):
        return line.message, line.remedy
    if re.match(_ASSIGNMENT, name):
        return (
            f"{name} sets a variable, which only a shell does",
            f"write: {run_call(argv[1:] or ('COMMAND',), env=name)}",
        )
    suffix = Path(name).suffix
    if suffix in (".yaml", ".yml") and here.is_file():
        return f"{name} is no script; {advice('a spec file goes after -f')}", f"write: {run_call(file=name)}"
    if suffix == ".ipynb":
        return (
            f"{name} is a notebook, and only scripts run",
            f"make one of it: jupyter nbconvert --to script {shlex.quote(name)}",
        )
    if here.is_dir():
        return f"{name} is a folder, not a program", _nearest_script("", here) or "name the script in it"
    if here.is_file():
        words = [f"./{name}"] if os.access(here, os.X_OK) else _interpreted(name, workdir)
        return f"{name} isn't on PATH; a program of this folder needs ./", f"write: {run_call(words)}"
    if name == "torchrun":
        remedy = "activate the environment that has PyTorch, or write: python -m torch.distributed.run"
        return f"there is no program torchrun{_NOT_ON_PATH}", remedy
    near = _nearest_program(name, path)
    if not near or (workdir / f"{name}.py").is_file():
        near = _nearest_script(name, workdir) or near
    return f"there is no program {name}{_NOT_ON_PATH}", near or "install it, or give its path"


def _mended_path(path: str) -> str:
    if "$" in path:
        return "nothing expands $PATH in it: write out its folders, or let your shell do it, in double quotes"
    return "leave PATH to your shell, or add the folder of the program to it"


def quoted_line(run: CommandLine) -> errors.UsageError | None:
    """The error for a whole command line in quotes, which looks like the name of one file; None for none."""
    if isinstance(run, str) or len(run) > 1 or len(run[0].split()) < 2:
        return None
    return errors.UsageError(f"there is no program {run[0]!r}", remedy=_without_quotes(run[0]))


def begins_with_python(line: str) -> bool:
    """Whether the first word, after variables, is an interpreter: a line, and not the name of a script."""
    words = line.split()
    while len(words) > 1 and re.match(_ASSIGNMENT, words[0]):
        words.pop(0)
    return len(words) > 1 and is_python(words[0])


def _without_quotes(line: str) -> str:
    """What to write instead of a whole command line in quotes.

    The user's own shell would run a part of a line such as `python a.py; echo done` by itself, here.
    """
    if needs_shell(line):
        # With `bash -c` a line would succeed whenever its last part does: `python train.py | tee log`.
        return f"let a shell read it: {run_call((line,), by_shell='bash', more=True)}"
    try:
        words = shlex.split(line)
    except ValueError:
        # A quote that isn't closed.
        words = line.split()
    return f"leave the quotes out: {run_call(words, more=True)}"


def _nearest_program(name: str, path: str) -> str:
    """A hint that names the program of this PATH whose name is most like `name`."""
    import difflib

    # These two are there as the run's interpreter, whatever that is called.
    names = {"python", "python3"}
    for folder in path.split(":"):
        with contextlib.suppress(OSError):
            names.update(file.name for file in Path(folder).iterdir())
    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=_ALIKE)
    found = (word for word in near if is_python(word) or find_program(word, path))
    return next((f"did you mean {word}?" for word in found), "")


def _nearest_script(name: str, folder: Path) -> str:
    """A hint that names a Python script of the folder: the nearest to `name`, or the only one."""
    import difflib

    scripts = sorted(file.stem for file in folder.glob("*.py"))
    near = difflib.get_close_matches(name, scripts, n=1) if name else scripts
    return f"did you mean {near[0]}.py?" if len(near) == 1 else ""
