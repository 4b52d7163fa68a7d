"""From what the user wrote after `run` to the argv of the process, and the file that it needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

#: A command line as text, or an argv.
CommandLine: TypeAlias = str | tuple[str, ...]

# Nobody knows at submit whether an image has bash, so the shell that every image has looks. The line is `$0`.
_CHOOSE = (
    'command -v bash >/dev/null 2>&1 && exec bash -eo pipefail -c "$0"; '
    'echo "gpuyard: no bash here: sh runs this line, without pipefail, [[ ]], source and {1..3}" >&2; '
    'exec /bin/sh -ec "$0"'
)
_SHELL = ("/bin/sh", "-c", _CHOOSE)
#: Options that end a line at its first failure, for a shell that was chosen by its name alone.
_SHELL_OPTIONS = {
    **dict.fromkeys(("bash", "ksh", "zsh"), ("-eo", "pipefail")),
    **dict.fromkeys(("ash", "dash", "sh"), ("-e",)),
}
_OTHER_SHELLS = frozenset({"csh", "fish", "tcsh"})
#: Words that only a shell understands at the start of a command.
_SHELL_WORDS = frozenset(
    {".", ":", "!", "{", "case", "cd", "eval", "exec", "exit", "export", "for", "if", "set", "source",
     "trap", "ulimit", "umask", "unset", "until", "while"}
)  # fmt: skip
#: Outside quotes these are the shell's; `#` only at the start of a word, `~` there and in `a=~/x:~/y`.
_META = r"[|&;<>()$`*?\[\n]|(?:^|\s)#|(?:^|[\s=:])~"
_QUOTED = r"(?s)'[^']*'|\"(?:\\.|[^\"\\])*\"|\\."
_DOUBLE_QUOTED_META = r"(?<!\\)[$`]"
_ASSIGNMENT = r"[A-Za-z_][A-Za-z0-9_]*="
_PYTHON = r"python(?:3(?:\.\d+)?)?"
#: Interpreter options that take the next word as their value.
_PYTHON_VALUED = frozenset({"-X", "-W", "--check-hash-based-pycs"})
#: Programs that read commands from a terminal when they are given none.
_TYPED = frozenset({"bash", "dash", "fish", "ipython", "ksh", "sh", "tcsh", "zsh"})
#: Options that bring the command along, or want no other: `-ec TEXT`, `--version`, `-m MODULE`.
_GIVES_COMMAND = r"-[A-Za-z]*[cmVh]|--(?:version|help)"
_LAUNCHERS = frozenset({"torchrun", "accelerate", "deepspeed"})
_LAUNCHER_MODULES = ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch")


def needs_shell(line: str) -> bool:
    """Whether a command line uses the shell's syntax, so that splitting it into words would change it."""
    # A backslash before the end of a line joins two lines.
    if "\\\n" in line:
        return True
    line = line.strip()
    bare = re.sub(_QUOTED, lambda match: "x" * len(match[0]), line)
    if re.search(_META, bare):
        return True
    for quoted in re.findall(_QUOTED, line):
        if quoted.startswith('"') and re.search(_DOUBLE_QUOTED_META, quoted):
            return True
    first = bare.split(maxsplit=1)[0] if bare.strip() else ""
    return first in _SHELL_WORDS or re.match(_ASSIGNMENT, first) is not None


def script_for_shell(line: str, chosen: bool) -> str:
    """The Python script that a line for a shell begins with as if it were a program; empty if it doesn't.

    `chosen` says that the user chose the shell, which then gets any line.
    """
    match = re.match(r"\s*([\w.-]+\.py)(?=\s|$)", line)
    return match[1] if match and (chosen or needs_shell(line)) else ""


def split_shell(shell: str) -> tuple[str, ...]:
    """The words of a shell that was chosen, before its `-c`: with options of its own only those.

    Raises:
        ValueError: it names none.
    """
    try:
        words = tuple(shlex.split(shell))
    except ValueError as error:
        raise ValueError(f"{shell!r} is no shell: {str(error).lower()}") from error
    if not words or not words[0]:
        raise ValueError("names no shell; write for example bash, sh or /bin/zsh")
    return words if len(words) > 1 else (*words, *_SHELL_OPTIONS.get(PurePosixPath(words[0]).name, ()))


def split_run(run: CommandLine, shell: str | None = None) -> tuple[str, ...]:
    """The argv as written: words of a plain line, or those that have a shell run the text.

    Args:
        run: a list of words is for no shell.
        shell: chosen for every line, also a plain one; None for one of our choice, where one is needed.

    Raises:
        ValueError: nothing to run, no such shell, or a quote that isn't closed.
    """
    if isinstance(run, tuple):
        if not run or not run[0]:
            raise ValueError("there is nothing to run; write a command such as `python train.py`")
        return run
    if not run.strip():
        raise ValueError("there is nothing to run; write a command such as `python train.py`")
    if shell is not None:
        return (*split_shell(shell), "-c", run)
    if needs_shell(run):
        return (*_SHELL, run)
    try:
        words = tuple(shlex.split(run))
    except ValueError as error:
        raise ValueError(f"{run!r} is not a command line: {str(error).lower()}") from error
    return split_run(words)


def resolve_command(run: CommandLine, python_path: str | None, shell: str | None = None) -> tuple[str, ...]:
    """The argv to start.

    A script (`train.py …`) gets the interpreter before it, and `python` or `python3` becomes the
    interpreter. Without `python_path` (in an image, whose PATH decides) only scripts get one, `python3`.
    A shell line is left as it is: its PATH starts with the interpreter's folder.

    Raises:
        ValueError: as `split_run`.
    """
    argv = split_run(run, shell)
    if is_script(argv):
        return (python_path or "python3", *argv)
    if argv[0] in ("python", "python3") and python_path:
        return (python_path, *argv[1:])
    return argv


def is_script(argv: Sequence[str]) -> bool:
    """Whether this is a Python script and its arguments, without an interpreter."""
    return argv[0].endswith(".py")


def is_by_path(argv: Sequence[str]) -> bool:
    """Whether this names a program by its path, and none of Python's: no interpreter is looked for."""
    return bool(argv) and "/" in argv[0] and not is_script(argv) and not is_python(argv[0])


def needed_script(argv: Sequence[str]) -> str | None:
    """The file that must be there for this argv to start, as written (relative to the workdir), if any.

    Found: the script of a Python interpreter or of torchrun and its like, and a command named by a path.
    """
    program = PurePosixPath(argv[0]).name
    if tuple(argv[:-1]) == _SHELL:
        return None
    if program in _LAUNCHERS:
        return _first_script(argv[1:])
    if re.fullmatch(_PYTHON, program):
        return _python_script(argv[1:])
    return argv[0] if "/" in argv[0] else None


def subject(argv: Sequence[str]) -> str:
    """The word that says best what this argv does, to name the run after: script, module or program."""
    if tuple(argv[:-1]) == _SHELL:
        return "run"
    script = needed_script(argv)
    if script:
        return script
    if "-m" in argv[:-1] and re.fullmatch(_PYTHON, PurePosixPath(argv[0]).name):
        return argv[argv.index("-m") + 1].rpartition(".")[2]
    return argv[0]


def is_python(program: str) -> bool:
    """Whether this names a Python interpreter."""
    return re.fullmatch(_PYTHON, PurePosixPath(program).name) is not None


def posix_shell_of(argv: Sequence[str]) -> str | None:
    """A shell that an image with this command has, where the command is a shell or a script of one."""
    program = PurePosixPath(argv[0])
    if program.name in _SHELL_OPTIONS:
        return argv[0]
    return "/bin/sh" if program.name in _OTHER_SHELLS or program.suffix == ".sh" else None


def reads_standard_input(argv: Sequence[str]) -> bool:
    """Whether this starts a shell or an interpreter that has nothing to run but what somebody types."""
    program = PurePosixPath(argv[0]).name
    options = argv[1:]
    return (program in _TYPED or is_python(program)) and all(
        option.startswith("-") and not re.match(_GIVES_COMMAND, option) for option in options
    )


def display(run: CommandLine) -> str:
    """The command as its user would recognise it, on one line."""
    return " ".join(run.split()) if isinstance(run, str) else shlex.join(run)


def _python_script(arguments: Sequence[str]) -> str | None:
    words = iter(enumerate(arguments))
    for index, word in words:
        if word == "-m":
            launches = arguments[index + 1 : index + 2] and arguments[index + 1] in _LAUNCHER_MODULES
            return _first_script(arguments[index + 2 :]) if launches else None
        if word in ("-", "-c", "-V", "--version", "-h", "--help"):
            return None
        if word in _PYTHON_VALUED:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _first_script(arguments: Sequence[str]) -> str | None:
    return next((word for word in arguments if word.endswith(".py") and not word.startswith("-")), None)
