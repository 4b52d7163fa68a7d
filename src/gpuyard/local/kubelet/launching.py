"""The launcher before the command of a host process, so that no run trains on the CPU unnoticed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence

from gpuyard import launcher
from gpuyard.kube.wellknown import ENV_GPUS, ENV_SIMULATED

_PYTHON = re.compile(r"python(3(\.\d+)?)?")


def through_launcher(argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command, with the launcher before it when the run asked for GPUs and has real ones.

    The launcher runs in the Python whose torch the command would import: the command's own interpreter, else
    the first python3 of the process's PATH. Where there is none, nothing is checked.
    """
    asked = environment.get(ENV_GPUS, "")
    if not asked.isdigit() or not int(asked) or ENV_SIMULATED in environment:
        return list(argv)
    if _PYTHON.fullmatch(os.path.basename(argv[0])):  # noqa: PTH119 - a word of a command line
        python: str | None = argv[0]
    else:
        python = shutil.which("python3", path=environment.get("PATH", os.defpath))
    return [python, launcher.__file__, *argv] if python else list(argv)
