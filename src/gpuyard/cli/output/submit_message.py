"""What `run` says once a run is submitted: what its user may take for granted and isn't so."""

from __future__ import annotations

import array
import fcntl
import os
import stat
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpuyard.gpus.resources import gpus_text
from gpuyard.workloads.command import needed_script, resolve_command, split_run
from gpuyard.workloads.resolved_run import ResolvedRun

#: A script imports torch before this.
_MAX_SCRIPT_BYTES = 1 << 20


def submitted_text(run: ResolvedRun, environ: Mapping[str, str], *, simulated: bool) -> str:
    """`Submitted train-x7k2q (2 GPUs, simulated)`, with the interpreter where it isn't obvious, with the
    script where it was taken along to an image, and with what becomes of a copy of the code.

    Args:
        run: that was submitted.
        environ: of the shell.
        simulated: whether the GPUs there are.
    """
    asked = run.spec.gpus
    gpus = gpus_text({asked.resource: asked.count}) if asked.count else "no GPUs"
    if run.spec.nodes > 1:
        least = f"{run.spec.least_nodes} to " if run.spec.least_nodes else ""
        gpus = f"{least}{run.spec.nodes} pods, each with {gpus}"
    if run.spec.sweep is not None:
        size = run.spec.sweep.size
        gpus = f"1 task with {gpus}" if size == 1 else f"{size} tasks, each with {gpus}"
    text = f"Submitted {run.name} ({gpus}{', simulated' if asked.count and simulated else ''})"
    text += f" with {run.script.path} from here" if run.script else _interpreter(run, environ)
    if run.host is not None and run.host.snapshot is not None:
        source = run.host.snapshot.source
        text += f". It runs in a copy of {source}; `gpuyard rm` removes that with all that it writes there"
    return text


def sweep_note(run: ResolvedRun) -> str:
    """Says which values of a sweep the command doesn't name; empty for nothing."""
    if run.spec.sweep is None:
        return ""
    from gpuyard.runs.submitting.sweep import unused_names

    unused = unused_names(run.spec)
    if not unused:
        return ""
    several = len(unused) > 1
    words = "their variables" if several else "its variable"
    braces = ", ".join(f"{{{name}}}" for name in unused)
    return f"Note: the command has no {braces}: tasks find {'them' if several else 'it'} in {words} alone"


def _interpreter(run: ResolvedRun, environ: Mapping[str, str]) -> str:
    """Names an interpreter that was found rather than named, unless it is the active environment's."""
    if run.host is None or run.spec.python:
        return ""
    chosen = resolve_command(run.spec.run, run.host.python, run.spec.shell)[0]
    if chosen == split_run(run.spec.run, run.spec.shell)[0]:
        return ""
    virtual_env = environ.get("VIRTUAL_ENV")
    return "" if virtual_env and Path(chosen).is_relative_to(virtual_env) else f" with {chosen}"


def torch_note(run: ResolvedRun) -> str:
    """What to do where a script that speaks of torch gets gpuyard's own interpreter; empty for nothing."""
    if run.host is None or run.spec.python:
        return ""
    argv = resolve_command(run.spec.run, run.host.python, run.spec.shell)
    if argv[0] == split_run(run.spec.run, run.spec.shell)[0] or not is_own_python(argv[0]):
        return ""
    from importlib.util import find_spec

    # Where gpuyard was installed beside PyTorch its environment is the user's.
    if find_spec("torch") or not _mentions_torch(argv, Path(run.host.workdir)):
        return ""
    return f"Note: {argv[0]} is gpuyard's own Python, which has no torch: --python names another"


def _mentions_torch(argv: Sequence[str], workdir: Path) -> bool:
    if any("torch" in word for word in argv[1:]):
        return True
    try:
        with (workdir / (needed_script(argv) or "")).open("rb") as file:
            return b"torch" in file.read(_MAX_SCRIPT_BYTES)
    except OSError:
        return False


def is_own_python(python: str) -> bool:
    """Whether this is the interpreter of the virtual environment that gpuyard itself runs from."""
    return sys.prefix != sys.base_prefix and Path(python).parent == Path(sys.prefix) / "bin"


def stdin_has_data(descriptor: int = 0) -> bool:
    """Whether somebody pipes something in, which a run never sees; an empty or closed input is none."""
    try:
        kind = os.fstat(descriptor)
        if stat.S_ISREG(kind.st_mode):
            return kind.st_size > os.lseek(descriptor, 0, os.SEEK_CUR)
        if not (stat.S_ISFIFO(kind.st_mode) or stat.S_ISSOCK(kind.st_mode)):
            return False
        waiting = array.array("i", [0])
        fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
    except OSError:
        return False
    return waiting[0] > 0
