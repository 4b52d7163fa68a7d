"""What a failed run's output says of why it failed: each known cause once, with what would mend it (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gpuyard.advice import advice
from gpuyard.explain.causes import Cause
from gpuyard.explain.output.cuda import CUDA_LINES
from gpuyard.explain.output.kernels import KERNEL_LINES
from gpuyard.explain.output.python import PYTHON_LINES, RunPython, missing_module
from gpuyard.explain.output.shell import SHELL_LINES
from gpuyard.explain.output.system import SYSTEM_LINES

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MOST_CHARACTERS = 2_000


@dataclass(frozen=True)
class Diagnosis:
    """One cause that the output names.

    Attributes:
        key: the cause as one word, for machines.
        line: the line that says so.
        cause: what it means, in the user's terms.
        remedy: what would mend it.
    """

    key: Cause
    line: str
    cause: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """All fields."""
        return {"key": self.key, "line": self.line, "cause": self.cause, "remedy": self.remedy}


_LINES = (*CUDA_LINES, *KERNEL_LINES, *PYTHON_LINES, *SHELL_LINES, *SYSTEM_LINES)


def diagnose(
    lines: Iterable[str],
    *,
    python: RunPython = RunPython(),  # noqa: B008 - it can't change
    in_image: bool = False,
) -> list[Diagnosis]:
    """Each cause once, in the order in which the output names them first.

    Args:
        lines: of the output.
        python: what is known of the interpreter.
        in_image: the run is in an image, not a process of a host.
    """
    found: dict[Cause, Diagnosis] = {}
    texts = [_ANSI.sub("", raw)[:_MOST_CHARACTERS].strip() for raw in lines]
    for at, line in enumerate(texts):
        for known in _LINES:
            if match := known.pattern.search(line):
                if known.unless(texts, at):
                    break
                groups = {name: _readable(name, text or "") for name, text in match.groupdict().items()}
                remedy = known.in_image if in_image else known.remedy
                remedy = advice(remedy)
                if known.cause is Cause.MODULE_MISSING:
                    remedy = missing_module(groups["module"], python, remedy if in_image else "")
                meaning = known.meaning.format(**groups, python=python.name)
                found.setdefault(known.cause, Diagnosis(known.cause, line, meaning, remedy))
                break
    if Cause.SHARED_MEMORY_FULL in found:
        found.pop(Cause.BUS_ERROR, None)
    return list(found.values())


def _readable(name: str, text: str) -> str:
    """torch writes CUDA 12.4 as 12040."""
    if name == "found":
        major, minor = divmod(int(text), 1000)
        return f"{major}.{minor // 10}"
    return text.strip()
