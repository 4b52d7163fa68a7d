"""Where files may go on a base: not into folders of the system, nor where the image's user can't be."""

from __future__ import annotations

import re

from gpuyard import errors
from gpuyard.building.environment import HOME, PREFIX, UID
from gpuyard.images.contents.contents import ImageContents, Interpreter
from gpuyard.images.contents.folders import A_CIRCLE, Folders, parents

#: With all that is in them: programs, libraries, settings, and what a runtime mounts.
_WHOLE = re.compile(
    r"(?:(?:usr/(?:local/)?)?(?:s?bin|lib(?:\d+|x32|exec)?)|usr/include|etc|proc|sys|dev|run|boot"
    rf"|var/(?:run|lib/(?:apt|dpkg))|{PREFIX.strip('/')})(?:/.*)?"
)
#: Themselves: what lies in them may be anybody's.
_ITSELF = frozenset(
    {
        *("", "home", "opt", "root", "tmp", "usr", "var"),
        *("usr/local", "usr/local/share", "usr/share", "usr/src"),
        *("var/cache", "var/lib", "var/local", "var/log", "var/mail", "var/opt", "var/spool", "var/tmp"),
        PREFIX.strip("/").rpartition("/")[0],
    }
)


def is_system_folder(path: str) -> bool:
    """Whether a folder is the system's or gpuyard's own, so that it must not become a user's.

    Args:
        path: without a leading slash, normalised.
    """
    return path in _ITSELF or _WHOLE.fullmatch(path) is not None


def refuse_system_folder(path: str, called: str) -> None:
    """Raises UsageError for a folder that must not become a user's.

    Args:
        path: without a leading slash, links followed where they are known.
        called: what it is to be, with its name, such as `the workdir /etc`.
    """
    if is_system_folder(path):
        leads = "" if called.endswith(f" /{path}") else f"is /{path} in the base, which "
        raise errors.UsageError(
            f"{called} {leads}belongs to the system, and would become the user's",
            remedy="choose a folder of its own, such as /workspace or /srv/app",
        )


def python_of(contents: ImageContents, base: str) -> Interpreter:
    """The base's Python.

    Raises:
        BuildError: it has none, or something that starts one that isn't known before it runs.
    """
    if contents.python:
        return contents.python
    if contents.python_script:
        raise errors.BuildError(
            f"the Python on the PATH of {base} is a script, {contents.python_script}, and only running it "
            "would tell which interpreter it starts",
            remedy="put the interpreter's own folder first on the base's PATH, such as "
            "ENV PATH=/opt/pyenv/versions/3.12.7/bin:$PATH",
        )
    raise errors.BuildError(
        f"{base} has no Python 3 on its PATH",
        remedy="choose a base with Python: python:3.11-slim, pytorch/pytorch, or Debian with python3",
    )


def check_folders(contents: ImageContents, workdir: str, base: str) -> None:
    """Whether a base has room for an image's files, and its user reaches them.

    Args:
        contents: of the base.
        workdir: absolute path in the image.
        base: its name, for messages.

    Raises:
        UsageError: the workdir can't be one.
        BuildError: the base's Python, or gpuyard's own folders, can't be reached.
    """
    folders = contents.folders
    called = f"the workdir {workdir}"
    _refuse_obstacle(folders, workdir, called, base)
    place = folders.follow(workdir)
    refuse_system_folder(place, called)
    python = contents.python.path.strip("/") if contents.python else ""
    if python.startswith(f"{place}/"):
        raise errors.UsageError(
            f"{called} holds the base's Python, /{python}, and would become the user's",
            remedy="choose a folder of its own, such as /workspace or /srv/app",
        )
    if closed := _closed(folders, place):
        raise errors.UsageError(
            f"{called} is out of reach for user {UID}, whom the image runs as: in {base}, {closed}",
            remedy="choose a workdir elsewhere, such as /workspace",
        )
    if contents.python:
        _refuse_closed_program(contents.python, base)
    for path in (HOME, PREFIX):
        _refuse_obstacle(folders, path, f"gpuyard's own folder {path}", base)
    for path, what in (
        (python, "the Python of the base"),
        (HOME.strip("/"), HOME),
        (PREFIX.strip("/"), PREFIX),
    ):
        if closed := _closed(folders, folders.follow(path)):
            raise errors.BuildError(
                f"{what} is out of reach for user {UID}, whom the image runs as: in {base}, {closed}",
                remedy="choose another base, or make one of it in which everybody may enter that folder: "
                "for uv's Python set UV_PYTHON_INSTALL_DIR=/opt/python",
            )


def _refuse_closed_program(python: Interpreter, base: str) -> None:
    mode = python.mode
    if mode.mode & 0o111 and not mode.lets_in(UID):
        raise errors.BuildError(
            f"the Python of the base can't be run by user {UID}, whom the image runs as: in {base}, "
            f"{python.path} has mode {mode.mode:04o} and is user {mode.uid}'s",
            remedy=f"choose another base, or make one of it in which everybody may: chmod 755 {python.path}",
        )


def _refuse_obstacle(folders: Folders, path: str, called: str, base: str) -> None:
    if (found := folders.obstacle(path)) is None:
        return
    what = (
        "a link that leads in a circle"
        if folders.obstacles[found] == A_CIRCLE
        else "a file, or a link to one"
    )
    raise errors.UsageError(
        f"{called} can't be a folder: /{found} is {what} in {base}",
        remedy="choose another folder, such as /workspace, or remove that from the base",
    )


def _closed(folders: Folders, path: str) -> str:
    """The folder on the way to a path that keeps the user out, with its mode; empty without one."""
    for folder in parents(path):
        mode = folders.mode(folder)
        if not mode.lets_in(UID):
            return f"/{folder} has mode {mode.mode:04o} and is user {mode.uid}'s"
    return ""
