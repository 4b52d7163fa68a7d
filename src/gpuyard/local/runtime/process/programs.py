"""Finding the program of a container, so that what is missing is named before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gpuyard import errors
from gpuyard.local.runtime.values import DEFAULT_PATH

_LONGEST_SHEBANG = 256


def find_program(name: str, env: Mapping[str, str], working_dir: Path) -> str:
    """The path that the kernel is to execute, as execvp(3) finds it.

    Raises:
        StartError: 127 when there is no such program, 126 when it can't be executed.
    """
    if not name:
        raise errors.StartError("the command is empty", code=127, remedy="name the program to run")
    if "/" in name:
        return _checked(working_dir / name)
    found: list[Path] = []
    search = env.get("PATH") or DEFAULT_PATH
    for folder in search.split(":"):
        candidate = working_dir / folder / name
        if _is_file(candidate):
            if os.access(candidate, os.X_OK):
                return _checked(candidate)
            found.append(candidate)
    if found:
        return _checked(found[0])
    raise errors.StartError(
        f"{name}: no such program on PATH",
        code=127,
        remedy="install it, or give its path",
    )


def _is_file(path: Path) -> bool:
    """False also where one may not look: execvp(3) goes on to the next folder, too."""
    try:
        return path.is_file()
    except OSError:
        return False


def _checked(path: Path) -> str:
    try:
        if path.is_dir():
            raise errors.StartError(f"{path} is a folder, not a program", code=126)
        if not path.exists():
            raise errors.StartError(f"{path}: no such program", code=127, remedy="give the path of one")
        if not os.access(path, os.X_OK):
            raise errors.StartError(
                f"{path} can't be executed: no permission", code=126, remedy=f"chmod +x {path}"
            )
    except OSError as error:
        raise errors.StartError(f"{path} can't be executed: {error.strerror}", code=126) from error
    _check_interpreter(path)
    return str(path)


def _check_interpreter(path: Path) -> None:
    try:
        with path.open("rb") as file:
            first = file.read(_LONGEST_SHEBANG)
    except OSError:  # executable without being readable
        return
    words = first.split(b"\n")[0].removeprefix(b"#!").split() if first.startswith(b"#!") else []
    if words and not Path(os.fsdecode(words[0])).exists():
        raise errors.StartError(
            f"{path} asks for the interpreter {os.fsdecode(words[0])}, which isn't there",
            code=127,
            remedy="mend its first line, or install the interpreter",
        )


def check_working_dir(text: str) -> Path:
    """The folder to start in.

    Raises:
        StartError: it isn't there, isn't a folder or may not be entered.
    """
    path = Path(text)
    try:
        if not path.is_absolute():
            raise errors.StartError(f"the working folder {text!r} isn't an absolute path")
        if not path.is_dir():
            what = "isn't a folder" if path.exists() else "isn't there"
            raise errors.StartError(f"the working folder {path} {what}", remedy="make it, or give another")
        if not os.access(path, os.X_OK):
            raise errors.StartError(
                f"the working folder {path} may not be entered", remedy=f"chmod u+x {path}"
            )
    except OSError as error:
        raise errors.StartError(f"the working folder {path} may not be entered: {error.strerror}") from error
    return path
