"""What `run` says once a run is submitted: what its user may take for granted and isn't so."""

from __future__ import annotations

import array
import fcntl
import importlib.util
import os
import stat
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

from gpuyard.kube.objects import Manifest
from gpuyard.workloads.carrying import Script
from gpuyard.workloads.command import split_run
from gpuyard.workloads.spec import RunSpec


def submitted_text(
    name: str,
    spec: RunSpec,
    job: Manifest,
    environ: Mapping[str, str],
    *,
    simulated: bool,
    script: Script | None = None,
) -> str:
    """`Submitted train-x7k2q (2 GPUs, simulated)`, with the interpreter where it isn't obvious, and with the
    script where it was taken along to an image.

    Args:
        name: of the run.
        spec: what was asked for.
        job: what was made of it.
        environ: of the shell.
        simulated: whether the GPUs there are.
        script: that was taken along.
    """
    count = spec.gpus.count
    gpus = f"{count} GPU{'s' if count > 1 else ''}" if count else "no GPUs"
    text = f"Submitted {name} ({gpus}{', simulated' if count and simulated else ''})"
    return text + (f" with {script.path} from here" if script else _interpreter(spec, job, environ))


def _interpreter(spec: RunSpec, job: Manifest, environ: Mapping[str, str]) -> str:
    """Names an interpreter that was found rather than named, unless it is the active environment's."""
    chosen = job["spec"]["template"]["spec"]["containers"][0]["command"][0]
    if spec.image or spec.python or chosen in (split_run(spec.run)[0], "/bin/sh"):
        return ""
    if is_own_python(chosen):
        # Where gpuyard was installed beside PyTorch its environment is the user's.
        if importlib.util.find_spec("torch"):
            return ""
        return f" with gpuyard's own {chosen}, which has no torch: --python names another"
    virtual_env = environ.get("VIRTUAL_ENV")
    return "" if virtual_env and Path(chosen).is_relative_to(virtual_env) else f" with {chosen}"


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
