"""The script that a run takes along to its image, and the launcher that starts it there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.runs.submitting.program import begins_with_python, quoted_line
from gpuyard.workloads.command import split_run

if TYPE_CHECKING:
    from gpuyard.workloads.resolved_run import Script
    from gpuyard.workloads.spec.run_spec import RunSpec

_BUILD = "put it into an image with `gpuyard build`"


def takes_files(spec: RunSpec, folder: Path) -> bool:
    """Whether files of this machine go with it to a cluster: those of an image to build, or its script."""
    path = split_run(spec.run, spec.shell)[0]
    return spec.build is not None or (path.endswith(".py") and (folder / path).exists())


def take_script(spec: RunSpec, folder: Path) -> Script | None:
    """The script that is the first word of a run in an image, where there is such a file here.

    None means the image's own file. Images that gpuyard builds for the run have its code already.

    Args:
        spec: what to run.
        folder: that the script's path starts from: the spec file's, or the current one.

    Raises:
        UsageError: it is there and can't travel, or it is a whole command line in quotes.
    """
    path = split_run(spec.run, spec.shell)[0]
    if not spec.image or not path.endswith(".py"):
        return None
    from gpuyard.workloads.launch import MAX_CONFIG_MAP_BYTES
    from gpuyard.workloads.resolved_run import Script

    room = MAX_CONFIG_MAP_BYTES - sum(len(text.encode()) for text in launcher_files().values())
    content = _read(folder / path, room + 1)
    # The image may have any file; one of such a name it hasn't.
    if content is None and begins_with_python(path) and (error := quoted_line(spec.run)):
        raise error
    return Script(path, _text(folder / path, content, room)) if content is not None else None


def _read(file: Path, most_bytes: int) -> bytes | None:
    """Its first bytes; None where there is no such file."""
    try:
        if not file.is_symlink() and not file.exists():
            return None
        if not file.is_file():
            raise errors.UsageError(f"{file} isn't a file", remedy=f"name a script; a whole folder: {_BUILD}")
        with file.open("rb") as stream:
            return stream.read(most_bytes)
    except OSError as error:
        raise errors.UsageError(
            f"can't read {file}: {error.strerror}",
            remedy=f"name a script that you may read, or {_BUILD}, which has its own",
        ) from error


def _text(file: Path, content: bytes, room: int) -> str:
    if len(content) > room:
        raise errors.UsageError(
            f"{file} has {file.stat().st_size} bytes; a script that travels with its run has {room} at most, "
            "since a ConfigMap holds 1 MiB",
            remedy=_BUILD,
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise errors.UsageError(
            f"{file} isn't text in UTF-8 (byte {error.start}), and only such a script travels with its run",
            remedy=_BUILD,
        ) from error
    if "\0" in text:
        raise errors.UsageError(f"{file} isn't a script: it has a byte 0 in it", remedy=_BUILD)
    return text


def launcher_files() -> dict[str, str]:
    """The launcher and what it reads in some runs, as they are installed here: name and text."""
    return {file.name: file.read_text() for file in sorted(Path(__file__).parents[2].glob("launcher*.py"))}
