"""Names of runs and services: what they may be, and the one that each gets from its script."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from gpuyard.kube.names import is_label, random_suffix

if TYPE_CHECKING:
    import random

#: A pod's name is the run's plus an index and a random suffix, and must fit a 63-character host name.
MAX_LENGTH = 52
RULE = f"lower case letters, digits and '-', starting and ending with a letter or digit, at most {MAX_LENGTH}"

_SUFFIX_LENGTH = 5


def name_problem(name: str) -> str | None:
    """Why `name` can't name a run, with one that could; None when it can."""
    if is_label(name) and len(name) <= MAX_LENGTH:
        return None
    suggestion = _as_label(name, MAX_LENGTH)
    hint = f"; {suggestion!r} would do" if suggestion else ""
    return f"{name!r} can't name a run: {RULE}{hint}"


def generate_name(subject: str, rng: random.Random) -> str:
    """`train.py` → `train-x7k2q`; anything without a usable letter → `run-x7k2q`."""
    base = _as_label(_stem(subject), MAX_LENGTH - _SUFFIX_LENGTH - 1) or "run"
    return f"{base}-{random_suffix(rng, _SUFFIX_LENGTH)}"


def service_name(subject: str) -> str:
    """`serve.py` → `serve`: a service's name is in its address, and the next one of it is an update."""
    return _as_label(_stem(subject), MAX_LENGTH) or "service"


def _stem(subject: str) -> str:
    return PurePosixPath(subject).name.removesuffix(".py").removesuffix(".sh")


def _as_label(text: str, length: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].rstrip("-")
